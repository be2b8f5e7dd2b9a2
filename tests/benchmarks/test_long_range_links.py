"""Links, context curves and sign tests: against tables made by hand, scikit-learn and scipy; the commands."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from benchmarks.cli import bench  # noqa: E402
from benchmarks.long_range.context import Asked as ContextAsked  # noqa: E402
from benchmarks.long_range.context import curve, kept, measured_of_run, predict_kept  # noqa: E402
from benchmarks.long_range.genes import Element, Gene, GeneWindows, read_elements  # noqa: E402
from benchmarks.long_range.links import Asked, areas_of, score_links  # noqa: E402
from benchmarks.long_range.models import Opened, open_model  # noqa: E402
from benchmarks.long_range.pairs import joined, read_pairs, strata  # noqa: E402
from benchmarks.long_range.session import Session  # noqa: E402
from benchmarks.long_range.signs import sign_test  # noqa: E402
from featurestore.embedders.enformer import Enformer, EnformerConfig, TrackModel  # noqa: E402
from featurestore.embedders.enformer.track_model import Track  # noqa: E402
from featurestore.errors import InputError, UnknownNameError  # noqa: E402
from featurestore.inputs.tally import Tally  # noqa: E402
from featurestore.sequence.iupac import decode  # noqa: E402
from featurestore.sequence.long_windows import LongWindows  # noqa: E402
from tests.builders.dataset import write_dataset  # noqa: E402
from tests.builders.species import random_species  # noqa: E402

# -- links -----------------------------------------------------------------------------------

PAIRS = """contig\tstart\tend\tgene\tsignificant\teffect
chr1\t1000\t1300\tA\ttrue\t-0.4
chr1\t5050\t5250\tA\tfalse\t0.0
chr1\t40000\t40300\tA\tTRUE\t-0.1
chr1\t90000\t90100\tA\tfalse\t0.0
chr2\t1000\t1300\tA\tfalse\t0.0
chr1\t1000\t1300\tZ\tfalse\t0.0
"""


def scored_by_hand():
    rows = [
        ("A", "e1", "chr1", 900, 1100, 9_000, 0.9),
        ("A", "e2", "chr1", 1200, 1400, 8_700, 0.8),
        ("A", "e3", "chr1", 5000, 5300, 4_850, 0.1),
        ("A", "e4", "chr1", 40000, 40300, 30_150, 0.2),
        ("B", "e1", "chr1", 900, 1100, 70_000, 0.5),
    ]
    table = pd.DataFrame(rows, columns=["gene", "element", "contig", "start", "end", "distance", "mine"])  # fmt: skip
    return table.assign(species="s")


def test_tested_pairs_meet_the_element_that_overlaps_them_most(tmp_path):
    (tmp_path / "pairs.tsv").write_text(PAIRS)
    tally = Tally()
    found = joined(read_pairs(tmp_path / "pairs.tsv"), scored_by_hand(), tally)
    # 1000–1300 shares 100 bases with e1 and as many with e2: the first.
    assert found["element"].tolist() == ["e1", "e3", "e4"]
    assert found["label"].tolist() == [1, 0, 1]
    assert found["effect"].tolist() == [-0.4, 0.0, -0.1]
    assert tally.counts == {
        "tested pair that no scored element of its gene overlaps": 2,
        "tested pair of a gene that was not scored": 1,
    }


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("significant", "verdict", "no column label"),
        ("FALSE", "perhaps", "line 3.*true or false"),
        ("5250", "5050", "line 3.*end beyond"),
        ("1000", "x", "line 2.*position"),
    ],
)
def test_a_table_of_pairs_is_told_what_is_wrong_in_it(tmp_path, old, new, told):
    text = PAIRS.replace("false\t0.0", "FALSE\t0.0", 1).replace(old, new, 1)
    (tmp_path / "p.tsv").write_text(text)
    with pytest.raises(InputError, match=told):
        read_pairs(tmp_path / "p.tsv")


def test_strata_are_half_open():
    names = dict(strata(pd.Series([0, 9_999, 10_000, 30_000, 99_999, 100_000]), (10_000, 30_000, 100_000)))  # fmt: skip
    assert {k: np.flatnonzero(v).tolist() for k, v in names.items()} == {
        "all": [0, 1, 2, 3, 4, 5], "< 10 kb": [0, 1], "10-30 kb": [2], "30-100 kb": [3, 4],
        ">= 100 kb": [5],
    }  # fmt: skip


def test_areas_are_those_of_scikit_learn_and_intervals_draw_genes():
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(0)
    n = 300
    table = pd.DataFrame({
        "gene": [f"g{i // 10}" for i in range(n)], "distance": rng.integers(1_000, 90_000, n),
        "label": rng.integers(0, 2, n),
    })  # fmt: skip
    table["mine"] = table["label"] + rng.normal(0, 0.7, n)
    table["inverse_distance"] = 1 / table["distance"]
    found = areas_of(table, (30_000,), 200, 0)
    assert {(a["stratum"], a["score"], a["metric"]) for a in found} == {
        (s, x, m) for s in ("all", "< 30 kb", ">= 30 kb") for x in ("mine", "inverse_distance")
        for m in ("auroc", "auprc")
    }  # fmt: skip
    for one in found:
        part = {"all": table, "< 30 kb": table[table.distance < 30_000], ">= 30 kb": table[table.distance >= 30_000]}[one["stratum"]]  # fmt: skip
        oracle = roc_auc_score if one["metric"] == "auroc" else average_precision_score
        assert one["value"] == pytest.approx(oracle(part["label"], part[one["score"]]))
        lead = one["value"] - oracle(part["label"], part["inverse_distance"])
        assert one["minus_distance"] == pytest.approx(lead)
        assert one["ci_low"] < one["value"] < one["ci_high"]
        assert (one["n"], one["n_genes"]) == (len(part), part["gene"].nunique())
        if one["score"] == "inverse_distance":
            assert one["difference_low"] == one["difference_high"] == 0
        else:
            assert one["difference_low"] > 0
    # Genes whose pairs are copies of one another are so many genes and no more.
    twice = pd.concat([table, table], ignore_index=True)
    wide = areas_of(twice, (30_000,), 200, 0)
    assert wide[0]["ci_high"] - wide[0]["ci_low"] == pytest.approx(
        found[0]["ci_high"] - found[0]["ci_low"], rel=1e-6
    )


class Opening(torch.nn.Module):
    """Answers to the number of A's in two elements, one with thrice the weight; no attention."""

    def __init__(self):
        super().__init__()
        self.module = torch.nn.Linear(1, 1)
        self.digest, self.tracks = "", (Track("h", 0, "t"),)
        self.input_bp, self.bin_bp, self.bins = 1024, 128, 4

    def of(self, x):
        value = x[:, 100:200, 0].sum(1) + 3 * x[:, 700:800, 0].sum(1)
        return value[:, None, None].expand(-1, 4, 1)

    def predict(self, codes):
        table = np.concatenate([np.eye(4, dtype=np.float32), np.zeros((1, 4), np.float32)])
        with torch.no_grad():
            return self.of(torch.from_numpy(table[codes])).numpy().copy()


