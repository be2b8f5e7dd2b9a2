"""Measured variants: what a table must hold, elements in their place, agreement against scipy."""

from __future__ import annotations

import gzip
from io import StringIO

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from scipy import stats

from benchmarks.cli import bench
from benchmarks.mutagenesis import elements
from benchmarks.mutagenesis.agreement import STATISTICS, agreement, join_measured, weighted_ranks
from benchmarks.mutagenesis.api import Scorers, saturate_elements
from benchmarks.mutagenesis.elements import Fitting, Place, parse_place, saturated
from benchmarks.mutagenesis.measured import read_measured, read_references
from benchmarks.mutagenesis.zero_shot import ZeroShot
from benchmarks.predict.trained import TrainedRun
from benchmarks.runs.progress import Progress
from featurestore.errors import InputError, UnknownNameError
from featurestore.sample.grammar import Grammar
from featurestore.sequence.iupac import LETTERS, N, decode, encode

ORACLE = "bench_grammar:Oracle"


def quiet() -> Progress:
    return Progress(0, StringIO())


@pytest.fixture
def references(tmp_path):
    (tmp_path / "r.fa").write_text(">one chr2:101-110\nACGTTTGACA\n>two\nGGGCCC\n")
    return read_references(tmp_path / "r.fa")


def read(tmp_path, references, text, **options):
    (tmp_path / "m.tsv").write_text(text)
    return read_measured(tmp_path / "m.tsv", references, **options)


def test_a_table_of_the_usual_columns(tmp_path, references):
    found = read(
        tmp_path, references,
        "element\tpos\tref\talt\tvalue\tother\n"
        "one\t1\tA\tC\t0.5\t1\none\t4\tT\t-\t-1\t2\none\t2\t-\tG\t0.25\t3\none\t7\tGA\tG\tNA\t4\ntwo\t6\tC\tA\t2\t5\n",
    )  # fmt: skip
    table = found.table
    assert found.conditions == ("value",)
    assert table["kind"].tolist() == ["substitution", "deletion", "insertion", "deletion", "substitution"]  # fmt: skip
    assert table["sequence"].tolist() == [
        "CCGTTTGACA",
        "ACGTTGACA",
        "ACGGTTTGACA",
        "ACGTTTGCA",
        "GGGCCA",
    ]
    assert table["position"].tolist() == [0, 3, 2, 7, 5]
    assert table["ref"].tolist() == ["A", "T", "", "A", "C"]
    assert table["value"].isna().tolist() == [False, False, False, True, False]
    both = read(
        tmp_path,
        references,
        "element\tpos\tref\talt\ta\tb\none\t1\tA\tC\t0.5\t1\n",
        values=["b", "a"],
    )
    assert both.conditions == ("b", "a")


def test_tables_of_the_cagi5_challenge(tmp_path, references):
    """Chromosome coordinates, placed by the header of the reference; confidence may be asked for."""
    found = read(
        tmp_path, references,
        "#Chrom\tPos\tRef\tAlt\tValue\tConfidence\nchr2\t103\tG\tA\t-0.4\t0.9\nchr2\t110\tA\tT\t0.1\t0.05\n",
        min_confidence=0.1,
    )  # fmt: skip
    assert found.table[["element", "position", "ref", "alt", "Value"]].values.tolist() == [
        ["one", 2, "G", "A", -0.4]
    ]
    assert "1 variants of confidence below 0.1 left out" in found.notes[0]


def test_a_sequence_column_decides_where_a_change_stands(tmp_path, references):
    """A base deleted within a run: position and sequence may name different bases of it."""
    found = read(
        tmp_path, references,
        "element\tposition\tref\talt\tvalue\tsequence\none\t6\tT\t-\t1\tACGTTGACA\none\t4\tT\t-\t3\tACGTTGACA\n",
    )  # fmt: skip
    assert found.table[["position", "ref", "alt", "value"]].values.tolist() == [[3, "T", "", 2.0]]
    assert "1 of 2 rows give a sequence that another row" in found.notes[0]


