"""bench effects: planted signals are found, nothing is found in nothing, areas are those of scikit-learn."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats
from sklearn.metrics import average_precision_score, roc_auc_score

from benchmarks.cli import bench
from benchmarks.effects.api import assess
from benchmarks.effects.classify import Forest
from benchmarks.effects.measured import read_measured
from benchmarks.scores.areas import auprc, auroc
from featurestore.errors import InputError, UnknownNameError
from featurestore.score.tracks.outputs import Result, write
from featurestore.score.tracks.plan import Row

QUICK = Forest(trees=25, folds=4, bootstrap=200)


def _scores(folder: Path, rows: list[Row], values: np.ndarray, arrays=("sad_sum",), window="variant") -> Path:  # fmt: skip
    """A file of scores as fs score writes it; rows with a reason have no line."""
    order = np.array([i for i, row in enumerate(rows) if not row.reason])
    tracks = [SimpleNamespace(head="h", name=f"t{i}", label=f"h:t{i}") for i in range(values.shape[1] // len(arrays))]  # fmt: skip
    facts = {"scores": list(arrays), "species": "simulated_gamma", "window": window}
    out = folder / "scores.zarr"
    write(Result(rows, order, values[order].astype(np.float32), arrays, tracks, facts), out, "zarr", out, 0)  # fmt: skip
    return out


def _rows(n: int, genes: bool = False, contigs: int = 6) -> list[Row]:
    rng = np.random.default_rng(7)
    return [
        Row(i, 0, f"chr{i % contigs + 1}", 1000 * i + 1, f"v{i}", "A", "C", f"g{i // 3}" if genes else "",
            50 if genes else None, int(rng.integers(10, 100_000)))
        for i in range(n)
    ]  # fmt: skip


def _table(path: Path, rows: list[Row], **columns) -> Path:
    pd.DataFrame({
        "chrom": [r.contig for r in rows], "pos": [r.pos for r in rows],
        "ref": [r.ref for r in rows], "alt": [r.alt for r in rows], **columns,
    }).to_csv(path, sep="\t", index=False)  # fmt: skip
    return path


def _of(found, **wanted):
    rows = [r for r in found.rows if all(r[k] == v for k, v in wanted.items())]
    assert len(rows) == 1, (wanted, len(rows))
    return rows[0]


def test_areas_are_those_of_scikit_learn_under_weights():
    rng = np.random.default_rng(0)
    label = (rng.random(80) < 0.3).astype(float)
    score = np.round(label + rng.normal(size=80), 1)  # with ties
    weights = rng.integers(0, 4, (6, 80)).astype(float)
    for own, found, area in zip(
        weights, auroc(label, score, weights), auprc(label, score, weights), strict=True
    ):
        assert found == pytest.approx(roc_auc_score(label, score, sample_weight=own))
        assert area == pytest.approx(average_precision_score(label, score, sample_weight=own))
    assert np.isnan(auroc(np.ones(5), np.arange(5.0), np.ones((1, 5)))).all()


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Two tissues whose causal variants have large scores of one track; distance says a little."""
    folder = tmp_path_factory.mktemp("planted")
    rng = np.random.default_rng(1)
    rows = _rows(320)
    label = (rng.random(320) < 0.5).astype(int)
    values = rng.normal(size=(320, 12))
    values[:, 3] += 3 * label * rng.choice([-1, 1], 320)
    for row, causal in zip(rows, label, strict=True):
        row.nearest_tss = int(rng.integers(10, 60_000 if causal else 120_000))
    scores = _scores(folder, rows, values)
    tissue = np.where(rng.random(320) < 0.6, "leaf", "root")
    return folder, rows, scores, label, tissue


def test_a_planted_signal_is_found_and_none_in_shuffled_labels(planted):
    folder, rows, scores, label, tissue = planted
    table = _table(folder / "m.tsv", rows, causal=label, tissue=tissue)
    found = assess(scores, table, how=QUICK)
    assert found.task == "classify"
    for group in ("leaf", "root"):
        scope = f"group:{group}"
        tracks = _of(found, scope=scope, method="tracks", metric="auroc")
        distance = _of(found, scope=scope, method="distance", metric="auroc")
        nothing = _of(found, scope=scope, method="shuffled labels", metric="auroc")
        own = tissue == group
        assert (tracks["n"], tracks["n_positive"]) == (own.sum(), label[own].sum())
        assert tracks["value"] > 0.8
        assert tracks["ci_low"] > max(distance["value"], 0.7)
        assert nothing["ci_low"] < 0.5 < nothing["ci_high"]
        near = -np.array([r.nearest_tss for r in rows])[own]
        assert distance["value"] == pytest.approx(roc_auc_score(label[own], near))
    mean = _of(found, scope="mean of groups", method="tracks", metric="auprc")
    parts = [_of(found, scope=f"group:{g}", method="tracks", metric="auprc")["value"] for g in ("leaf", "root")]  # fmt: skip
    assert mean["value"] == pytest.approx(np.mean(parts))
    assert mean["ci_low"] < mean["value"] < mean["ci_high"]


