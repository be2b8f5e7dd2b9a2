from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from featurestore.errors import DamagedStoreError
from featurestore.schema import spec_of
from featurestore.store.arrays import StoredArray
from featurestore.store.files import LocalFiles
from featurestore.store.manifest import Manifest
from featurestore.store.shard import read_rows, write_block, write_rows
from featurestore.store.templates import chunk_path, create_array

EMBEDDING = replace(spec_of("<embedder>/<output>"), fill=0)  # 0 suits every dtype tried here


def _write(root, values, shard_rows):
    create_array(root, "a", EMBEDDING, values.shape, dtype=values.dtype.name, chunk_rows=shard_rows)
    for shard in range(-(-len(values) // shard_rows)):
        path = chunk_path(root, "a", (shard, *(0,) * (values.ndim - 1)))
        write_rows(path, values[shard * shard_rows : (shard + 1) * shard_rows], shard_rows)


def _stored(root):
    metadata = json.loads((root / "a" / "zarr.json").read_text())
    return StoredArray(LocalFiles(root), "a", metadata, Manifest({}, {}))


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 40),
    row=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)),
    shard_rows=st.integers(1, 17),
    dtype=st.sampled_from(["float16", "float32", "uint8", "int64"]),
    seed=st.integers(0, 2**32 - 1),
)
def test_zarr_python_reads_what_the_shard_writer_wrote(
    tmp_path_factory, n, row, shard_rows, dtype, seed
):
    root = tmp_path_factory.mktemp("s")
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 255, (n, *row)).astype(dtype)
    _write(root, values, shard_rows)
    theirs = zarr.open_array(root, path="a", mode="r")
    np.testing.assert_array_equal(theirs[...], values)
    rows = rng.integers(0, n, 2 * n)
    stored = _stored(root)
    assert stored.layout == "rows"
    got = stored.take(rows)
    np.testing.assert_array_equal(got, values[rows])
    assert got.flags.c_contiguous
    np.testing.assert_array_equal(stored.read(), values)


@settings(max_examples=25, deadline=None)
@given(bit=st.integers(0, 10**9), select=st.integers(1, 6))
def test_any_flipped_bit_in_a_row_or_the_index_raises(tmp_path_factory, bit, select):
    path = tmp_path_factory.mktemp("s") / "0"
    values = np.arange(6 * 10, dtype=np.float16).reshape(6, 10)
    write_rows(path, values, 8)
    raw = bytearray(path.read_bytes())
    bit %= len(raw) * 8
    raw[bit // 8] ^= 1 << bit % 8
    path.write_bytes(raw)
    out = np.empty((6, 10), "<f2")
    with pytest.raises(DamagedStoreError, match="fs verify"):
        read_rows(path, np.arange(6), 6, 8, out, np.arange(6))


def test_a_short_or_missing_shard_raises(tmp_path):
    path = tmp_path / "0"
    write_rows(path, np.zeros((3, 4), np.float16), 4)
    out = np.empty((1, 4), "<f2")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedStoreError, match="bytes where"):
        read_rows(path, np.array([0]), 3, 4, out, np.array([0]))
    path.unlink()
    with pytest.raises(DamagedStoreError, match="missing"):
        read_rows(path, np.array([0]), 3, 4, out, np.array([0]))


def test_no_temporary_file_stays(tmp_path):
    write_rows(tmp_path / "0", np.zeros((3, 4), np.float16), 4)
    write_block(tmp_path / "1", np.zeros((3, 4), np.uint8), 8, 0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1"]