def test_scores_of_elements_are_known_for_a_model_that_is_known(tmp_path):
    codes = np.random.default_rng(0).integers(0, 4, 3000).astype(np.uint8)
    windows = GeneWindows(None)
    windows._genomes["s"] = LongWindows({"chr1": decode(codes)})
    gene = Gene("s", "g", "chr1", 1500, 1)  # the window begins at 988
    elements = [
        Element("chr1", 1088, 1188, "weak"), Element("chr1", 1688, 1788, "strong"),
        Element("chr1", 1300, 1400, "none"), Element("chr1", 900, 1000, "cut"),
    ]  # fmt: skip
    session = Session(Opened(Opening()), windows, [gene])
    table = score_links(
        session, Asked(("gradient_x_input", "ablation", "mutagenesis"), gamma=1.0), [gene], elements
    )
    assert table["element"].tolist() == ["weak", "strong", "none"]
    assert session.tally.counts == {"element cut by the end of a window": 1}
    count = [(codes[e.start : e.end] == 0).sum() for e in elements[:2]]
    np.testing.assert_allclose(table["ablation"], [count[0], 3 * count[1], 0])
    np.testing.assert_allclose(table["gradient_x_input"], [count[0] / 100, 3 * count[1] / 100, 0])
    np.testing.assert_allclose(table["mutagenesis"], [1, 3, 0])
    assert table["distance"].tolist() == [362, 238, 150]
    np.testing.assert_allclose(table["exp_distance"], np.exp(-table["distance"] / 25_000))
    bigwig = pytest.importorskip("pyBigWig")
    with bigwig.open(str(tmp_path / "a.bw"), "w") as file:
        file.addHeader([("chr1", 3000)])
        file.addEntries(["chr1"] * 2, [1088, 1688], ends=[1188, 1788], values=[1.0, 3.0])
    table = score_links(session, Asked((), activity=tmp_path / "a.bw"), [gene], elements)
    # All within 5 kb, where contact is constant.
    np.testing.assert_allclose(table["abc"], [0.25, 0.75, 0])


