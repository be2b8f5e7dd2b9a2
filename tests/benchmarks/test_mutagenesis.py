"""Saturation mutagenesis against the known grammar, against whole recomputation, against the genome."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO
from typing import ClassVar

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import featurestore
from benchmarks.cli import bench
from benchmarks.mutagenesis import zero_shot
from benchmarks.mutagenesis.api import Scorers, saturate_genes
from benchmarks.mutagenesis.changes import Span, parse_span, single_base_changes
from benchmarks.mutagenesis.features import GeneEmbedding, code_overlay, touched_bases
from benchmarks.mutagenesis.genes import Asked, jobs
from benchmarks.mutagenesis.windows import gene_windows, laid_down, sequence_data
from benchmarks.predict.trained import TrainedRun
from benchmarks.report.html import render_report
from benchmarks.runs.files import read_run
from benchmarks.runs.progress import Progress
from featurestore.build.shards.compute import embed_range
from featurestore.embedders.base import EmbedderSpec
from featurestore.embedders.kmer import Kmer
from featurestore.errors import InputError, UnknownNameError
from featurestore.inputs.model import Region
from featurestore.sample.grammar import Grammar
from featurestore.score.api import score_variants
from featurestore.sequence.iupac import COMPLEMENT, LETTERS, N, decode, encode
from tests.builders.species import random_species

REGIONS = (Region("promoter", "tss", 120, 60), Region("terminator", "tts", 50, 75))
BIN = 50


def quiet() -> Progress:
    return Progress(0, StringIO())


class Hashing:
    """A deterministic vector of the bases of a window; counts the windows that it is given."""

    def __init__(self, input_bp: int | None, context: str = "bin", positions: int = 0) -> None:
        self.spec = EmbedderSpec(
            "hashing", {"embedding": 3, "scalar": 0}, input_bp, context=context, batch=64, costly=False,
            positions=positions,
        )  # fmt: skip
        self.seen: list[bytes] = []

    def load(self, device):
        pass

    def embed(self, codes):
        self.seen += [row.tobytes() for row in codes]
        weight = np.cos(np.arange(codes.shape[1])[:, None] * np.array([0.7, 1.3, 2.9]))
        vector = np.where(codes < N, codes + 1.0, 0.0) @ weight
        scalar = (codes == 2).mean(axis=1)
        if self.spec.positions:
            shift = np.arange(self.spec.positions)
            return {
                "embedding": vector[:, None] + shift[None, :, None],
                "scalar": scalar[:, None] + shift,
            }
        return {"embedding": vector, "scalar": scalar}


EMBEDDERS = {
    "kmer": lambda: Kmer((1, 2, 3)),
    "wide window": lambda: Hashing(130),
    "one vector a region": lambda: Hashing(80, "region"),
    "positions apart": lambda: Hashing(70, positions=4),
}


@pytest.fixture(scope="module")
def plant():
    """Short genes, so that promoter and terminator cover the same bases; both strands."""
    one = random_species("plant", genes=10, contigs=2, contig_bp=4000, regions=REGIONS, seed=3)
    tts = one.tss + np.where(one.strand > 0, 90, -90)
    return replace(one, tts=tts)


def mutated(one, gene: int, position: int, base: int):
    """The species with one base of the forward strand of the gene's contig changed."""
    genome = one.genome
    code = genome.code.copy()
    at = int(genome.contig_start[genome.contig_id.index(one.contig[gene])]) + position
    code[at] = base
    return replace(one, genome=replace(genome, code=code)), int(genome.code[at])