HEAD = "element\tpos\tref\talt\tvalue\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("element\tpos\tref\tvalue\none\t1\tA\t1\n", "no column for the alternative bases"),
        ("element\tpos\tref\talt\tx\none\t1\tA\tC\t1\n", "say which with --value"),
        (HEAD + "three\t1\tA\tC\t1\n", "an element that the references lack: three:1"),
        (HEAD + "one\t11\tA\tC\t1\n", "a position beyond its element: one:11 in 10 bp"),
        (HEAD + "one\t0\tA\tC\t1\n", "a position beyond its element: one:0"),
        (HEAD + "one\t2\tA\tC\t1\n", "a REF that the reference does not have: one:2 A, there is C"),
        (HEAD + "one\t1\tA\tZ\t1\n", "no change of bases: A>Z"),
        (HEAD + "one\t1\tA\tA\t1\n", "no change of bases: A>A"),
        (HEAD + "one\tx\tA\tC\t1\n", "a position that is no number: x"),
        (HEAD + "one\t1\tA\tC\tbig\n", "column value holds no number: big"),
        ("element\tpos\tref\talt\tvalue\tsequence\none\t1\tA\tC\t1\tGGG\n", "the sequence has"),
    ],
    ids=lambda x: x.split("\n")[-2].replace("\t", " ") if "\t" in x else x[:20],
)  # fmt: skip
def test_every_mistake_is_told_with_its_line(tmp_path, references, text, told):
    with pytest.raises(InputError, match="1 problem") as error:
        read(tmp_path, references, text)
    assert told in str(error.value)
    assert "m.tsv" in str(error.value)
    assert "line 2" in str(error.value) or "header" in str(error.value)


def test_several_mistakes_are_told_at_once(tmp_path, references):
    text = HEAD + "three\t1\tA\tC\t1\none\t2\tA\tC\t1\none\t3\tA\tC\t1\n"
    with pytest.raises(InputError, match="2 problems") as error:
        read(tmp_path, references, text)
    assert "lines 3, 4" in str(error.value)
    with pytest.raises(UnknownNameError, match="valeu"):
        read(tmp_path, references, HEAD + "one\t1\tA\tC\t1\n", values=["valeu"])


@pytest.mark.shared
def test_the_plant_enhancers(shared_data):
    """8,088 variants; every one of their sequences is what the table says of it."""
    folder = shared_data / "variants_plant_enhancers"
    references = read_references(folder / "refs.fa")
    found = read_measured(folder / "variants.tsv.gz", references)
    raw = pd.read_csv(folder / "variants.tsv.gz", sep="\t")
    assert len(raw) == 8088
    assert len(found.table) == len(raw.drop_duplicates(["contig", "sequence"])) == 6804
    assert found.conditions == ("delta_log2_dark", "delta_log2_light")
    assert found.table["kind"].value_counts()["substitution"] == 6 * 169 * 3
    assert set(found.table["sequence"]) == set(raw["sequence"])
    single = raw[raw["type"] == "substitution"].set_index(["contig", "variant"])
    own = found.table[found.table["kind"] == "substitution"]
    names = own["cluster"].astype(str) + own["ref"] + ">" + own["alt"]
    at = single.loc[list(zip(own["element"], names, strict=True)), "delta_log2_light"]
    np.testing.assert_allclose(own["delta_log2_light"], at)
    assert set(own["group"]) == {"AB80", "Cab-1", "rbcS-E9"}


# --- agreement -----------------------------------------------------------------------------------


