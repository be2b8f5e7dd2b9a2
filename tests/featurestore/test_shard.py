"""Shards: what is written is what zarr-python, tensorstore and our reader read, by every way; damage is found."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import pickle
import threading
from dataclasses import replace

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec

from featurestore.errors import DamagedStoreError
from featurestore.schema import spec_of
from featurestore.store import kernels as kernels_module
from featurestore.store import opened
from featurestore.store.arrays import StoredArray
from featurestore.store.commit import WrittenFile, replacing
from featurestore.store.digest import hash_bytes, hash_file
from featurestore.store.files import LocalFiles
from featurestore.store.manifest import Manifest
from featurestore.store.shard import write_block, write_packed, write_rows
from featurestore.store.templates import chunk_path, create_array

EMBEDDING = replace(spec_of("<embedder>/<output>"), fill=0)  # 0 suits every dtype tried here
PACKED = replace(spec_of("variants/<set>/<embedder>/<output>"), fill=0)
WAYS = ["compiled", "python", "unmapped"]


def _use(way, patch):
    """Read and write in one of three ways."""
    patch.setenv("MERISTEM_KERNELS", "off" if way == "python" else "on")
    if way == "unmapped":
        patch.setattr(opened, "_mapped", lambda *_: None)
    if way != "python" and kernels_module.kernels() is None:
        pytest.skip("needs compiled kernels")


@pytest.fixture(params=["compiled", "python"])
def way(request, monkeypatch):
    if request.param == "compiled":
        try:
            _use("compiled", monkeypatch)
        except OSError as error:
            pytest.skip(f"needs compiled kernels: {error}")
    else:
        _use("python", monkeypatch)
    return request.param


def _write(root, values, shard_rows):
    create_array(root, "a", EMBEDDING, values.shape, dtype=values.dtype.name, chunk_rows=shard_rows)
    files = {}
    for shard in range(-(-len(values) // shard_rows)):
        path = chunk_path(root, "a", (shard, *(0,) * (values.ndim - 1)))
        files[path.relative_to(root).as_posix()] = write_rows(
            path, values[shard * shard_rows : (shard + 1) * shard_rows], shard_rows, durable=False
        )
    return files


def _stored(root, verify="first", files=None, **changed):
    metadata = json.loads((root / "a" / "zarr.json").read_text()) | changed
    return StoredArray(LocalFiles(root), "a", metadata, Manifest(files or {}, {}), verify)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 40),
    row=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)),
    shard_rows=st.integers(1, 17),
    dtype=st.sampled_from(["float16", "float32", "float64", "bool", "uint8", "int8", "int64", "uint16"]),
    verify=st.sampled_from(["first", "always", "never"]),
    chosen=st.sampled_from(WAYS),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_way_of_reading_gives_what_was_written(
    tmp_path_factory, n, row, shard_rows, dtype, verify, chosen, seed
):
    root = tmp_path_factory.mktemp("s")
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 255, (n, *row)).astype(dtype)
    with pytest.MonkeyPatch.context() as patch:
        _use(chosen, patch)
        files = _write(root, values, shard_rows)
        np.testing.assert_array_equal(zarr.open_array(root, path="a", mode="r")[...], values)
        rows = rng.integers(0, n, rng.integers(0, 2 * n + 1))
        stored = _stored(root, verify, files)
        assert stored.layout == "rows"
        for _ in range(2):
            got = stored.take(rows)
            np.testing.assert_array_equal(got, values[rows])
            assert got.dtype == values.dtype
            assert got.flags.c_contiguous
        np.testing.assert_array_equal(stored.read(), values)
        out = np.empty((len(rows), *row), dtype)
        stored.take_into(rows, out)
        np.testing.assert_array_equal(out, values[rows])
    for name, file in files.items():
        assert hash_file(root / name, file) == file
        data = (root / name).read_bytes()
        assert hash_file(root / name) == WrittenFile(len(data), hashlib.sha256(data).hexdigest())


@settings(max_examples=25, deadline=None)
@given(
    n=st.integers(1, 300), width=st.integers(1, 9), shard_chunks=st.integers(1, 3),
    chosen=st.sampled_from(WAYS), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_inner_chunks_of_many_rows_read_the_same(
    tmp_path_factory, n, width, shard_chunks, chosen, seed
):
    root = tmp_path_factory.mktemp("s")
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((n, width)).astype(np.float16)
    size = 64 * shard_chunks
    with pytest.MonkeyPatch.context() as patch:
        _use(chosen, patch)
        create_array(root, "a", PACKED, values.shape, dtype="float16", chunk_rows=size)
        for shard in range(-(-n // size)):
            part = values[shard * size : (shard + 1) * size]
            write_packed(chunk_path(root, "a", (shard, 0)), part, size, 64, 0, durable=False)
        np.testing.assert_array_equal(zarr.open_array(root, path="a", mode="r")[...], values)
        stored = _stored(root)
        assert stored.layout == "rows"
        for rows in (rng.integers(0, n, 50), np.arange(n), np.arange(n)[::-1], np.array([n - 1])):
            np.testing.assert_array_equal(stored.take(rows), values[rows])
        np.testing.assert_array_equal(stored.read(), values)