@pytest.mark.parametrize("kind", EMBEDDERS, ids=str)
def test_bins_put_in_are_those_of_the_mutated_genome(plant, kind):
    """The oracle changes the base in the genome and embeds the whole gene anew."""
    rng = np.random.default_rng(1)
    with laid_down(plant, BIN) as source:
        for gene in range(0, 10, 3):
            made = GeneEmbedding(EMBEDDERS[kind](), source, gene)
            codes = source.region_codes(gene, gene + 1)[0][0]
            changes = single_base_changes(
                codes, source.region_length[gene], [(0, 0, 180), (1, 0, 125)]
            )
            overlay = made.overlay(changes)
            assert made.usable
            assert not overlay.failed.any()
            for one in rng.choice(len(changes), 12, replace=False).tolist():
                region, p = int(changes.region[one]), int(changes.position[one])
                anchor = int((plant.tss, plant.tts)[region][gene])
                forward = plant.strand[gene] > 0
                along = p - REGIONS[region].upstream
                position = anchor + along if forward else anchor - 1 - along
                base = int(changes.alt[one]) if forward else int(COMPLEMENT[changes.alt[one]])
                other, before = mutated(plant, gene, position, base)
                assert before == (changes.ref[one] if forward else COMPLEMENT[changes.ref[one]])
                with laid_down(other, BIN) as anew:
                    wanted = embed_range(EMBEDDERS[kind](), anew, gene, gene + 1).outputs
                rows = np.flatnonzero(overlay.change == one)
                for name, values in wanted.items():
                    found = overlay.base[name].copy()
                    found[overlay.region[rows], overlay.bin[rows]] = overlay.values[name][rows]
                    np.testing.assert_allclose(
                        found, values[0], atol=2e-3 if kind == "one vector a region" else 0
                    )


def test_only_touched_bins_are_computed_and_equal_inputs_once(plant):
    embedder = Hashing(130)
    with laid_down(plant, BIN) as source:
        made = GeneEmbedding(embedder, source, 0)
        of_gene = len(embedder.seen)
        codes = source.region_codes(0, 1)[0][0]
        changes = single_base_changes(codes, source.region_length[0], [(0, 89, 90)])
        embedder.seen.clear()
        overlay = made.overlay(changes)
    assert len(changes) == 3
    assert of_gene <= 4 + 3
    # Base 89 of the promoter lies in its bin 1 and, 40 bp of context aside, in bins 0 and 2.
    own = overlay.bin[(overlay.change == 0) & (overlay.region == 0)]
    assert own.tolist() == [0, 1, 2]
    assert len(embedder.seen) == len(set(embedder.seen)) == len(overlay.change)
    twice = replace(changes, **{
        name: np.tile(getattr(changes, name), 2) for name in ("region", "position", "ref", "alt")
    })  # fmt: skip
    embedder.seen.clear()
    with laid_down(plant, BIN) as source:
        again = GeneEmbedding(embedder, source, 0)
        embedder.seen.clear()
        assert len(again.overlay(twice).change) == 2 * len(overlay.change)
    assert len(embedder.seen) == len(overlay.change)


def test_codes_change_in_every_region_that_covers_the_base(plant):
    with laid_down(plant, BIN) as source:
        for gene in range(10):
            codes = source.region_codes(gene, gene + 1)[0][0]
            changes = single_base_changes(codes, source.region_length[gene], [(0, 100, 180)])
            at = touched_bases(source, gene, changes)
            assert (codes[at.region, at.bin] == changes.ref[at.change]).all()
            assert {0, 1} == set(at.region.tolist())  # the TTS is 90 bp on
            assert (
                code_overlay(source, gene, changes).values["code"] == changes.alt[at.change]
            ).all()


def test_every_base_but_ambiguous_ones_has_its_three_others():
    codes = encode("ACGTNRYA")[None]
    found = single_base_changes(codes, np.array([8], np.int32), [(0, 0, 8)])
    told = [f"{p}{LETTERS[r]}{LETTERS[a]}" for p, r, a in zip(found.position, found.ref, found.alt, strict=True)]  # fmt: skip
    assert told == [
        "0AC", "0AG", "0AT", "1CA", "1CG", "1CT", "2GA", "2GC", "2GT", "3TA", "3TC", "3TG",
        "7AC", "7AG", "7AT",
    ]  # fmt: skip
    assert found.skipped == 3
    short = single_base_changes(codes, np.array([2], np.int32), [(0, 0, 8)])
    assert set(short.position.tolist()) == {0, 1}


@pytest.mark.parametrize(
    ("text", "bounds"),
    [("promoter", (0, 0, 180)), ("promoter:-120-60", (0, 0, 180)), ("promoter:-10--5", (0, 110, 115)),
     ("promoter:59..60", (0, 179, 180)), ("terminator:-50-75", (1, 0, 125)), ("promoter:0-1", (0, 120, 121))],
)  # fmt: skip
def test_spans_reach_to_the_ends_of_regions(text, bounds):
    assert parse_span(text).bounds(REGIONS) == bounds


