"""Pre-training: the objective, sides that share nothing, runs that go on after a kill, baselines."""

from __future__ import annotations

import gzip
import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from featurestore.cli import cli
from featurestore.errors import InputError
from featurestore.pretrain.corpus import Corpus, Source
from featurestore.pretrain.markov import Neighbours, contexts
from featurestore.pretrain.settings import PRESETS, Settings, preset
from featurestore.pretrain.sources import read_corpus
from featurestore.pretrain.split import WORD, split_corpus
from featurestore.pretrain.windows import draw, generator, tile
from featurestore.sequence.iupac import N, decode, encode

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from featurestore.embedders.plantcaduceus import PlantCaduceusForMaskedLM  # noqa: E402
from featurestore.pretrain import evaluate, state, train  # noqa: E402
from featurestore.pretrain.masking import IGNORED, mask  # noqa: E402
from featurestore.pretrain.optimiser import rate  # noqa: E402
from featurestore.pretrain.train import Limits, Trainer, new_model  # noqa: E402

TINY = Settings(d_model=16, n_layer=2, d_state=4, window=64, batch=4, average=0.9, held_out=0.2)
PARTNER = str.maketrans("ACGT", "TGCA")


@pytest.fixture(autouse=True)
def _one_thread():
    """Tiny tensors gain nothing from threads, which only wait for each other on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def corpus_of(sequences, groups=None) -> Corpus:
    codes = [encode(s) if isinstance(s, str) else s for s in sequences]
    length = np.array([len(c) for c in codes])
    return Corpus(
        np.concatenate(codes), np.cumsum(length) - length, length,
        list(groups or [f"line {i}" for i in range(len(codes))]),
        np.zeros(len(codes), np.int64), (Source("simulated", "lines", {}),),
    )  # fmt: skip


def random_corpus(count=40, length=200, seed=0) -> Corpus:
    rng = np.random.default_rng(seed)
    return corpus_of(rng.integers(0, 4, (count, length)).astype(np.uint8))


def reverse_complement(text: str) -> str:
    return text.translate(PARTNER)[::-1]


# ── the objective ────────────────────────────────────────────────────────────────────────────


def test_a_share_of_15_percent_is_selected_of_which_80_10_10_and_never_an_unknown_base():
    rng = np.random.default_rng(1)
    code = rng.integers(0, 15, (400, 500)).astype(np.uint8)  # all fifteen IUPAC codes
    made = mask(code, generator(3))
    known, chosen = code < N, made.labels != IGNORED
    token = np.array([3, 4, 5, 6] + [2] * 11)[code]  # by the published vocabulary
    assert not chosen[~known].any()
    assert (made.input_ids[~chosen] == token[~chosen]).all()
    assert (made.labels[chosen] == token[chosen]).all()
    assert chosen[known].mean() == pytest.approx(0.15, abs=0.006)
    seen, own = made.input_ids[chosen], token[chosen]
    assert (seen == 1).mean() == pytest.approx(0.8, abs=0.02)
    # One random base in four is the base itself: 2.5 % of 10 %.
    assert (seen == own).mean() == pytest.approx(0.125, abs=0.02)
    assert ((seen != own) & (seen != 1)).mean() == pytest.approx(0.075, abs=0.02)
    assert set(np.unique(seen)) == {1, 3, 4, 5, 6}


def test_a_batch_with_a_known_base_always_has_one_to_predict():
    code = np.full((1, 8), N, np.uint8)
    code[0, 3] = 2
    for step in range(30):
        labels = mask(code, generator(step)).labels
        assert labels[0, 3] == 5
        assert (np.delete(labels[0], 3) == IGNORED).all()
    assert (mask(np.full((1, 8), N, np.uint8), generator(0)).labels == IGNORED).all()


def test_the_loss_is_that_of_selected_bases_alone_weighted_where_repeats_count_less():
    code = np.random.default_rng(2).integers(0, 5, (3, 64)).astype(np.uint8)
    made = mask(code, generator(5))
    model = new_model(TINY).eval()
    ids, labels = torch.from_numpy(made.input_ids), torch.from_numpy(made.labels)
    weights = np.where(np.arange(64) < 32, 0.1, 1.0) * np.ones((3, 1))
    with torch.no_grad():
        out = model(ids, labels=labels)
        weighted = model(ids, labels=labels, loss_weights=torch.from_numpy(weights)).loss
    logits = out.logits.double().numpy()
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    row, column = np.nonzero(made.labels != IGNORED)
    own = -log_p[row, column, made.labels[row, column]]
    assert float(out.loss) == pytest.approx(own.mean(), rel=1e-5)
    w = weights[row, column]
    assert float(weighted) == pytest.approx((own * w).sum() / w.sum(), rel=1e-5)


def test_both_strands_give_one_loss_and_one_gradient():
    """Why strands are not drawn: equivariance, in training mode, down to the gradient."""
    code = np.random.default_rng(3).integers(0, 4, (2, 64)).astype(np.uint8)
    made = mask(code, generator(7))
    partner = np.array([0, 1, 2, 6, 5, 4, 3, 7])
    flipped = np.where(made.labels == IGNORED, IGNORED, partner[made.labels.clip(0)])[:, ::-1]
    found = []
    for ids, labels in ((made.input_ids, made.labels), (partner[made.input_ids][:, ::-1], flipped)):
        model = new_model(TINY).train()
        loss = model(torch.from_numpy(ids.copy()), labels=torch.from_numpy(labels.copy())).loss
        loss.backward()
        found.append([float(loss.detach()), *(p.grad for p in model.parameters())])
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for one, other in zip(found[0][1:], found[1][1:], strict=True):
        assert torch.allclose(one, other, atol=1e-5, rtol=1e-3)


# ── where sequence comes from, and the two sides ─────────────────────────────────────────────


@pytest.fixture
def data_set(tmp_path) -> Path:
    """Twelve contigs with a gene each in six families; the contigs of a family share a stretch."""
    rng = np.random.default_rng(4)
    fasta, gff, families = [], ["##gff-version 3"], ["gene\tfamily"]
    shared = ["".join(rng.choice(list("ACGT"), 60)) for _ in range(2)]
    for i in range(12):
        sequence = list("".join(rng.choice(list("ACGT"), 900)))
        stretch = shared[i % 2] if i % 3 else reverse_complement(shared[i % 2])
        sequence[100:160] = stretch
        fasta.append(f">c{i}\n{''.join(sequence)}")
        line = f"c{i}\tsim\t{{}}\t301\t600\t.\t{'+-'[i % 2]}\t{{}}\t{{}}"
        gff += [
            line.format("gene", ".", f"ID=g{i}"), line.format("mRNA", ".", f"ID=t{i};Parent=g{i}"),
            line.format("CDS", "0", f"ID=p{i};Parent=t{i}"),
        ]  # fmt: skip
        families.append(f"g{i}\tF{i // 2}")
    (tmp_path / "genome.fa").write_text("\n".join(fasta) + "\n")
    (tmp_path / "genes.gff3").write_text("\n".join(gff) + "\n")
    (tmp_path / "families.tsv").write_text("\n".join(families) + "\n")
    (tmp_path / "dataset.toml").write_text(
        '[regions]\npromoter = { anchor = "tss", upstream = 250, downstream = 50 }\nbin = 50\n'
        '[species.simulated]\ngenome = "genome.fa"\nannotation = "genes.gff3"\nfamilies = "families.tsv"\n'
    )
    return tmp_path


def words_of(corpus: Corpus) -> set[str]:
    """Every word without N on both strands, by plain text."""
    found: set[str] = set()
    for i in range(len(corpus.start)):
        text = decode(corpus.record(i))
        for at in range(len(text) - WORD + 1):
            word = text[at : at + WORD]
            if "N" not in word:
                found |= {word, reverse_complement(word)}
    return found


@pytest.mark.parametrize("whole_contigs", [False, True])
def test_sides_share_no_family_and_no_word_on_either_strand(data_set, whole_contigs):
    corpus = read_corpus([data_set], whole_contigs=whole_contigs)
    assert corpus.group == [f"family F{i // 2}" for i in range(12)]
    split = split_corpus(corpus, held_out=0.3, seed=1)
    assert split.train.group
    assert split.held_out.group
    assert not set(split.train.group) & set(split.held_out.group)
    assert words_of(corpus.take(np.arange(12) % 2 == 0)) & words_of(corpus.take(np.arange(12) % 2 == 1)) == set()  # fmt: skip
    assert not words_of(split.train) & words_of(split.held_out)
    if whole_contigs:  # the planted stretches, and nothing else, had to go
        odd = {g: i % 2 for i, g in enumerate(corpus.group)}
        assert split.facts["blanked_bases"] >= 60 * len(split.train.start) // 2
        assert split.facts["blanked_bases"] <= 62 * len(split.train.start) + len(odd)


def test_excluded_families_stand_on_neither_side(data_set):
    corpus = read_corpus([data_set], whole_contigs=True)
    split = split_corpus(corpus, held_out=0.2, seed=0, exclude=["F1", "F2"])
    away = {"family F1", "family F2"}
    assert not away & (set(split.train.group) | set(split.held_out.group))
    kept = corpus.take(np.array([g in away for g in corpus.group]))
    assert not words_of(split.train) & words_of(kept)
    assert split.facts["excluded_families"] == 2


def test_a_family_stands_on_one_side_in_every_source(data_set):
    one = read_corpus([data_set])
    two = read_corpus([data_set, data_set / "genome.fa"])
    first, second = (split_corpus(c, held_out=0.3, seed=5) for c in (one, two))
    of_families = {g for g in second.held_out.group if g.startswith("family")}
    assert of_families == set(first.held_out.group)
    assert not set(second.train.group) & set(second.held_out.group)


def test_regions_are_those_the_store_would_hold(data_set):
    corpus = read_corpus([data_set])
    contigs = (data_set / "genome.fa").read_text().split()[1::2]
    for i in range(12):
        text = contigs[i]  # gene on bases 301 … 600, 1-based
        want = text[50:350] if i % 2 == 0 else reverse_complement(text[550:850])
        assert decode(corpus.record(i)) == want


def test_lines_and_fasta_are_read_and_what_is_neither_is_told(tmp_path):
    with gzip.open(tmp_path / "lines.txt.gz", "wt") as file:
        file.write("ACGT\n\nNNRY\n")
    corpus = read_corpus([tmp_path / "lines.txt.gz"])
    assert [decode(corpus.record(i)) for i in range(2)] == ["ACGT", "NNRY"]
    assert corpus.group == ["line lines.txt.gz 1", "line lines.txt.gz 3"]
    (tmp_path / "masked.fa").write_text(">a\nACgt\nac\n>b \ntTTT\n")
    masked = read_corpus([tmp_path / "masked.fa"], keep_repeats=True)
    assert decode(masked.code) == "ACGTACTTTT"
    assert masked.repeat.tolist() == [c in "acgt" for c in "ACgtactTTT"]
    (tmp_path / "table.tsv").write_text("gene\tsequence\ng1\tACGT\n")
    with pytest.raises(InputError, match=r"table.tsv, line 1: .*neither a FASTA header nor bases"):
        read_corpus([tmp_path / "table.tsv"])
    with pytest.raises(InputError, match="too few to hold any out"):
        split_corpus(corpus_of(["ACGT" * 20]), held_out=0.1, seed=0)


# ── windows ──────────────────────────────────────────────────────────────────────────────────


def test_windows_are_stretches_of_their_record_and_every_base_is_drawn_as_often():
    rng = np.random.default_rng(5)
    texts = ["".join(rng.choice(list("ACGT"), n)) for n in (30, 400, 1200)] + ["N" * 500]
    corpus = corpus_of(texts)
    made = draw(corpus, generator(0, 1), 4000, 64)
    assert (made.code < N).any(1).all()
    of = np.zeros(4)
    for code in made.code[:500]:
        text = decode(code)
        inside = [i for i, t in enumerate(texts) if text.strip("N") in t]
        assert inside
        of[inside[0]] += 1
        if len(text.strip("N")) < 64:
            assert text.strip("N") == texts[0]  # short records stand whole, nothing else is padded
    assert of / of.sum() == pytest.approx([30 / 1630, 400 / 1630, 1200 / 1630, 0], abs=0.06)
    again = draw(corpus, generator(0, 1), 4000, 64)
    assert (made.code == again.code).all()
    assert not (made.code == draw(corpus, generator(0, 2), 4000, 64).code).all()


def test_tiles_cover_each_record_once():
    corpus = corpus_of(["ACGTA" * 30, "CCC", "GATTACA" * 10])
    windows, rows = tile(corpus, 64)
    for i, text in enumerate(("ACGTA" * 30, "CCC", "GATTACA" * 10)):
        joined = decode(windows.code[rows == i].ravel())
        assert joined.rstrip("N") == text
        assert len(joined) - len(text) < 64


# ── training ─────────────────────────────────────────────────────────────────────────────────


def weights_of(folder: Path) -> dict:
    return dict(PlantCaduceusForMaskedLM.from_pretrained(folder).named_parameters())


def test_a_run_that_is_killed_and_goes_on_gives_the_weights_of_one_never_killed(tmp_path):
    corpus, limits = random_corpus(), Limits(steps=8, check_steps=3, save_seconds=0)
    whole = Trainer(corpus, TINY, tmp_path / "whole")
    whole.train(limits)

    class KilledError(Exception):
        pass

    def kill_at(step):
        def tell(progress):
            if progress.step == step:
                raise KilledError

        return tell

    for step in (2, 5):  # the step that was under way is lost, and repeated
        with pytest.raises(KilledError):
            Trainer(corpus, TINY, tmp_path / "killed").train(limits, kill_at(step))
    again = Trainer(corpus, TINY, tmp_path / "killed")
    assert again.run.step == 4
    again.train(limits)
    one, other = weights_of(tmp_path / "whole"), weights_of(tmp_path / "killed")
    assert all(torch.equal(one[k], other[k]) for k in one)
    assert not torch.equal(*(dict(m.named_parameters())["caduceus.backbone.norm_f.weight"] for m in (whole.model, new_model(TINY))))  # fmt: skip
    without_clock = [[(*row[:2], *row[3:]) for row in t.run.curve] for t in (whole, again)]
    assert without_clock[0] == without_clock[1]
    assert [row[0] for row in whole.run.curve] == [3, 6, 8]


def test_a_kill_while_the_state_is_written_leaves_the_state_before(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "no space")

    state.save(tmp_path, {"a": torch.ones(3)}, {"step": 1})
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        state.save(tmp_path, {"a": torch.zeros(3)}, {"step": 2})
    tensors, facts = state.load(tmp_path)
    assert tensors["a"].tolist() == [1, 1, 1]
    assert facts == {"step": 1}
    (tmp_path / state.FILE).write_bytes(b"\0" * 20)
    with pytest.raises(InputError, match="remove it to start anew"):
        state.load(tmp_path)


def test_a_folder_of_another_run_is_left_alone(tmp_path):
    corpus = random_corpus(10)
    Trainer(corpus, TINY, tmp_path / "run").train(Limits(steps=1))
    with pytest.raises(InputError, match="batch = 4, not 5"):
        Trainer(corpus, replace(TINY, batch=5), tmp_path / "run")
    with pytest.raises(InputError, match="on other sequence"):
        Trainer(random_corpus(11), TINY, tmp_path / "run")
    (tmp_path / "run" / state.FILE).unlink()
    with pytest.raises(InputError, match="holds a model already"):
        Trainer(corpus, TINY, tmp_path / "run")


def test_planted_periodic_sequence_is_learned_far_below_the_baseline(tmp_path):
    """Every second base is fixed (A C G T in turn), the others are random: the best is 4^½ = 2."""
    rng = np.random.default_rng(6)
    codes = rng.integers(0, 4, (120, 256)).astype(np.uint8)
    codes[:, ::2] = np.arange(128) % 4
    settings = Settings(
        d_model=32, n_layer=2, d_state=4, window=64, batch=16, average=0.9, held_out=0.2,
        learning_rate=1e-2,
    )  # fmt: skip
    trainer = Trainer(corpus_of(codes), settings, tmp_path)
    trainer.train(Limits(steps=180, check_steps=180))
    model = PlantCaduceusForMaskedLM.from_pretrained(tmp_path)
    found = evaluate.evaluate(model, trainer.split, window=64, seed=0, rates={"few": 0.05})["few"]
    value = found["perplexity"]
    assert value["base composition"] == pytest.approx(4, abs=0.02)
    assert 1.95 < value["model"] < 2.4
    assert found["lead"]["base composition"]["nats"] > 0.5
    assert trainer.run.curve[-1][-1] < 1.0  # nats; chance is 1.386


def test_the_rate_rises_falls_and_ends_low():
    settings = Settings(learning_rate=1.0, warm_up=0.1, final_rate=0.05)
    assert rate(0.0, settings) == 0
    assert rate(0.05, settings) == pytest.approx(0.5)
    assert rate(0.1, settings) == pytest.approx(1)
    assert rate(0.55, settings) == pytest.approx(0.05 + 0.95 / 2)
    assert rate(1.0, settings) == pytest.approx(0.05)


# ── baselines and evaluation ─────────────────────────────────────────────────────────────────


def markov_chain(length: int, seed: int) -> tuple[np.ndarray, float]:
    """A chain of order two and its entropy rate in nats, from its stationary distribution."""
    rng = np.random.default_rng(seed)
    table = rng.dirichlet(np.full(4, 0.6), size=(4, 4))
    steps = np.zeros((16, 16))
    for a in range(4):
        for b in range(4):
            steps[a * 4 + b, b * 4 : b * 4 + 4] = table[a, b]
    stationary = np.full(16, 1 / 16)
    for _ in range(500):
        stationary = stationary @ steps
    entropy = -(stationary[:, None] * (table * np.log(table)).reshape(16, 4)).sum()
    draws, codes = rng.random(length), [0, 1]
    cumulative = table.cumsum(-1)
    for u in draws[2:]:
        codes.append(min(int(np.searchsorted(cumulative[codes[-2], codes[-1]], u)), 3))
    return np.array(codes, np.uint8), float(entropy)


def perplexity(model: Neighbours, code: np.ndarray) -> float:
    _, known = contexts(code, model.left, model.right)
    return float(np.exp(-model.log_probability(code, known).mean()))


def test_markov_baselines_reach_the_entropy_of_a_known_chain():
    code, entropy = markov_chain(240_000, seed=7)
    train_side, held = corpus_of([code[:200_000]]), code[200_000:]
    for order in (2, 5):
        fitted = Neighbours.fit(train_side, order, 0, both_strands=False)
        assert perplexity(fitted, held) == pytest.approx(np.exp(entropy), rel=0.02)
    assert perplexity(Neighbours.fit(train_side, 1, 0, both_strands=False), held) > 1.03 * np.exp(entropy)  # fmt: skip
    assert perplexity(Neighbours.fit(train_side, 2, 2, both_strands=False), held) < np.exp(entropy)


def test_counts_are_those_made_by_hand_on_one_strand_and_on_both():
    corpus = corpus_of(["AACA", "ANCA"])
    one = Neighbours.fit(corpus, 1, 0, both_strands=False).counts
    # after A: A, C (and nothing over the N); after C: A, A
    assert one.tolist() == [[1, 1, 0, 0], [2, 0, 0, 0], [0] * 4, [0] * 4]
    both = Neighbours.fit(corpus, 1, 0, both_strands=True).counts
    # reverse complements TGTT, TGNT: after G: T; after T: G, T, G
    assert both.tolist() == [[1, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 1], [0, 0, 2, 1]]
    around = Neighbours.fit(corpus, 1, 1, both_strands=False).counts
    assert around[0 * 4 + 1].tolist() == [1, 0, 0, 0]  # A·C holds A
    assert around[0 * 4 + 0].tolist() == [0, 1, 0, 0]  # A·A holds C
    assert around.sum() == 2
    p = Neighbours(1, 0, one).log_probability(encode("AC"), np.array([False, True]))
    assert np.exp(p) == pytest.approx([(1 + 1) / (2 + 4)])


def test_a_model_that_knows_nothing_has_perplexity_four_and_no_lead_on_uniform():
    corpus = random_corpus()
    split = split_corpus(corpus, held_out=0.2, seed=0)
    model = new_model(TINY).eval()
    with torch.no_grad():
        model.backbone.word_embeddings.weight.zero_()
    found = evaluate.evaluate(model, split, window=64, seed=0)
    for facts in found.values():
        assert facts["perplexity"]["model"] == pytest.approx(4)
        assert facts["perplexity"]["uniform"] == pytest.approx(4)
        assert facts["lead"]["uniform"]["nats"] == pytest.approx(0, abs=1e-6)
    assert found["few"]["bases"] < found["training"]["bases"]


def test_hidden_bases_do_not_reach_the_model_and_neighbours_are_known():
    corpus = corpus_of(["ACGTN" * 3 + "ACGGT" * 40])
    given = evaluate.positions(corpus, 64, 0.15, 100, 0)
    row, column = np.nonzero(given.at)
    for r, c in zip(row, column, strict=True):
        assert (given.code[r, c - 5 : c + 6] < N).all()
        assert len(given.code[r, c - 5 : c + 6]) == 11
    model = new_model(TINY).eval()
    before = evaluate.model_log_probability(model, given)
    changed = given.code.copy()
    changed[given.at] = (changed[given.at] + 1) % 4
    after = evaluate.model_log_probability(model, replace(given, code=changed))
    tokens = np.array([3, 4, 5, 6, 2])[given.code]
    with torch.no_grad():
        logits = model(torch.from_numpy(np.where(given.at, 1, tokens))).logits.double()
    p = logits[..., 3:7].softmax(-1).numpy()[given.at]
    assert np.exp(before) == pytest.approx(p[np.arange(len(p)), given.code[given.at]], rel=1e-5)
    assert np.exp(after) == pytest.approx(p[np.arange(len(p)), changed[given.at]], rel=1e-5)


# ── the command ──────────────────────────────────────────────────────────────────────────────


def test_the_command_leaves_a_checkpoint_with_its_card_and_evaluates_again(data_set, tmp_path):
    out = data_set / "model"
    shape = [
        "--d-model",
        "16",
        "--layers",
        "2",
        "--window",
        "64",
        "--batch",
        "2",
        "--held-out",
        "0.3",
    ]
    data = [str(data_set), "--whole-contigs"]
    args = ["pretrain", *data, "--out", str(out), "--preset", "tiny", *shape, "--steps", "3"]
    first = CliRunner().invoke(cli, args)
    assert first.exit_code == 0, first.output
    assert "step 3" in first.stderr
    model = PlantCaduceusForMaskedLM.from_pretrained(out)
    assert model.config.d_model == 16
    text = (out / "README.md").read_text()
    assert "families" not in text.split("## Limits")[1]
    assert all(part in text for part in ("5 bases before and 5 after", "| simulated |", "3 steps"))
    kept = json.loads((out / "evaluation.json").read_text())
    again = CliRunner().invoke(cli, ["pretrain", *data, "--evaluate", str(out), "--json"])
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout) == kept
    assert (out / "curve.tsv").read_text().split("\n")[0].split("\t")[0] == "step"
    other = CliRunner().invoke(
        cli, ["pretrain", str(data_set / "genome.fa"), "--evaluate", str(out)]
    )
    assert other.exit_code == 2
    assert "other sequence" in other.stderr


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--preset", "nan", "--out", "o", "--steps", "1"], "Did you mean 'nano'"),
        (["--out", "o"], "--minutes"),
        ([], "--out DIR to train"),
        (["--out", "o", "--steps", "1", "--d-model", "16", "--learning-rate", "-1"], "above 0"),
    ],
)  # fmt: skip
def test_mistakes_end_in_a_message(data_set, args, told):
    result = CliRunner().invoke(cli, ["pretrain", str(data_set), *args])
    assert result.exit_code == 2
    assert told in result.stderr


def test_presets_are_settings_and_say_what_they_are():
    assert set(PRESETS) == {"tiny", "nano", "l20"}
    assert Settings.from_dict(json.loads(json.dumps(PRESETS["nano"].as_dict()))) == PRESETS["nano"]
    assert preset("tiny", batch=3, seed=None).batch == 3
    assert train.CURVE[0] == "step"


def test_words_are_numbered_as_by_hand():
    from featurestore.pretrain.split import words

    rng = np.random.default_rng(8)
    text = "".join(rng.choice(list("ACGT"), 70)) + "N" + "".join(rng.choice(list("ACGT"), 30))
    number = {c: str(i) for i, c in enumerate("ACGT")}
    want = []
    for at in range(len(text) - WORD + 1):
        word = text[at : at + WORD]
        pair = [word, reverse_complement(word)]
        want.append(-1 if "N" in word else min(int("".join(number[c] for c in w), 4) for w in pair))
    assert words(encode(text)).tolist() == want
    assert words(encode("ACGT")).tolist() == []