def test_weighted_statistics_are_those_of_rows_repeated():
    rng = np.random.default_rng(0)
    x, y = rng.integers(-4, 5, 60).astype(float), rng.normal(size=60).round(1)
    weights = rng.integers(0, 4, (5, 60)).astype(float)
    for w in weights:
        a, b = np.repeat(x, w.astype(int)), np.repeat(y, w.astype(int))
        one = w[None]
        kept = w > 0
        np.testing.assert_allclose(
            weighted_ranks(x, one)[0][kept],
            [stats.rankdata(a)[np.flatnonzero(a == v)[0]] for v in x[kept]],
        )
        assert STATISTICS["pearson"](x, y, one)[0] == pytest.approx(stats.pearsonr(a, b)[0])
        assert STATISTICS["spearman"](x, y, one)[0] == pytest.approx(stats.spearmanr(a, b)[0])
        assert STATISTICS["spearman_abs"](x, y, one)[0] == pytest.approx(
            stats.spearmanr(np.abs(a), np.abs(b))[0]
        )
        both = (a != 0) & (b != 0)
        assert STATISTICS["sign_accuracy"](x, y, one)[0] == pytest.approx(
            np.mean(np.sign(a[both]) == np.sign(b[both]))
        )
    assert np.isnan(STATISTICS["pearson"](np.ones(60), y, weights)).all()


def table_of(x, y, cluster, element="e", group="e"):
    return pd.DataFrame({
        "element": element, "group": group, "cluster": cluster, "kind": "substitution", "learner": "L",
        "delta": x, "effect": y,
    })  # fmt: skip


def test_intervals_cover_and_know_that_changes_of_a_position_belong_together():
    """Effects shared within positions: intervals over positions cover the true correlation, those
    over single changes are too narrow."""
    covered = widths = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        shared = rng.normal(size=(80, 2)).repeat(3, axis=0)
        x, y = (shared + 0.1 * rng.normal(size=shared.shape)).T  # independent: the truth is 0
        cluster = np.arange(80).repeat(3)
        own = agreement(table_of(x, y, cluster), ["effect"], bootstrap=200)
        rows = agreement(table_of(x, y, np.arange(240)), ["effect"], bootstrap=200)
        one, other = (t[t["metric"] == "pearson"].iloc[0] for t in (own, rows))
        covered += one["ci_low"] <= 0 <= one["ci_high"]
        widths += (one["ci_high"] - one["ci_low"]) / (other["ci_high"] - other["ci_low"])
        assert (one["n"], one["n_positions"]) == (240, 80)
    assert covered >= 33  # 95 % of 40 is 38; fewer than 33 has probability 0.001
    assert widths / 40 > 1.5  # √3 were the changes of a position equal


def test_scopes_kinds_and_what_is_too_few():
    rng = np.random.default_rng(0)
    x = rng.normal(size=60)
    table = pd.concat([
        table_of(x, x, np.arange(60), "a", "g"), table_of(x, -x, np.arange(60), "b", "g"),
        table_of(x[:9], x[:9], np.arange(9), "c", "c"),
    ])  # fmt: skip
    table.iloc[:5, table.columns.get_loc("kind")] = "insertion"
    found = agreement(table, ["effect"], bootstrap=0)
    value = found[found["metric"] == "spearman"].set_index(["variants", "scope"])["value"]
    assert value["substitutions", "element:a"] == pytest.approx(1)
    assert value["all", "element:b"] == pytest.approx(-1)
    assert value["all", "group:g"] == pytest.approx(0, abs=1e-9)
    assert ("all", "element:c") not in value.index
    assert found["ci_low"].isna().all()


# --- elements ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def oracle(trained) -> TrainedRun:
    return TrainedRun(trained[1]["grammar_oracle"], ORACLE)