@pytest.mark.parametrize(
    "text", ["promoter:-121-0", "promoter:0-61", "promoter:5-5", "promoter:9-3"]
)
def test_spans_beyond_a_region_are_refused(text):
    with pytest.raises(InputError, match="reaches from -120 to 60"):
        parse_span(text).bounds(REGIONS)


def test_spans_that_are_none_are_refused():
    with pytest.raises(UnknownNameError, match="promoter"):
        parse_span("promotor").bounds(REGIONS)
    for text in ("promoter:5", "promoter:a-b", ":1-2"):
        with pytest.raises(InputError, match="REGION:START-END"):
            parse_span(text)


# --- on the simulated sample ---------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(trained):
    return featurestore.open(trained[0] / "store.zarr")


@pytest.fixture(scope="module")
def genes(store) -> list[str]:
    """Two genes of either strand."""
    table = store.genes("simulated_alpha")
    return [*table.gene[table.strand > 0][:2].tolist(), *table.gene[table.strand < 0][:2].tolist()]


def effects(store, table: pd.DataFrame) -> np.ndarray:
    """What the generator says of each change: score of the changed windows less that of the gene."""
    truth = np.empty(len(table))
    for gene, part in table.groupby("element"):
        codes = store.features("simulated_alpha", "onehot", [gene])[0]
        upstream = part["region"].map({"promoter": 1000, "terminator": 500}).to_numpy()
        region = (part["region"] == "terminator").to_numpy(int)
        changed = np.repeat(codes[None], len(part) + 1, axis=0)
        at = part["position"].to_numpy(int) + upstream
        assert (changed[0, region, at] == [LETTERS.index(x) for x in part["ref"]]).all()
        changed[np.arange(1, len(part) + 1), region, at] = [LETTERS.index(x) for x in part["alt"]]
        score = Grammar().score(changed[:, 0], changed[:, 1]).mean(axis=1)
        truth[part.index] = score[1:] - score[0]
    return truth


SPANS = (Span("promoter", -160, 40), Span("terminator", -30, 30))


def test_the_oracle_gives_the_truth_and_a_learner_of_the_grammar_nearly(trained, store, genes):
    runs = [
        TrainedRun(trained[1]["grammar_oracle"], "bench_grammar:Oracle"),
        TrainedRun(trained[1]["saw_the_grammar"], "bench_grammar:SawTheGrammar"),
        TrainedRun(trained[1]["mean_of_fold"], "bench_grammar:MeanOfFold"),
    ]
    scored = saturate_genes(store, Asked(genes, SPANS), Scorers(runs), quiet())
    oracle, learned, constant = scored.of_runs
    truth = effects(store, oracle)
    assert len(oracle) == 4 * 3 * 260
    assert np.abs(truth).max() > 0.02  # there is something to find
    np.testing.assert_allclose(oracle["delta"].to_numpy(float), truth, atol=1e-12)
    assert (
        np.corrcoef(learned["delta"].to_numpy(float), truth)[0, 1] > 0.6
    )  # from some 90 noisy genes
    assert (constant["delta"] == 0).all()
    split = pd.read_parquet(runs[0].path / "split.parquet").set_index("gene")["fold"]
    assert (oracle["folds"] == oracle["element"].map(split).astype(str)).all()


def test_places_are_those_of_the_genome(store, genes):
    """contig_position against the genome, position against the TSS, on both strands."""
    from benchmarks.mutagenesis.genes import Tally

    table = store.genes("simulated_alpha")
    code = store.array("simulated_alpha", "genome/code")
    contigs = store.text("simulated_alpha", "genome/contig_id").tolist()
    starts = store.array("simulated_alpha", "genome/contig_start")
    for job in jobs(store, Asked(genes, SPANS), 0, Tally()):
        places = job.places(job.changes)
        row = table.gene.tolist().index(job.gene)
        forward = table.strand[row] > 0
        at = starts[contigs.index(table.contig[row])] + places["contig_position"].to_numpy()
        there = code[at] if forward else COMPLEMENT[code[at]]
        assert decode(there) == "".join(places["ref"])
        first = places[(places["region"] == "promoter") & (places["position"] == 0)]
        assert set(first["contig_position"]) == {int(table.tss[row]) - (not forward)}
        last = places[(places["region"] == "terminator") & (places["position"] == -1)]
        assert set(last["contig_position"]) == {int(table.tts[row]) - (1 if forward else 0)}