def test_folds_hold_whole_blocks(planted, tmp_path):
    """Scores that merely name the block: within it labels are alike, so a neighbour would tell."""
    folder, rows = planted[:2]
    rng = np.random.default_rng(3)
    block = np.array([r.record // 8 for r in rows])
    label = rng.permutation(np.repeat([0, 1], 20))[block]
    named = rng.normal(size=(40, 12))[block] + 1e-3 * rng.normal(size=(320, 12))
    other = _scores(tmp_path, rows, named)
    table = _table(folder / "b.tsv", rows, label=label, ld_block=block)
    honest = _of(assess(other, table, how=QUICK), method="tracks", metric="auroc", scope="all")
    assert honest["ci_low"] < 0.5 < honest["ci_high"]
    assert honest["n_blocks"] == honest["n_clusters"] == 40
    alone = _table(folder / "c.tsv", rows, label=label, ld_block=np.arange(320))
    leaky = _of(assess(other, alone, how=QUICK), method="tracks", metric="auroc", scope="all")
    assert leaky["value"] > 0.95  # what whole blocks keep out


def test_signs_can_be_left_out(planted):
    folder, rows, scores, label, _ = planted
    table = _table(folder / "m.tsv", rows, label=label)
    with_abs = assess(scores, table, how=Forest(25, 4, absolute=True, bootstrap=0))
    assert with_abs.facts["absolute"]
    row = _of(with_abs, method="tracks", metric="auroc", scope="all")
    assert row["value"] > 0.85
    assert np.isnan(row["ci_low"])  # no replicates, no interval


def test_correlations_are_scipys_and_signs_are_counted(tmp_path):
    rng = np.random.default_rng(2)
    rows = _rows(90)
    effect = np.where(np.arange(90) < 60, rng.normal(size=90), 0.0)
    values = np.stack([effect + 0.3 * rng.normal(size=90), rng.normal(size=90)], axis=1)
    kinds = np.where(np.arange(90) < 60, "distal", "background")
    table = _table(tmp_path / "m.tsv", rows, kind=kinds, log2_fold_change=effect)
    found = assess(_scores(tmp_path, rows, values), table, how=Forest(bootstrap=300))
    assert found.task == "correlate"
    kept = values.astype(np.float32)
    for track, own in (("h:t0", kept[:, 0]), ("h:t1", kept[:, 1])):
        pearson = _of(found, scope="all", track=track, metric="pearson")
        assert pearson["value"] == pytest.approx(stats.pearsonr(own, effect)[0], abs=1e-6)
        assert pearson["ci_low"] < pearson["value"] < pearson["ci_high"]
        distal = _of(found, scope="group:distal", track=track, metric="spearman")
        assert distal["value"] == pytest.approx(stats.spearmanr(own[:60], effect[:60])[0])
        sign = _of(found, scope="all", track=track, metric="sign_accuracy")
        assert (sign["n"], sign["n_clusters"]) == (60, 60)
        assert sign["value"] == pytest.approx(np.mean(np.sign(own[:60]) == np.sign(effect[:60])))
    assert _of(found, scope="all", track="h:t0", metric="sign_accuracy")["ci_low"] > 0.7
    flat = _of(found, scope="group:background", track="h:t0", metric="pearson")
    assert np.isnan(flat["value"])
    assert "60 of 60 variants with a measured effect other than 0 have scores" in found.notes


def test_a_gene_that_is_named_is_the_one_that_counts(tmp_path):
    """Two genes a variant: the named one carries the effect, the nearer one its opposite."""
    rng = np.random.default_rng(5)
    effect = rng.normal(size=40)
    rows, values = [], []
    for i in range(40):
        for gene, distance, sign in ((f"far{i // 2}", -9000, 1), (f"near{i}", 300, -1)):
            rows.append(Row(i, 0, "chr1", 100 * i + 1, f"v{i}", "A", "C", gene, distance, 300))
            values.append([sign * effect[i]])
    rows.append(Row(40, 0, "chr1", 7001, "v40", "A", "C", reason="no_gene"))
    values.append([np.nan])
    scores = _scores(tmp_path, rows, np.array(values), ("sad_tss",), "gene")
    ones = [*rows[:80:2], rows[-1], Row(41, 0, "chr1", 9999, "v41", "A", "C")]
    effects = [*effect, 1.0, 1.0]
    genes = [*(r.gene for r in rows[:80:2]), ".", "."]
    named = assess(scores, _table(tmp_path / "a.tsv", ones, gene=genes, effect=effects))
    sign = _of(named, scope="all", metric="sign_accuracy", track="h:t0")
    assert (sign["value"], sign["n"], sign["n_clusters"]) == (1.0, 40, 20)
    assert {f["reason"]: f["count"] for f in named.left_out} == {
        "no score: no_gene": 1, "not among the scores": 1,
    }  # fmt: skip
    nearest = assess(scores, _table(tmp_path / "b.tsv", ones, effect=effects))
    assert _of(nearest, scope="all", metric="sign_accuracy", track="h:t0")["value"] == 0.0
    assert "40 variants that name no gene" in nearest.notes[-2] + nearest.notes[-3]


def test_the_command_writes_what_it_tells(planted):
    folder, rows, scores, label, tissue = planted
    table = _table(folder / "m.tsv", rows, what=label, where=tissue)
    words = ["effects", str(scores), "--measured", str(table), "--label", "what", "--group", "where",
             "--trees", "10", "--folds", "3", "--bootstrap", "50", "--out", str(folder / "out")]  # fmt: skip
    shown = CliRunner().invoke(bench, [*words, "--task", "classify"])
    assert shown.exit_code == 0, shown.output
    assert "320 of 320 measured variants have scores (SIMULATED data)" in shown.output
    told = json.loads(CliRunner().invoke(bench, [*words, "--json"]).stdout)
    assert told == json.loads((folder / "out" / "effects.json").read_text())
    listed = pd.read_csv(folder / "out" / "effects.tsv", sep="\t")
    assert len(listed) == len(told["rows"]) == len(re.findall("auroc|auprc", shown.output)) == 18
    assert listed["value"].tolist() == pytest.approx([r["value"] for r in told["rows"]], rel=1e-5)


def test_what_cannot_be_told_is_refused(planted, tmp_path):
    rows, scores, label = planted[1:4]
    one_contig = _table(
        tmp_path / "one.tsv", [r for r in rows if r.contig == "chr1"], label=label[::6]
    )
    with pytest.raises(InputError, match="--block"):
        assess(scores, one_contig)
    with pytest.raises(InputError, match="no column of measured effects"):
        assess(scores, _table(tmp_path / "n.tsv", rows), "correlate")
    with pytest.raises(InputError, match="no measured variant has scores: 1 × not among"):
        assess(
            scores, _table(tmp_path / "x.tsv", [Row(0, 0, "chrX", 5, "", "A", "C")], effect=[1.0])
        )
    with pytest.raises(UnknownNameError, match="Did you mean 'sad_sum'"):
        assess(scores, _table(tmp_path / "e.tsv", rows, effect=label), names=["sad_sun"])
    with pytest.raises(InputError, match="at least 10 of each"):
        assess(scores, _table(tmp_path / "few.tsv", rows, label=[1] * 5 + [0] * 315))
    with pytest.raises(InputError, match=r"line 3 'maybe'"):
        read_measured(_table(tmp_path / "bad.tsv", rows[:2], label=["causal", "maybe"]), {})
    (tmp_path / "pos.tsv").write_text("contig\tpos\tref\talt\nchr1\tten\tA\tC\n")
    with pytest.raises(InputError, match=r"column pos is to hold numbers.*line 2 'ten'"):
        read_measured(tmp_path / "pos.tsv", {})
    (tmp_path / "no.tsv").write_text("contig\tref\talt\nchr1\tA\tC\n")
    with pytest.raises(InputError, match="no column pos"):
        read_measured(tmp_path / "no.tsv", {})


def test_from_a_simulated_world_to_signs(tmp_path):
    """Both commands on the long-range world: every variant with an effect is scored or told."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("pyBigWig")
    from featurestore.cli import cli
    from featurestore.embedders.enformer import Enformer, EnformerConfig
    from featurestore.sample.long_range import write_long_range

    torch.set_num_threads(1)
    write_long_range(tmp_path / "w", seed=3, genes=40)
    config = EnformerConfig.preset(
        "tiny", input_bp=32_768, target_length=128, output_heads={"simulated_gamma": 2},
        track_names={"simulated_gamma": ["accessibility", "cage"]},
    )  # fmt: skip
    model = Enformer(config)
    for name, weight in model.named_parameters():
        if "to_out" in name:  # zero in an untrained model, whose bins then do not see each other
            torch.nn.init.normal_(weight, std=0.1)
    model.save_pretrained(tmp_path / "m")
    words = ["score", str(tmp_path / "w"), "--variants", str(tmp_path / "w" / "variants.vcf"), "--species",
             "simulated_gamma", "--embedder", "enformer", "--checkpoint", str(tmp_path / "m"), "--window", "gene",
             "--tracks", "cage", "--device", "cpu", "--out", str(tmp_path / "s.parquet")]  # fmt: skip
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0, done.output
    truth = tmp_path / "w" / "truth" / "variants.tsv"
    done = CliRunner().invoke(bench, ["effects", str(tmp_path / "s.parquet"), "--measured", str(truth), "--json"])  # fmt: skip
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    sign = [r for r in found["rows"] if r["metric"] == "sign_accuracy" and r["scope"] == "all"]
    known = pd.read_csv(truth, sep="\t")
    genes = pd.read_csv(tmp_path / "w" / "truth" / "genes.tsv", sep="\t").set_index("gene")
    active = known[known["gene"] != "."]
    near = (active["position"] - genes.loc[active["gene"], "tss"].to_numpy()).abs() < 16_000
    assert sign[0]["track"] == "simulated_gamma:cage"
    assert near.sum() <= sign[0]["n"] <= len(active)
    assert sum(f["count"] for f in found["left_out"]) + found["facts"]["n_joined"] == len(known)
    assert found["facts"]["simulated"]