def test_an_element_ends_at_the_anchor_and_changes_move_what_is_farther_off(oracle):
    fitting = Fitting(oracle, parse_place("promoter"))
    background = np.tile(encode("ACGT"), (2, 375))
    sequence = encode("GGGGGCCCCC")
    there = fitting.codes(background, 10, sequence)
    assert decode(there[0, 990:1000]) == "GGGGGCCCCC"  # up to the TSS
    np.testing.assert_array_equal(np.delete(there[0], range(990, 1000)), np.delete(background[0], range(990, 1000)))  # fmt: skip
    np.testing.assert_array_equal(there[1], background[1])
    longer = fitting.codes(background, 10, encode("GGGGGACCCCC"))
    assert decode(longer[0, 989:1000]) == "GGGGGACCCCC"
    np.testing.assert_array_equal(longer[0, 1000:], background[0, 1000:])
    np.testing.assert_array_equal(longer[0, :989], background[0, 1:990])
    shorter = fitting.codes(background, 10, encode("GGGGCCCCC"))
    assert shorter[0, 0] == N
    np.testing.assert_array_equal(shorter[0, 1:991], background[0, :990])
    after = Fitting(oracle, Place("promoter", 20))
    longer = after.codes(background, 10, encode("GGGGGACCCCC"))
    assert decode(longer[0, 1020:1031]) == "GGGGGACCCCC"
    np.testing.assert_array_equal(longer[0, 1031:], background[0, 1030:1499])
    np.testing.assert_array_equal(longer[0, :1020], background[0, :1020])


def test_places_that_do_not_fit_are_refused(oracle):
    with pytest.raises(InputError, match="--place promoter:-169"):
        Fitting(oracle, Place())
    with pytest.raises(UnknownNameError, match="region of the run"):
        Fitting(oracle, Place("enhancer"))
    with pytest.raises(InputError, match="does not fit promoter"):
        Fitting(oracle, Place("promoter", 495)).first(10)
    with pytest.raises(InputError, match="REGION:START"):
        parse_place("promoter:x")


def test_elements_scored_by_the_oracle_give_the_truth(oracle, trained, tmp_path):
    """Substitutions, insertions and deletions within a gene: the generator says what each does."""
    import featurestore

    store = featurestore.open(trained[0] / "store.zarr")
    gene = store.genes("simulated_alpha").gene[3]
    background = store.features("simulated_alpha", "onehot", [gene])[0]
    wild = decode(background[0, 900:960])
    rows = [("e", 10, wild[9], "", -1.0), ("e", 20, "", "A", 1.0)]
    (tmp_path / "r.fa").write_text(f">e\n{wild}\n")
    (tmp_path / "m.tsv").write_text(
        "element\tpos\tref\talt\tvalue\n" + "".join(f"{e}\t{p}\t{r or '-'}\t{a or '-'}\t{v}\n" for e, p, r, a, v in rows)
    )  # fmt: skip
    measured = read_measured(tmp_path / "m.tsv", read_references(tmp_path / "r.fa"))
    scored = saturate_elements(
        {"e": wild}, Scorers([oracle]), quiet(), measured=measured, place=Place("promoter", -100),
        backgrounds={str(gene): background}, bootstrap=0,
    )  # fmt: skip
    table = scored.table
    assert len(table) == 180 + 2
    assert set(table["folds"]) == {"0 1 2 3 4"}
    for row in table.iloc[[0, 50, 179, 180, 181]].itertuples():
        ref, alt = row.ref.replace("-", ""), row.alt.replace("-", "")
        variant = wild[: row.position] + alt + wild[row.position + len(ref) :]
        whole = np.concatenate([background[0, :900], encode(variant), background[0, 960:]])
        whole = np.concatenate([np.full(9, N, np.uint8), whole])[-1500:]  # the TSS stays
        both = np.stack([background[0], whole]), np.repeat(background[1][None], 2, axis=0)
        score = Grammar().score(*both).mean(axis=1)
        assert row.delta == pytest.approx(score[1] - score[0], abs=1e-12)
    assert len(scored.measured) == 2