# -- context ---------------------------------------------------------------------------------


def test_the_middle_is_kept_and_the_rest_is_n_or_shuffled():
    codes = np.random.default_rng(0).integers(0, 4, 1000).astype(np.uint8)
    own = kept(codes, 200)
    assert (own[400:600] == codes[400:600]).all()
    assert (np.delete(own, np.s_[400:600]) == 4).all()
    assert (kept(codes, 1000) == codes).all()
    pytest.importorskip("tangermeme")
    own = kept(codes, 200, "shuffled", 3)
    assert (own[400:600] == codes[400:600]).all()
    for side in (np.s_[:400], np.s_[600:]):
        assert (own[side] != codes[side]).mean() > 0.5
        assert (np.bincount(own[side], minlength=4) == np.bincount(codes[side], minlength=4)).all()


def test_the_curve_of_a_model_that_sees_little_is_flat_beyond_it():
    config = EnformerConfig.preset("tiny", input_bp=4096, target_length=16, output_heads={"s": 1})
    reach = config.reach_for(1024)
    with torch.random.fork_rng():
        torch.manual_seed(1)
        module = Enformer(EnformerConfig.preset(
            "tiny", input_bp=4096, target_length=16, output_heads={"s": 1}, attention_reach=reach,
        ))  # fmt: skip
        torch.nn.init.normal_(module.transformer[0].attention.to_out.weight, std=0.3)
    codes = np.random.default_rng(0).integers(0, 4, 20_000).astype(np.uint8)
    windows = GeneWindows(None)
    windows._genomes["s"] = LongWindows({"chr1": decode(codes)})
    genes = [Gene("s", f"g{i}", "chr1", 3000 + 1500 * i, 1 - 2 * (i % 2), f"F{i}") for i in range(8)]  # fmt: skip
    session = Session(Opened(TrackModel(module.eval())), windows, genes)
    table = predict_kept(session, ContextAsked(lengths=(256, 2048, 3072, 196_608)))
    assert sorted(table["length"].unique()) == [256, 2048, 3072, 4096]
    wide = table.pivot_table(index="gene", columns="length", values="prediction")
    np.testing.assert_allclose(wide[2048], wide[4096], rtol=1e-5)
    np.testing.assert_allclose(wide[3072], wide[4096], rtol=1e-5)
    assert (wide[256] - wide[4096]).abs().max() > 1e-3
    found = curve(table, None, bootstrap=50)
    pearson = found[found["metric"] == "pearson"].set_index("length")["value"]
    assert pearson[2048] == pytest.approx(1, abs=1e-6)
    assert pearson[256] < 0.999