class Neighbours:
    """A masked model of no symmetry: probabilities follow from the two bases before the masked one."""

    window, mask_index, dtype, batch = 9, 4, "fp32", 8
    facts: ClassVar[dict] = {}

    def __init__(self):
        self.calls = 0

    def load(self, device):
        pass

    def log_probabilities(self, codes):
        self.calls += len(codes)
        value = np.stack(
            [np.cos(codes[:, 3] * 1.7 + codes[:, 2] * 0.3 + k) for k in range(4)], axis=1
        )
        return value - np.log(np.exp(value).sum(axis=1, keepdims=True))


def test_zero_shot_is_the_variant_score_on_either_strand(store, genes):
    model = Neighbours()
    zero = zero_shot.ZeroShot("zero-shot@fake", model)
    table, _ = zero_shot.score_genes(zero, store, Asked(genes, SPANS), quiet())
    strand = dict(zip(store.genes("simulated_alpha").gene, store.genes("simulated_alpha").strand, strict=True))  # fmt: skip
    partner = str.maketrans("ACGT", "TGCA")
    variants = [
        (r.contig, int(r.contig_position), *((r.ref, r.alt) if strand[r.element] > 0 else (r.ref.translate(partner), r.alt.translate(partner))))
        for r in table.itertuples()
    ]  # fmt: skip
    from featurestore.score.genome import stored_bases

    wanted = list(score_variants(Neighbours(), stored_bases(store, "simulated_alpha"), variants))
    assert not any(one.reason for one in wanted)  # REF agrees with the genome
    np.testing.assert_allclose(table["delta"].to_numpy(float), [one.llr for one in wanted])
    assert model.calls <= 4 * 260 + 8 * 8  # a position once, whatever its three changes


def test_a_gene_or_model_that_is_not_there(trained, store):
    run = TrainedRun(trained[1]["ridge"])
    with pytest.raises(UnknownNameError, match="gene"):
        saturate_genes(store, Asked(["nobody"]), Scorers([run]), quiet())
    with pytest.raises(InputError, match="no gene is named"):
        saturate_genes(store, Asked([]), Scorers([run]), quiet())
    with pytest.raises(InputError, match="nothing scores"):
        Scorers([])
    with pytest.raises(InputError, match="gives no probabilities"):
        zero_shot.zero_shot("kmer", store)
    with pytest.raises(UnknownNameError, match="embedder that scores"):
        zero_shot.zero_shot("plantcaduceu", store)