def test_a_region_of_a_gene_in_a_table_as_of_cagi5_is_scored_as_the_gene(trained, tmp_path):
    """Chromosomal positions, Value and Confidence; what ``--gene`` gives for the same changes."""
    import featurestore

    run, path = trained[1]["grammar_oracle"], trained[0] / "store.zarr"
    store = featurestore.open(path)
    table = store.genes("simulated_alpha")
    at = int(np.flatnonzero(table.strand > 0)[0])
    gene, first = str(table.gene[at]), int(table.tss[at]) - 100
    wild = decode(store.features("simulated_alpha", "onehot", [gene])[0, 0, 900:960])
    (tmp_path / "r.fa").write_text(f">region chr1:{first + 1}-{first + 60}\n{wild}\n")
    lines = [
        f"chr1\t{first + 1 + i}\t{ref}\t{alt}\t{i / 60}\t0.{i % 10}"
        for i, ref in enumerate(wild)
        for alt in "ACGT"
        if alt != ref
    ]
    text = "\n".join(["Chrom\tPos\tRef\tAlt\tValue\tConfidence", *lines])
    (tmp_path / "m.tsv").write_text(text)
    words = [
        "mutagenesis",
        "--model",
        str(run),
        "--learner",
        ORACLE,
        "--store",
        str(path),
        "--bootstrap",
        "0",
    ]
    own = ["--gene", gene, "--mutate", "promoter:-100--40", "--out", str(tmp_path / "gene")]
    placed = [
        "--sequences", str(tmp_path / "r.fa"), "--measured", str(tmp_path / "m.tsv"), "--min-confidence", "0.5",
        "--place", "promoter:-100", "--background", gene, "--out", str(tmp_path / "region"),
    ]  # fmt: skip
    for more in (own, placed):
        done = CliRunner().invoke(bench, [*words, *more])
        assert done.exit_code == 0, done.output
    expected, found = (
        pd.read_parquet(tmp_path / name / "mutagenesis.parquet").set_index(["position", "alt"])
        for name in ("gene", "region")
    )
    expected.index = expected.index.map(lambda key: (key[0] + 100, key[1]))
    assert len(found) == len(expected) == 180
    np.testing.assert_allclose(found["delta"], expected["delta"].loc[found.index], atol=1e-9)
    measured = pd.read_parquet(tmp_path / "region" / "measured.parquet")
    assert len(measured) == 90
    assert measured["Value"].tolist() == pytest.approx((measured["position"] / 60).tolist())


def test_bases_of_the_other_strand_are_refused(oracle, trained):
    import featurestore

    store = featurestore.open(trained[0] / "store.zarr")
    gene = store.genes("simulated_alpha").gene[3]
    background = store.features("simulated_alpha", "onehot", [gene])[0]
    fitting = Fitting(oracle, Place("promoter", -100), {str(gene): background})
    wild = decode(background[0, 900:960])
    fitting.check("region", wild)
    fitting.check(
        "region", "ACGT" * 15
    )  # an element of its own is put in the place of what is there
    with pytest.raises(InputError, match=f"{gene} has its reverse complement at promoter:-100"):
        fitting.check("region", wild[::-1].translate(str.maketrans("ACGT", "TGCA")))


def test_elements_in_vectors_are_those_of_a_store(trained, tmp_path):
    """An element that is a whole gene's promoter within that gene: features as the store holds them."""
    import featurestore
    from benchmarks.mutagenesis.elements import element_sources
    from benchmarks.predict.build import run_embedders

    run = TrainedRun(trained[1]["ridge"])
    store = featurestore.open(trained[0] / "store.zarr")
    codes = store.features("simulated_beta", "onehot")[:5]
    sources = element_sources(
        run.features, Fitting(run, Place("promoter")), codes, run_embedders(run, {})
    )
    np.testing.assert_array_equal(
        sources["kmer"].read(np.arange(5)), store.features("simulated_beta", "kmer")[:5]
    )


class FlatModel:
    """Probabilities that are the same everywhere: A 0.4, C 0.3, G 0.2, T 0.1."""

    window, mask_index, dtype, batch = 5, 2, "fp32", 4

    def load(self, device):
        pass

    def log_probabilities(self, codes):
        return np.tile(np.log([0.4, 0.3, 0.2, 0.1]), (len(codes), 1))