def test_a_curve_has_the_correlations_of_scipy_and_the_gain_over_the_shortest():
    from scipy.stats import pearsonr, spearmanr

    rng = np.random.default_rng(0)
    truth = rng.normal(size=60)
    rows = []
    for i, value in enumerate(truth):
        for length, noise in ((2000, 2.0), (10_000, 0.7), (50_000, 0.2)):
            rows.append(("s", f"g{i}", f"F{i // 2}", length, value + noise * rng.normal()))
    table = pd.DataFrame(rows, columns=["species", "gene", "family", "length", "prediction"])
    measured = {("s", f"g{i}"): v for i, v in enumerate(truth) if i != 3}
    found = curve(table, measured, bootstrap=300)
    at = {(r.against, r.length, r.metric): r for r in found.itertuples()}
    by_length = {n: table[table.length == n]["prediction"].to_numpy() for n in (2000, 10_000, 50_000)}  # fmt: skip
    known = np.arange(60) != 3
    for length, own in by_length.items():
        one = at["measured", length, "pearson"]
        assert one.value == pytest.approx(pearsonr(own[known], truth[known])[0])
        assert one.value - at["measured", 2000, "pearson"].value == pytest.approx(one.gain)
        assert (one.n, one.n_families) == (59, 30)
        full = at["full", length, "spearman"]
        assert full.value == pytest.approx(spearmanr(own, by_length[50_000])[0])
    assert at["measured", 50_000, "pearson"].gain_low > 0
    assert at["measured", 2000, "pearson"].gain_high == 0


# -- signs -----------------------------------------------------------------------------------


def test_the_sign_test_is_the_exact_binomial():
    predicted = np.array([1, 1, 1, 1, 1, 1, 1, 1, -1, -1, 0, 1, np.nan, 2, -2], float)
    measured = np.array([1, 2, 3, 1, 1, 1, 1, 1, 1, 1, 1, 0, 1, -1, 1], float)
    gene = ["a"] * 13 + ["b"] * 2
    found = sign_test(predicted, measured, gene, bootstrap=100).set_index("scope")
    one = found.loc["gene:a"]
    assert (one["right"], one["n"], one["undecided"]) == (8, 10, 3)
    # Eight of ten: the interval and p of printed tables.
    assert one["ci_low"] == pytest.approx(0.4439, abs=1e-4)
    assert one["ci_high"] == pytest.approx(0.9748, abs=1e-4)
    assert one["p_value"] == pytest.approx(0.109375)
    assert found.loc["gene:b", "share"] == 0
    assert (found.loc["pooled", "right"], found.loc["pooled", "n"]) == (8, 12)
    assert (found.loc["genes", "right"], found.loc["genes", "n"]) == (1, 2)


