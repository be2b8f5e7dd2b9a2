"""Targets against plain numpy; feature expressions and what learners may take."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.inputs.features import PooledSource, Term, default_features, parse, resolve
from benchmarks.inputs.targets import is_log_unit, make_targets
from featurestore.build.engine import build
from featurestore.errors import InputError, UnknownNameError
from featurestore.store.reader import open_store
from learners.base import LearnerInfo
from learners.batch import ArraySource, join_sources


@pytest.mark.parametrize("name", ["median", "mean", "max"])
def test_summaries_over_samples(fakes, name):
    store = fakes.make_store(50)
    value = store.expression("alpha").value
    value[3, 1] = np.nan
    value[4] = np.nan
    targets = make_targets(store, ["alpha"], name)
    assert targets.unit == "log10(1+TPM)"
    for i in range(50):
        present = [float(v) for v in value[i] if not np.isnan(v)]
        if not present:
            assert np.isnan(targets.value[i, 0])
            continue
        expected = {"median": np.median, "mean": np.mean, "max": np.max}[name](present)
        assert targets.value[i, 0] == pytest.approx(np.log10(1 + expected), rel=1e-12)


def test_each_sample_tissue_and_one_sample(fakes):
    store = fakes.make_store(20)
    value = store.expression("alpha").value.astype(float)
    each = make_targets(store, ["alpha"], "each")
    assert each.names == ("s0", "s1", "s2")
    np.testing.assert_allclose(each.value, np.log10(1 + value))
    one = make_targets(store, ["alpha"], "sample:s1")
    np.testing.assert_allclose(one.value[:, 0], np.log10(1 + value[:, 1]))
    leaf = make_targets(store, ["alpha"], "tissue:leaf")
    np.testing.assert_allclose(leaf.value[:, 0], np.log10(1 + np.median(value[:, :2], axis=1)))


def test_units_that_are_logs_are_used_as_they_are(fakes):
    store = fakes.make_store(20)
    view = store.expression("alpha")
    view.unit = "log2"
    view.value[0, :] = -3
    targets = make_targets(store, ["alpha"], "mean")
    assert targets.unit == "log2"
    np.testing.assert_allclose(targets.value[:, 0], view.value.astype(float).mean(axis=1))
    units = {"log2(1+TPM)": True, "Log10": True, "ln(1+x)": True, "TPM": False, "lncRNA": False}
    assert {unit: is_log_unit(unit) for unit in units} == units
    view.unit = "TPM"
    with pytest.raises(InputError, match='declare unit = "log2"'):
        make_targets(store, ["alpha"], "mean")


def test_samples_of_mutant_lines_are_left_out_and_it_is_said(fakes):
    store = fakes.make_store(20)
    view = store.expression("alpha")
    view.line, view.control = np.array(["", "wild", "m1"]), np.array(["0", "1", "0"])
    targets = make_targets(store, ["alpha"], "mean")
    expected = np.log10(1 + view.value[:, :2].astype(float).mean(axis=1))
    np.testing.assert_allclose(targets.value[:, 0], expected)
    assert "1 of 3 samples are of mutant lines" in targets.notes[0]
    view.line, view.control = np.array(["a", "b", "c"]), np.array(["0", "0", "0"])
    assert not make_targets(store, ["alpha"], "mean").notes


def test_species_with_other_units_or_without_expression(fakes):
    store = fakes.make_store(10, species=2)
    store.expression("beta").unit = "FPKM"
    with pytest.raises(InputError, match="differ in unit"):
        make_targets(store, ["alpha", "beta"], "mean")
    store.held["beta"].expression = None
    targets = make_targets(store, ["alpha", "beta"], "mean")
    assert np.isnan(targets.value[10:]).all()
    assert "beta has no expression" in targets.notes[0]
    with pytest.raises(InputError, match="no expression for beta"):
        make_targets(store, ["beta"], "mean")


@pytest.mark.parametrize("target", ["medain", "sample:", "tissue:bark", "sample:s9"])
def test_unknown_targets_name_the_nearest_or_all(fakes, target):
    with pytest.raises(InputError, match=r"median|leaf|s1"):
        make_targets(fakes.make_store(10), ["alpha"], target)


names = st.from_regex(r"[a-z][a-z0-9_]{0,6}", fullmatch=True)
terms = st.builds(Term, names, st.one_of(st.just(""), names), st.sampled_from(["", "pooled"]))


@given(st.lists(terms, min_size=1, max_size=4, unique=True))
def test_parse_is_the_inverse_of_writing(expected):
    assert parse("+".join(map(str, expected))) == expected


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "not of the form"), ("kmer+", "not of the form"), ("kmer:", "not of the form"),
        ("a.b.c", "not of the form"), ("kmer:poled", "Did you mean 'pooled'"),
        ("kmer+kmer", "stands twice"),
    ],
)  # fmt: skip
def test_bad_expressions_say_what_is_wrong(text, match):
    with pytest.raises(InputError, match=match):
        parse(text)


def test_pooled_is_the_mean_of_valid_bins():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(7, 2, 4, 3)).astype(np.float16)
    valid = np.array([[True, True, True, True], [True, True, False, False]])
    values[:, 1, 2:] = np.nan
    pooled = PooledSource(ArraySource(values, kind="bins", valid=valid))
    assert (pooled.kind, pooled.shape, pooled.dims) == ("tabular", (2, 3), ("region", "channel"))
    rows = np.array([4, 0, 4])
    found = pooled.read(rows)
    for i, row in enumerate(rows):
        for region in range(2):
            mean = values[row, region][valid[region]].astype(np.float64).mean(axis=0)
            np.testing.assert_allclose(found[i, region], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(pooled.read(np.array([0])), pooled.read(np.arange(7))[:1])


def test_pooled_looks_at_the_bins_that_each_gene_has():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(8, 2, 5, 3)).astype(np.float32)
    count = rng.integers(0, 6, (8, 2))
    has = np.arange(5) < count[..., None]
    values[~has] = np.nan
    sources = [ArraySource(values[:5], kind="bins", bin_valid=has[:5])]
    sources.append(ArraySource(values[5:], kind="bins", bin_valid=has[5:]))
    found = PooledSource(join_sources(sources)).read(np.arange(8)[::-1])[::-1]
    for gene, region in np.ndindex(8, 2):
        kept = values[gene, region, : count[gene, region]]
        mean = kept.mean(axis=0) if len(kept) else np.zeros(3)
        np.testing.assert_allclose(found[gene, region], mean, rtol=1e-5, atol=1e-6)


def test_pooled_features_of_a_store_do_not_tell_how_long_a_region_is(tmp_path):
    # One 2-mer repeated: every 100-bp bin of every gene has the same k-mers, whatever the length.
    lengths = {f"g{i}": 100 * (1 + i % 4) for i in range(12)}
    rows = [f"{gene},{'AC' * (n // 2)}" for gene, n in lengths.items()]
    (tmp_path / "s.csv").write_text("\n".join(["gene,promoter", *rows]) + "\n")
    (tmp_path / "dataset.toml").write_text(
        'embedders = ["kmer"]\n[regions]\nbin = 100\n'
        'promoter = { anchor = "tss", upstream = 400, downstream = 0 }\n'
        '[species.simulated]\nsequences = "s.csv"\n'
    )
    build(tmp_path / "dataset.toml", tmp_path / "store.zarr")
    store = open_store(tmp_path / "store.zarr")
    pooled = resolve(store, ["simulated"], "kmer:pooled").sources["kmer:pooled"]
    found = pooled.read(np.arange(12))
    one_bin = store.features("simulated", "kmer")[:, 0, 0].astype(np.float32)
    assert np.ptp(found, axis=0).max() == 0
    np.testing.assert_allclose(found[:, 0], one_bin, rtol=1e-3)


def test_resolve_joins_species_and_says_what_is_unusable(fakes):
    store = fakes.make_store(10, species=2)
    store.held["beta"].status["kmer"][2] = False
    found = resolve(store, ["alpha", "beta"], "kmer+onehot")
    assert list(found.sources) == ["kmer", "onehot"]
    assert len(found.sources["kmer"]) == 20
    np.testing.assert_array_equal(np.flatnonzero(~found.usable), [12])
    assert found.reason[12] == "kmer: promoter: no_sequence"
    beta = store.feature_source("beta", "kmer").values
    np.testing.assert_array_equal(found.sources["kmer"].read(np.array([13, 11])), beta[[3, 1]])
    with pytest.raises(UnknownNameError, match="Did you mean 'kmer'"):
        resolve(store, ["alpha"], "kmerr")
    with pytest.raises(InputError, match="only binned features"):
        resolve(store, ["alpha"], "onehot:pooled")


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        ({"none"}, ""), ({"codes"}, "onehot"), ({"tabular"}, "kmer"), ({"bins"}, "kmer"),
        ({"tabular", "bins", "codes"}, "kmer"),
    ],
)  # fmt: skip
def test_default_features_suit_the_learner(fakes, inputs, expected):
    info = LearnerInfo("x", frozenset(inputs), "")
    assert default_features(fakes.make_store(5), ["alpha"], info) == expected


def test_no_fitting_feature_gives_the_line_that_makes_one(fakes):
    store = fakes.make_store(5)
    del store.held["alpha"].sources["onehot"]
    with pytest.raises(InputError, match="--embedder onehot"):
        default_features(store, ["alpha"], LearnerInfo("x", frozenset({"codes"}), ""))


def test_genes_that_lack_a_region_are_told(tmp_path):
    """A missing region reads zeros, which a learner can learn from: whoever reads the score must know."""
    import featurestore
    from benchmarks.inputs.features import resolve
    from featurestore.build.engine import build

    (tmp_path / "p.fa").write_text("".join(f">g{i}\n{'ACGT' * 5}\n" for i in range(4)))
    (tmp_path / "t.fa").write_text("".join(f">g{i}\n{'GGCA' * 5}\n" for i in range(3)))
    (tmp_path / "dataset.toml").write_text(
        '[regions]\npromoter = { anchor = "tss", upstream = 20, downstream = 0 }\n'
        'terminator = { anchor = "tts", upstream = 0, downstream = 20 }\nbin = 10\n'
        '[species.s]\nsequences = { promoter = "p.fa", terminator = "t.fa" }\n'
    )
    build(tmp_path / "dataset.toml", tmp_path / "s.zarr")
    store = featurestore.open(tmp_path / "s.zarr")
    found = resolve(store, ["s"], "kmer")
    assert found.usable.all()
    assert found.notes == (
        "s: 1 genes lack terminator; it reads zeros, so that a region is missing is itself a feature",
    )
    assert "kmer" in repr(store)