def test_genes_of_a_store_of_sequences(tmp_path):
    """Without a genome the regions are all there is: a change touches its own region alone."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 4, (2, 2, 180)).astype(np.uint8)
    length = np.array([[180, 125], [180, 0]], np.int32)
    codes[0, 1, 125:] = codes[1, 1] = N
    with laid_down(sequence_data(["a", "b"], REGIONS, codes, length), BIN) as source:
        changes = single_base_changes(codes[0], length[0], [(0, 0, 180), (1, 0, 125)])
        assert len(changes) == 3 * 305
        overlay = GeneEmbedding(Kmer((1,)), source, 0).overlay(changes)
        assert (overlay.region == changes.region[overlay.change]).all()
        assert (overlay.bin == changes.position[overlay.change] // BIN).all()
        lacking = GeneEmbedding(Kmer((1,)), source, 1)
        assert lacking.usable
        assert (lacking.base["embedding"][1] == 0).all()
        assert len(single_base_changes(codes[1], length[1], [(1, 0, 125)])) == 0


def test_windows_of_a_store_are_those_it_was_built_from(store, genes):
    rows = [store.genes("simulated_alpha").gene.tolist().index(g) for g in genes]
    codes = store.features("simulated_alpha", "onehot", genes)
    with gene_windows(store, "simulated_alpha", rows, 300) as source:
        np.testing.assert_array_equal(source.region_codes(0, len(genes))[0], codes)
        digest = store.stored("simulated_alpha", "kmer/input_digest").take(np.array(rows))
        found = embed_range(Kmer(), source, 0, len(genes))
        np.testing.assert_array_equal(found.digest, digest)


def test_bench_run_scores_changes_into_the_run_and_the_report_shows_them(
    trained, store, genes, tmp_path
):
    words = [
        "run", "--store", str(store.path), "--task", "mutagenesis", "--learner", "ridge", "--features",
        "kmer:pooled", "--gene", genes[0], "--mutate", "promoter:-30-10", "--out", str(tmp_path), "--bootstrap", "0",
    ]  # fmt: skip
    done = CliRunner().invoke(bench, words)
    assert done.exit_code == 0, done.output
    (run,) = tmp_path.iterdir()
    table = pd.read_parquet(run / "mutagenesis.parquet")
    assert len(table) == 3 * 40
    assert set(table["learner"]) == {"ridge@kmer:pooled"}
    assert set(table["unit"]) == {"log10(1+TPM)"}
    stamp = (run / "mutagenesis.parquet").stat().st_mtime_ns
    assert CliRunner().invoke(bench, words).exit_code == 0
    assert (run / "mutagenesis.parquet").stat().st_mtime_ns == stamp  # what is there stays
    page = render_report([read_run(run)], bootstrap=0)
    assert "Saturation mutagenesis" in page
    assert f"Effect of every single-base change of {genes[0]} promoter by ridge@kmer:pooled" in page
    assert "http" not in page.split("Saturation mutagenesis")[1].split("</section>")[0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--learner", "ridge", "--gene", "g"], "of --task mutagenesis alone"),
        (["--learner", "zero-shot@kmer"], "of --task mutagenesis alone"),
        (["--learner", "ridge", "--task", "mutagenesis"], "name the genes"),
        (["--learner", "zero-shot@pc", "--task", "mutagenesis", "--gene", "g"], "bench mutagenesis"),
    ],
    ids=["gene", "zero-shot", "no gene", "zero-shot alone"],
)  # fmt: skip
def test_bench_run_tells_what_does_not_go_together(store, words, told, tmp_path):
    done = CliRunner().invoke(
        bench, ["run", "--store", str(store.path), "--out", str(tmp_path), *words]
    )
    assert done.exit_code == 2
    assert told in done.output


def test_the_heat_map_shows_sign_size_and_reference():
    import base64
    import io
    import re

    from matplotlib.image import imread

    from benchmarks.report.mutagenesis import DOWN, UP, draw

    effect = np.array([[np.nan, 1.0], [0.5, -2.0], [-0.25, 0.0], [0.0, np.nan]])
    svg = str(draw(effect, np.array([0, 3]), np.array([-1, 0]), 1.0, 'a "quoted" <name>'))
    image = imread(io.BytesIO(base64.b64decode(re.search(r"base64,([^\"]+)", svg)[1])))
    assert image.shape == (4, 2, 4)
    opacity = np.array([[0.35, 1.0], [0.5, 1.0], [0.25, 0.0], [0.0, 0.35]])
    np.testing.assert_allclose(image[..., 3], opacity, atol=0.01)
    np.testing.assert_allclose(image[0, 1, :3], UP, atol=0.01)
    np.testing.assert_allclose(image[2, 0, :3], DOWN, atol=0.01)
    assert "<name>" not in svg
    assert ">−1<" in svg  # the axis tells positions as people write them


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"delta": "x"}, "column delta holds"), ({"ref": 3}, "column ref holds"),
        ({"position": 0.5}, "not whole numbers"), ({"learner": None}, "lacks the columns learner"),
    ],
    ids=lambda x: next(iter(x)) if isinstance(x, dict) else "",
)  # fmt: skip
def test_a_table_of_somebody_else_is_held_to_its_types(tmp_path, change, told):
    from benchmarks.mutagenesis.results import read_results
    from benchmarks.report.mutagenesis import section

    table = pd.DataFrame({
        "element": ["g", "g"], "region": "p", "position": [0, 1 << 40], "ref": "A", "alt": "C",
        "learner": "L", "delta": [0.5, 1.0],
    })  # fmt: skip
    table.to_parquet(tmp_path / "mutagenesis.parquet")
    assert section([tmp_path], "m") is None  # a span beyond any region is not drawn
    ((name, value),) = change.items()
    bad = table.drop(columns=name) if value is None else table.assign(**{name: value})
    bad.to_parquet(tmp_path / "mutagenesis.parquet")
    with pytest.raises(InputError, match=told):
        read_results(tmp_path)