# -- commands --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A small store, a checkpoint, elements and pairs."""
    from featurestore.build.engine import build

    folder = tmp_path_factory.mktemp("place")
    species = random_species(genes=12, contigs=2, contig_bp=9000, seed=5)
    build(write_dataset(folder / "data", species), folder / "store.zarr", embedders=["kmer"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Enformer(EnformerConfig.preset(
            "tiny", input_bp=2048, target_length=8, output_heads={"test_plant": 2},
            track_names={"test_plant": ["cage", "accessibility"]},
        ))  # fmt: skip
    model.save_pretrained(folder / "weights")
    pairs, bed = ["contig\tstart\tend\tgene\tsignificant"], []
    for i, (gene, contig, tss) in enumerate(zip(species.gene, species.contig, species.tss, strict=True)):  # fmt: skip
        for side in (-500, 300):
            start = int(tss) + side
            bed.append(f"{contig}\t{start}\t{start + 120}\te{len(bed)}")
            pairs.append(f"{contig}\t{start}\t{start + 120}\t{gene}\t{(i + side) % 3 == 0}")
    (folder / "elements.bed").write_text("\n".join(bed) + "\n")
    (folder / "pairs.tsv").write_text("\n".join(pairs) + "\n")
    return folder


def call(place, *words):
    common = ["--model", str(place / "weights"), "--store", str(place / "store.zarr"), "--device", "cpu"]  # fmt: skip
    done = CliRunner().invoke(bench, [words[0], *common, *words[1:]])
    return done.exit_code, done.output


def test_bench_contributions_writes_what_it_says(place, tmp_path):
    import zarr

    pytest.importorskip("pyBigWig")
    out = tmp_path / "out"
    code, told = call(place, "contributions", "--gene", "G00002", "--gene", "G00005", "--track", "cage",
                      "--elements", str(place / "elements.bed"), "--out", str(out))  # fmt: skip
    assert code == 0, told
    root = zarr.open_group(out / "contributions.zarr", mode="r")
    assert list(root["gene"][:]) == ["G00002", "G00005"]
    assert root["contribution"].shape == (2, 2048)
    assert root["position"][:][1024] == 0
    assert (root["bin_start"][:][[0, 8]] == [-1024, 0]).all()
    held = np.abs(root["contribution"][1]).reshape(16, 128).mean(1)
    np.testing.assert_allclose(root["bin_contribution"][1], held, rtol=1e-4)
    names = {p.name for p in out.iterdir()}
    assert {"G00002.gradient_x_input.bw", "G00005.gradient_x_input.svg", "genes.tsv", "elements.tsv", "about.json"} <= names  # fmt: skip
    table = pd.read_csv(out / "elements.tsv", sep="\t")
    assert len(table)
    assert np.isfinite(table["gradient_x_input"]).all()
    for method in ("attention", "ablation"):
        code, told = call(place, "contributions", "--gene", "G00002", "--method", method, "--elements",
                          str(place / "elements.bed"), "--out", str(tmp_path / method))  # fmt: skip
        assert code == 0, told
        assert (tmp_path / method / f"G00002.{method}.bw").exists()


def test_bench_links_and_context_and_saturate(place, tmp_path):
    code, told = call(place, "links", "--pairs", str(place / "pairs.tsv"), "--elements", str(place / "elements.bed"),
                      "--activity-track", "accessibility", "--track", "cage", "--bootstrap", "50",
                      "--bins", "400", "--out", str(tmp_path / "links.parquet"))  # fmt: skip
    assert code == 0, told
    table = pd.read_parquet(tmp_path / "links.parquet")
    assert {"gradient_x_input", "attention", "ablation", "inverse_distance", "exp_distance", "abc", "label"} <= set(table)  # fmt: skip
    body = json.loads((tmp_path / "links.json").read_text())
    assert {a["stratum"] for a in body["areas"]} >= {"all"}
    assert "less 1/distance" in told
    code, told = call(place, "context", "--track", "cage", "--lengths", "512,1024", "--bootstrap", "50",
                      "--out", str(tmp_path / "context"))  # fmt: skip
    assert code == 0, told
    assert {p.name for p in (tmp_path / "context").iterdir()} >= {"context.svg", "context.png", "context.tsv"}  # fmt: skip
    found = pd.read_csv(tmp_path / "context" / "context.tsv", sep="\t")
    assert found[found["length"] == 2048]["value"].tolist() == pytest.approx([1, 1])
    contig = table["contig"].iloc[0]
    start = int(table["start"].iloc[0])
    code, told = call(place, "saturate", "--gene", table["gene"].iloc[0], "--region", f"{contig}:{start}-{start + 6}",
                      "--out", str(tmp_path / "sat"))  # fmt: skip
    assert code == 0, told
    assert len(pd.read_parquet(tmp_path / "sat" / "mutagenesis.parquet")) in (15, 18)


def test_bench_saturate_puts_elements_of_an_assay_before_the_tss(place, tmp_path):
    element = "ACGTTGCAACGGTTAACCGGATCC"
    (tmp_path / "refs.fa").write_text(f">enh\n{element}\n")
    rows = ["element\tpos\tref\talt\teffect"]
    rows += [f"enh\t{i + 1}\t{b}\t{'ACGT'['ACGT'.index(b) ^ 1]}\t{np.sin(i)}" for i, b in enumerate(element)]  # fmt: skip
    (tmp_path / "m.tsv").write_text("\n".join(rows) + "\n")
    code, told = call(place, "saturate", "--gene", "G00002", "--sequences", str(tmp_path / "refs.fa"), "--measured",
                      str(tmp_path / "m.tsv"), "--at", "-50", "--bootstrap", "50", "--out", str(tmp_path / "o"))  # fmt: skip
    assert code == 0, told
    table = pd.read_parquet(tmp_path / "o" / "mutagenesis.parquet")
    assert len(table) == 3 * len(element)
    assert table["delta"].abs().max() > 0
    assert "pearson" in told
    held = pd.read_parquet(tmp_path / "o" / "measured.parquet")
    assert len(held) == len(element)


def test_bench_signs(tmp_path):
    (tmp_path / "a.tsv").write_text("gene\tpredicted\tmeasured\ng\t1\t2\ng\t-1\t2\nh\t1\t1\n")
    done = CliRunner().invoke(bench, ["signs", str(tmp_path / "a.tsv"), "--json"])
    assert done.exit_code == 0, done.output
    rows = {r["scope"]: r for r in json.loads(done.output)}
    assert rows["pooled"]["right"] == 2
    done = CliRunner().invoke(bench, ["signs", str(tmp_path / "a.tsv"), "--measured", "measurd"])
    assert done.exit_code == 2
    assert "measured" in done.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("contributions", "--method", "ablation", "--most", "1", "--out", "o"), "--elements BED"),
        (("contributions", "--out", "o"), "--most"),
        (("contributions", "--gene", "G0000", "--out", "o"), "G0000"),
        (("contributions", "--most", "1", "--track", "cagee", "--out", "o"), "cage"),
        (("contributions", "--most", "1", "--fold", "1", "--out", "o"), "trained run"),
        (("links", "--out", "o.parquet"), "--pairs"),
        (("saturate", "--region", "chr1:5-9", "--out", "o"), "--gene"),
        (("context", "--tested", "--out", "o"), "trained runs alone"),
    ],
)
def test_what_cannot_be_is_refused_with_what_mends_it(place, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    code, output = call(place, *words)
    assert code == 2, output
    assert told in output


def test_models_and_elements_are_read_or_refused(place, tmp_path):
    assert open_model(place / "weights", device="cpu").model.input_bp == 2048
    with pytest.raises(InputError):
        open_model(tmp_path)
    (tmp_path / "e.bed").write_text("chr1\t5\t9\tx\nchr1\t9\t5\ty\n")
    with pytest.raises(InputError, match="line 2"):
        read_elements(tmp_path / "e.bed")
    with pytest.raises(UnknownNameError):
        open_model(place / "weights", device="cpu").model.chosen(["nothing"])


@pytest.mark.parametrize("column", ["sample", "target"])
def test_measured_values_are_those_of_the_track_that_is_asked_for(monkeypatch, column):
    table = pd.DataFrame({
        "species": "s", "gene": ["a", "a", "b", "b"], column: ["cage", "accessibility"] * 2,
        "y_true": [1.0, 9.0, 2.0, 8.0],
    })  # fmt: skip
    monkeypatch.setattr("benchmarks.long_range.context.predictions_of", lambda opened: table)
    for name in ("cage", "some_head:cage"):
        assert measured_of_run(None, (name,)) == {("s", "a"): 1.0, ("s", "b"): 2.0}
    assert measured_of_run(None, ()) == {("s", "a"): 5.0, ("s", "b"): 5.0}
    with pytest.raises(InputError, match="none of the tracks"):
        measured_of_run(None, ("dnase",))


def test_a_run_is_explained_by_the_model_of_a_fold_at_its_genes_under_test(place, tmp_path):
    runs = tmp_path / "runs"
    words = ["run", "--store", str(place / "store.zarr"), "--out", str(runs), "--learner", "enformer@genome:2048",
             "--param", "enformer.preset=tiny", "--param", "enformer.epochs=1", "--split", "families-2fold",
             "--bootstrap", "0", "--threads", "1"]  # fmt: skip
    done = CliRunner().invoke(bench, words)
    assert done.exit_code == 0, done.output
    with pytest.raises(InputError, match="--fold"):
        open_model(runs)
    opened = open_model(runs, 1, device="cpu")
    assert (opened.model.bins, opened.fold) == (1, 1)
    own = pd.read_parquet(opened.run / "predictions.parquet")
    own = own[own["fold"] == 1].set_index("gene")
    out = tmp_path / "context"
    words = ["context", "--model", str(runs), "--fold", "1", "--store", str(place / "store.zarr"), "--tested",
             "--device", "cpu", "--lengths", "512", "--bootstrap", "20", "--out", str(out)]  # fmt: skip
    done = CliRunner().invoke(bench, words)
    assert done.exit_code == 0, done.output
    found = pd.read_csv(out / "predictions.tsv", sep="\t")
    whole = found[found["length"] == 2048].set_index("gene")["prediction"]
    assert set(whole.index) == set(own.index)
    np.testing.assert_allclose(whole[own.index], own["y_pred"], rtol=1e-3, atol=1e-4)
    told = pd.read_csv(out / "context.tsv", sep="\t")
    assert set(told["against"]) == {"full", "measured"}