def test_zero_shot_scores_substitutions_and_tells_of_the_rest():
    variants = pd.concat([
        saturated("e", "ACGTA"),
        pd.DataFrame([("e", 2, "G", "", "ACTA")], columns=["element", "position", "ref", "alt", "sequence"]),
    ])  # fmt: skip
    table, notes = elements.score_zero_shot(
        ZeroShot("z", FlatModel()), {"e": "ACGTA"}, variants, quiet()
    )
    assert len(table) == 15
    p = dict(zip("ACGT", (0.4, 0.3, 0.2, 0.1), strict=True))
    np.testing.assert_allclose(
        table["delta"].to_numpy(float),
        [np.log(p[a] / p[r]) for r, a in zip(table["ref"], table["alt"], strict=True)],
    )
    assert notes == ["z: 1 insertions and deletions have no score"]
    assert [LETTERS[c] for c in encode("ACGTA")] == list("ACGTA")


def test_scores_meet_measurements_by_element_position_and_bases():
    scores = pd.DataFrame({
        "element": "e", "position": [0, 0, 1], "ref": ["A", "A", "-"], "alt": ["C", "G", "T"], "learner": "L",
        "delta": [1.0, 2.0, 3.0], "sd": np.nan, "unit": "u",
    })  # fmt: skip
    measured = pd.DataFrame({
        "element": "e", "group": "e", "position": [1, 0, 7], "cluster": 1, "ref": ["", "A", "C"],
        "alt": ["T", "G", "A"], "kind": "x", "sequence": "", "value": [10.0, 20.0, 30.0],
    })  # fmt: skip
    found = join_measured(scores, measured)
    assert found[["delta", "value"]].values.tolist() == [[3.0, 10.0], [2.0, 20.0]]


def test_the_command_writes_tables_and_a_page(trained, tmp_path):
    rng = np.random.default_rng(0)
    wild = decode(rng.integers(0, 4, 40).astype(np.uint8))
    (tmp_path / "r.fa").write_text(f">enh<b>\n{wild}\n")
    rows = [
        f"enh<b>\t{i + 1}\t{wild[i]}\t{b}\t{rng.normal():.3f}\n" for i in range(40) for b in "ACGT" if b != wild[i]
    ]  # fmt: skip
    with gzip.open(tmp_path / "m.tsv.gz", "wt") as file:
        file.write("contig\tpos1\tref\talt\tdelta_light\n" + "".join(rows))
    words = [
        "mutagenesis", "--model", trained[1]["ridge"], "--sequences", tmp_path / "r.fa", "--measured",
        tmp_path / "m.tsv.gz", "--place", "promoter:-60", "--bootstrap", "50", "--out", tmp_path / "out",
    ]  # fmt: skip
    done = CliRunner().invoke(bench, list(map(str, words)))
    assert done.exit_code == 0, done.output
    assert "SIMULATED" in done.output
    found = pd.read_parquet(tmp_path / "out" / "agreement.parquet")
    joined = pd.read_parquet(tmp_path / "out" / "measured.parquet")
    assert len(joined) == 120
    r = found[found["metric"] == "pearson"]["value"].iloc[0]
    assert r == pytest.approx(stats.pearsonr(joined["delta"], joined["delta_light"])[0])
    page = (tmp_path / "out" / "mutagenesis.html").read_text()
    assert "Simulated data" in page
    assert "enh&lt;b&gt;" in page
    assert "enh<b>" not in page
    assert page.count("<image") == 2  # scored and measured
    assert "measured: delta_light" in page


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--gene", "g"], "give --store with --gene"),
        (["--store", ".", "--gene", "g", "--measured", "m"], "--measured goes with --sequences. Measurements of a region of a gene"),
        (["--sequences", "r.fa", "--gene", "g"], "leave them out with --sequences"),
        (["--sequences", "r.fa", "--background", "g"], "give --store"),
        (["--sequences", "r.fa"], "nothing scores"),
    ],
    ids=["store", "measured", "gene", "background", "nobody"],
)  # fmt: skip
def test_what_does_not_go_together_is_told(words, told, tmp_path):
    done = CliRunner().invoke(bench, ["mutagenesis", "--out", str(tmp_path), *words])
    assert done.exit_code == 2
    assert told in done.output
