"""Feature batches against numpy's fancy indexing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.errors import InputError
from featurestore.sequence.iupac import ONE_HOT
from learners.batch import ArraySource, Block, FeatureBatch, concat, join_sources


def _batch(values: dict[str, np.ndarray], shard_rows: int = 5, **options: object) -> FeatureBatch:
    n = len(next(iter(values.values())))
    blocks = {}
    for i, (name, array) in enumerate(values.items()):
        kind = {2: "tabular", 3: "codes", 4: "bins"}[array.ndim]
        source = ArraySource(array, kind=kind, shard_rows=shard_rows + i)
        blocks[name] = Block(source, np.arange(n))
    ids = np.array([f"g{i}" for i in range(n)])
    return FeatureBatch(
        blocks,
        ids,
        np.full(n, "simulated"),
        ids,
        targets=np.arange(2.0 * n).reshape(n, 2),
        **options,  # type: ignore[arg-type]
    )


def _values(n: int, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "bins": rng.normal(size=(n, 2, 3, 2)).astype(np.float16),
        "codes": rng.integers(0, 15, (n, 2, 4)).astype(np.uint8),
        "table": rng.normal(size=(n, 3)),
    }


def _oracle(values: dict[str, np.ndarray], rows: np.ndarray) -> np.ndarray:
    parts = [values["bins"], ONE_HOT[values["codes"]], values["table"]]
    return np.concatenate([p.reshape(len(p), -1).astype(np.float64) for p in parts], axis=1)[rows]


rows_of = st.integers(1, 40).flatmap(
    lambda n: st.tuples(st.just(n), st.lists(st.integers(0, n - 1), max_size=60))
)


@settings(deadline=None, max_examples=60)
@given(rows_of, st.integers(1, 9), st.integers(1, 7), st.integers(0, 3))
def test_every_way_of_reading_agrees_with_fancy_indexing(
    sizes: tuple[int, list[int]], shard_rows: int, step: int, seed: int
) -> None:
    n, chosen = sizes
    values, index = _values(n, seed), np.array(chosen, np.int64)
    batch = _batch(values, shard_rows).take(index)
    expected = _oracle(values, index)
    assert np.array_equal(batch.array(np.float64), expected)
    assert batch.columns == expected.shape[1]
    assert batch.gene.tolist() == [f"g{i}" for i in chosen]
    for parts in (
        list(batch.iter(step)),
        list(batch.iter(step, shuffle_seed=seed)),
        list(batch.shards(step)),
    ):
        places = [i for part in parts for i in part.index.tolist()]
        assert sorted(places) == list(range(len(chosen)))
        for part in parts:
            assert 0 < len(part.index) <= step
            assert np.array_equal(batch.matrix(part, np.float64), expected[part.index])
            assert part.targets is not None
            assert np.array_equal(part.targets, batch.require_targets()[part.index])
    assert [i for part in batch.iter(step) for i in part.index] == list(range(len(chosen)))
    assert [i for part in batch.shards(step) for i in part.index] == batch.shard_order().tolist()
    for part in batch.shards():
        assert len({int(batch.blocks["bins"].rows[i]) // shard_rows for i in part.index}) == 1


@settings(deadline=None, max_examples=40)
@given(rows_of, rows_of, st.booleans())
def test_concat_is_numpy_concatenate(
    first: tuple[int, list[int]], second: tuple[int, list[int]], one_source: bool
) -> None:
    values = _values(first[0], 1), _values(second[0], 2)
    whole = [_batch(values[0]), _batch(values[1])]
    index = [np.array(first[1], np.int64), np.array(second[1], np.int64)]
    if one_source:
        whole[1], index[1] = whole[0], index[1] % first[0]
        values = (values[0], values[0])
    joined = concat(whole[0].take(index[0]), whole[1].take(index[1]))
    expected = np.concatenate([_oracle(v, i) for v, i in zip(values, index, strict=True)])
    assert np.array_equal(joined.array(np.float64), expected)
    back = np.arange(len(joined), dtype=np.int64)[::-1].copy()
    assert np.array_equal(joined.take(back).array(np.float64), expected[::-1])


def test_bins_that_no_gene_has_are_left_out() -> None:
    values = np.arange(24.0).reshape(2, 2, 3, 2)
    valid = np.array([[True, True, True], [True, False, False]])
    source = ArraySource(values, kind="bins", valid=valid)
    ids = np.array(["a", "b"])
    batch = FeatureBatch({"x": Block(source, np.arange(2))}, ids, ids, ids)
    assert np.array_equal(batch.array(np.float64), values[:, valid].reshape(2, -1))
    assert batch.columns == 8


SHORT = np.array([[True, False, False], [True, True, False]])
LONG = np.array([[True, True, False], [True, False, False]])


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [(SHORT, LONG, 4), (LONG, SHORT, 4), (None, SHORT, 6), (SHORT, None, 6), (None, None, 6)],
)
def test_joined_species_keep_every_bin_that_one_of_them_has(
    first: np.ndarray | None, second: np.ndarray | None, kept: int
) -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, 4, 2, 3, 2))
    sources = []
    for part, valid in zip(values, (first, second), strict=True):
        part *= 1 if valid is None else valid[..., None]
        sources.append(ArraySource(part, kind="bins", valid=valid))
    ids = np.array([f"g{i}" for i in range(8)])
    joined = join_sources(sources)
    found = FeatureBatch({"x": Block(joined, np.arange(8))}, ids, ids, ids).array(np.float64)
    assert found.shape == (8, 2 * kept)
    # Bins that are left out hold zeros in every gene, so nothing of any gene may be lost.
    whole = np.concatenate(values).reshape(8, -1)
    assert np.allclose(found @ found.T, whole @ whole.T)


def test_joined_species_of_two_widths_lose_no_digits() -> None:
    parts = [np.full((1, 1), 0.1, dtype) for dtype in (np.float16, np.float32)]
    for order in (parts, parts[::-1]):
        joined = join_sources([ArraySource(part) for part in order])
        found = joined.read(np.arange(2)).astype(np.float64)[:, 0]
        assert sorted(found) == sorted(float(p[0, 0]) for p in parts)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_by_name_and_gene(bad: float) -> None:
    values = _values(12, 0)
    values["bins"][7, 1, 2, 0] = bad
    batch = _batch(values)
    for read in (
        batch.array,
        lambda: list(batch.iter(4)),
        lambda: list(batch.iter(4, shuffle_seed=1)),
        lambda: list(batch.shards()),
    ):
        with pytest.raises(ValueError, match=r"feature 'bins' holds NaN .* 'g7'"):
            read()
    assert np.isfinite(batch.take(np.arange(7)).array()).all()


def test_a_mask_is_not_lost_where_the_other_batch_has_none() -> None:
    batch = _batch(_values(6, 0))
    mask = np.zeros((6, 2), bool)
    joined = concat(batch.with_mask(mask), batch)
    assert joined.mask is not None
    assert joined.mask.sum() == 12
    assert concat(batch, batch).mask is None


def test_batches_that_do_not_fit_are_refused() -> None:
    batch = _batch(_values(6, 0))
    with pytest.raises(ValueError, match="targets"):
        concat(batch, batch.without_targets())
    with pytest.raises(ValueError, match="features differ"):
        concat(batch, _batch({"other": np.zeros((6, 3))}))
    with pytest.raises(ValueError, match="differ in shape"):
        join_sources([ArraySource(np.zeros((2, 3))), ArraySource(np.zeros((2, 4)))])
    with pytest.raises(ValueError, match="no targets"):
        batch.without_targets().require_targets()


def test_select_targets_takes_their_names_along() -> None:
    batch = _batch(_values(4, 0), target_names=("leaf", "root"), mask=np.eye(4, 2, dtype=bool))
    root = batch.select_targets(np.array([1]))
    assert root.target_names == ("root",)
    assert root.require_targets()[:, 0].tolist() == [1, 3, 5, 7]
    assert root.mask is not None
    assert root.mask[:, 0].tolist() == [False, True, False, False]


def test_an_infinite_target_is_refused() -> None:
    from learners.targets import observed

    batch = _batch(_values(4, 0))
    labels = batch.require_targets().copy()
    labels[2, 1] = np.nan
    with pytest.raises(InputError, match="'g2', target 1"):
        observed(batch.with_targets(labels))
    mask = np.isfinite(labels)
    assert np.array_equal(observed(batch.with_targets(labels).with_mask(mask)), mask)
