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
    dtype=st.sampled_from(
        ["float16", "float32", "float64", "bool", "uint8", "int8", "int64", "uint16"]
    ),
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


@settings(max_examples=30, deadline=None)
@given(
    bit=st.integers(0, 10**9),
    verify=st.sampled_from(["first", "always"]),
    chosen=st.sampled_from(WAYS),
)
def test_any_flipped_bit_in_a_row_its_checksum_or_the_index_is_found(
    tmp_path_factory, bit, verify, chosen
):
    root = tmp_path_factory.mktemp("s")
    values = np.arange(6 * 10, dtype=np.float16).reshape(6, 10)
    with pytest.MonkeyPatch.context() as patch:
        _use(chosen, patch)
        ((name, file),) = _write(root, values, 8).items()
        raw = bytearray((root / name).read_bytes())
        bit %= len(raw) * 8
        raw[bit // 8] ^= 1 << bit % 8
        (root / name).write_bytes(raw)
        assert hash_file(root / name, file) != file
        assert hash_bytes(bytes(raw), file) != file
        with pytest.raises(DamagedStoreError, match="fs verify"):
            _stored(root, verify, {name: file}).read()
        if not chosen.startswith("un"):  # without a manifest: by checksums and index alone
            with pytest.raises(DamagedStoreError, match="fs verify"):
                _stored(root, verify).take(np.arange(6))


def test_a_digest_of_rows_is_of_the_form_that_the_documentation_gives(tmp_path, way):
    values = np.arange(6 * 10, dtype=np.float16).reshape(6, 10)
    file = write_rows(tmp_path / "0", values, 8)
    raw = (tmp_path / "0").read_bytes()
    without = b"".join(raw[24 * i + 20 : 24 * i + 24] for i in range(6)) + raw[6 * 24 :]
    assert file == WrittenFile(len(raw), f"rows:6x20:{hashlib.sha256(without).hexdigest()}")
    assert hash_file(tmp_path / "0", file) == file
    assert hash_file(tmp_path / "0", WrittenFile(9, "rows:999999999999x20:" + "0" * 64)) != file
    (tmp_path / "0").write_bytes(raw[:-1])
    assert hash_file(tmp_path / "0", file) != file


@settings(max_examples=20, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 5), st.sampled_from([1, 3, 700_000, 1_048_576, 1_048_577, 2_500_000])),
    cut=st.integers(0, 3_000_000),
)  # fmt: skip
def test_digests_of_rows_larger_than_a_piece(tmp_path_factory, sizes, cut):
    path = tmp_path_factory.mktemp("s") / "0"
    n, size = sizes
    values = np.random.default_rng(cut).integers(0, 255, (n, size)).astype(np.uint8)
    files = []
    for mode in ("on", "off"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MERISTEM_KERNELS", mode)
            files.append(write_rows(path, values, n, durable=False))
        assert hash_file(path, files[0]) == files[0]
    assert files[0] == files[1]
    raw = bytearray(path.read_bytes())
    raw[cut % len(raw)] ^= 4
    path.write_bytes(raw)
    assert hash_file(path, files[0]) != files[0]


def test_a_short_or_missing_shard_raises(tmp_path, way):
    ((name, file),) = _write(tmp_path, np.zeros((3, 4), np.float16), 4).items()
    path = tmp_path / name
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DamagedStoreError, match="bytes where"):
        _stored(tmp_path, files={name: file}).take(np.array([0]))
    with pytest.raises(DamagedStoreError, match="index"):
        _stored(tmp_path).take(np.array([0]))
    path.unlink()
    for read in (lambda s: s.take(np.array([0])), lambda s: s.read()):
        with pytest.raises(DamagedStoreError, match="missing"):
            read(_stored(tmp_path))


def test_rows_outside_the_array_raise_whatever_is_open(tmp_path, way):
    _write(tmp_path, np.zeros((9, 4), np.float16), 4)
    stored = _stored(tmp_path)
    for _ in range(2):
        for rows in ([9], [-1], [0, 8, 9], [2**62]):
            with pytest.raises(IndexError, match="of 9"):
                stored.take(np.array(rows))
        stored.read()
    assert stored.take(np.zeros(0, np.int64)).shape == (0, 4)


def test_take_into_wants_a_fitting_array(tmp_path, way):
    _write(tmp_path, np.zeros((9, 4), np.float16), 4)
    stored, rows = _stored(tmp_path), np.arange(3)
    frozen = np.zeros((3, 4), np.float16)
    frozen.flags.writeable = False
    for out in (
        np.zeros((2, 4), np.float16), np.zeros((3, 4), np.float32), np.zeros((4, 3), np.float16).T, frozen,
    ):  # fmt: skip
        with pytest.raises(ValueError, match="take_into needs"):
            stored.take_into(rows, out)


def test_a_file_that_changes_after_its_first_reading_is_verified_again(tmp_path, way, monkeypatch):
    monkeypatch.setattr(opened, "RECHECK", -1.0)
    values = np.arange(12, dtype=np.float16).reshape(3, 4)
    ((name, _),) = _write(tmp_path, values, 4).items()
    stored = _stored(tmp_path)
    stored.read()
    raw = bytearray((tmp_path / name).read_bytes())
    raw[3] ^= 1
    os.utime(tmp_path / name, ns=(1, 1))
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(DamagedStoreError, match="row 0 fails its checksum"):
        stored.read()
    (tmp_path / name).unlink()  # as a build does that puts another store in its place
    with pytest.raises(DamagedStoreError):
        _stored(tmp_path).read()


def test_what_is_mapped_stays_readable_when_its_file_goes(tmp_path, way, monkeypatch):
    monkeypatch.setattr(opened, "RECHECK", -1.0)
    values = np.arange(12, dtype=np.float16).reshape(3, 4)
    ((name, _),) = _write(tmp_path, values, 4).items()
    stored = _stored(tmp_path)
    stored.read()
    (tmp_path / name).unlink()
    np.testing.assert_array_equal(stored.take(np.array([2, 0])), values[[2, 0]])


def test_few_shards_are_open_at_a_time(tmp_path, way, monkeypatch):
    monkeypatch.setattr(opened, "MOST", 4)
    values = np.arange(400, dtype=np.int64).reshape(100, 4)
    _write(tmp_path, values, 3)
    opened.tables.clear()
    stored = _stored(tmp_path)
    rng = np.random.default_rng(0)
    for _ in range(5):
        rows = rng.integers(0, 100, 60)
        np.testing.assert_array_equal(stored.take(rows), values[rows])
        np.testing.assert_array_equal(stored.read(), values)
        assert len(opened.tables) <= 5
    with open("/proc/self/maps") as maps:
        assert sum(str(tmp_path) in line for line in maps) <= 5
    del stored
    assert len(opened.tables) == 0


def _anew(stored):
    return pickle.loads(pickle.dumps(stored))  # noqa: S301 - our own bytes


def _sum_of(stored, rows):
    return int(stored.take(rows).astype(np.int64).sum())


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_read_an_array_that_is_open_here(tmp_path, method):
    values = np.arange(400, dtype=np.int64).reshape(100, 4)
    _write(tmp_path, values, 7)
    stored = _stored(tmp_path)
    stored.read()
    rows = np.arange(0, 100, 3)
    with opened.tables.lock:  # as if another thread were at it just when this one forks
        context = multiprocessing.get_context(method)
        with context.Pool(1) as pool:
            assert pool.apply(_sum_of, (stored, rows)) == values[rows].sum()
            assert pool.apply(_sum_of, (_anew(stored), rows)) == values[rows].sum()
    assert _sum_of(stored, rows) == values[rows].sum()


def test_threads_read_at_once_while_shards_come_and_go(tmp_path, way, monkeypatch):
    monkeypatch.setattr(opened, "MOST", 3)
    values = np.arange(4000, dtype=np.int64).reshape(200, 20)
    _write(tmp_path, values, 5)
    stored, wrong = _stored(tmp_path), []

    def work(seed):
        rng = np.random.default_rng(seed)
        for _ in range(30):
            rows = rng.integers(0, 200, 20)
            if not np.array_equal(stored.take(rows), values[rows]):
                wrong.append(rows)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _foreign(root, values, shard_rows, inner_rows=1, index_location="end", **options):
    serializer = BytesCodec(endian="little" if values.dtype.itemsize > 1 else None)
    sharding = ShardingCodec(
        chunk_shape=(inner_rows, *values.shape[1:]), codecs=[serializer, Crc32cCodec()],
        index_codecs=[BytesCodec(endian="little"), Crc32cCodec()], index_location=index_location,
    )  # fmt: skip
    return zarr.create_array(
        zarr.storage.LocalStore(root), name="a", shape=values.shape, dtype=values.dtype,
        chunks=(shard_rows, *values.shape[1:]), serializer=sharding, compressors=None, filters=None,
        fill_value=0, dimension_names=("x", "y")[: values.ndim], **options,
    )  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(1, 30), shard_chunks=st.integers(1, 5), inner=st.integers(1, 3),
    location=st.sampled_from(["end", "start"]), chosen=st.sampled_from(WAYS),
    holes=st.booleans(), seed=st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_what_zarr_python_wrote_reads_the_same(
    tmp_path_factory, n, shard_chunks, inner, location, chosen, holes, seed
):
    root = tmp_path_factory.mktemp("s")
    rng = np.random.default_rng(seed)
    values = rng.integers(1, 99, (n, 4)).astype(np.float32)
    if holes:
        values[rng.random(n) < 0.5] = 0  # zarr-python leaves such chunks out
    with pytest.MonkeyPatch.context() as patch:
        _use(chosen, patch)
        _foreign(root, values, inner * shard_chunks, inner, location)[...] = values
        files = {
            p.relative_to(root).as_posix(): hash_file(p)
            for p in (root / "a" / "c").rglob("*")
            if p.is_file()
        }
        stored = _stored(root, files=files)
        rows = rng.integers(0, n, 20)
        if len(files) < -(-n // (inner * shard_chunks)):
            return  # a whole shard of fill values: our stores have none, see the next test
        np.testing.assert_array_equal(stored.take(rows), values[rows])
        np.testing.assert_array_equal(stored.read(), values)
        out = np.empty((20, 4), np.float32)
        stored.take_into(rows, out)
        np.testing.assert_array_equal(out, values[rows])


def test_what_tensorstore_wrote_reads_the_same_and_the_other_way_round(tmp_path, way):
    tensorstore = pytest.importorskip("tensorstore")
    rng = np.random.default_rng(0)
    values = rng.integers(1, 99, (23, 6)).astype(np.int32)
    _foreign(tmp_path / "theirs", values, 8)
    spec = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(tmp_path / "theirs" / "a")},
    }
    tensorstore.open(spec).result()[...] = values
    rows = rng.integers(0, 23, 40)
    np.testing.assert_array_equal(_stored(tmp_path / "theirs").take(rows), values[rows])
    _write(tmp_path / "ours", values, 8)
    spec["kvstore"]["path"] = str(tmp_path / "ours" / "a")
    np.testing.assert_array_equal(tensorstore.open(spec).result().read().result(), values)


def test_shards_in_another_order_are_read_by_their_index(tmp_path, way):
    """As zarrs writes them: inner chunks in whatever order they were done."""
    values = np.arange(20, dtype=np.float32).reshape(5, 4)
    ((name, _),) = _write(tmp_path, values, 5).items()
    path = tmp_path / name
    raw = path.read_bytes()
    rows = [raw[20 * i : 20 * i + 20] for i in range(5)]
    order = [3, 0, 4, 1, 2]
    index = np.empty((5, 2), "<u8")
    for place, row in enumerate(order):
        index[row] = 20 * place, 20
    tail = index.tobytes()
    path.write_bytes(b"".join(rows[i] for i in order) + tail + _crc(tail))
    stored = _stored(tmp_path, files={name: hash_file(path)})
    np.testing.assert_array_equal(stored.take(np.array([4, 0, 3])), values[[4, 0, 3]])
    np.testing.assert_array_equal(stored.read(), values)


def _crc(data):
    return kernels_module.crc32c(np.frombuffer(data, np.uint8)).to_bytes(4, "little")


@pytest.mark.parametrize(
    "entry", [(2**63, 20), (2**64 - 20, 20), (0, 20), (40, 2**63), (41, 20), (90, 20), (20, 16)]
)
def test_an_index_that_points_nowhere_is_damage(tmp_path, way, entry):
    values = np.arange(20, dtype=np.float32).reshape(5, 4)
    ((name, _),) = _write(tmp_path, values, 5).items()
    path = tmp_path / name
    raw = path.read_bytes()
    index = np.frombuffer(raw[100:180], "<u8").reshape(5, 2).copy()
    index[1] = entry
    path.write_bytes(raw[:100] + index.tobytes() + _crc(index.tobytes()))
    with pytest.raises(DamagedStoreError, match="its index points"):
        _stored(tmp_path, files={name: hash_file(path)}).take(np.array([1]))


@pytest.mark.parametrize(
    "changed",
    [
        {"shape": [2**40, 4]},
        {"shape": [2**40, 2**30]},
        {"shape": [-1, 4]},
        {"shape": [5.0, 4]},
        {"shape": [True, 4]},
        {"shape": "54"},
        {"shape": [5]},
        {"shape": [5, 2**33], "chunk_grid": {"configuration": {"chunk_shape": [5, 2**33]}}},
        {"shape": [5, 4, 1]},
        {"data_type": "object"},
        {"data_type": "float128"},
        {"data_type": ["float32"]},
        {"chunk_grid": {"configuration": {"chunk_shape": [0, 4]}}},
        {"chunk_grid": {"configuration": {"chunk_shape": [2**62, 4]}}},
        {"codecs": 7},
        {"codecs": [{"name": "sharding_indexed", "configuration": {"chunk_shape": [0, 4]}}]},
        {"codecs": [{"name": "bytes"}, {"name": "crc32c"}], "shape": [2**36, 4],
         "chunk_grid": {"configuration": {"chunk_shape": [2**36, 4]}}},
    ],
)  # fmt: skip
def test_metadata_that_lies_about_sizes_costs_no_memory(tmp_path, way, changed):
    values = np.arange(20, dtype=np.float32).reshape(5, 4)
    files = _write(tmp_path, values, 5)
    if "codecs" in changed and isinstance(changed["codecs"], list) and len(changed["codecs"]) == 1:
        inner = json.loads((tmp_path / "a" / "zarr.json").read_text())["codecs"][0]["configuration"]
        changed["codecs"][0]["configuration"] = inner | {"chunk_shape": [0, 4]}
    for read in (
        lambda s: s.read(),
        lambda s: s.take(np.array([0])),
        lambda s: s.take(np.array([4, 1])),
    ):
        try:
            found = read(_stored(tmp_path, files=files, **changed))
        except (DamagedStoreError, IndexError):
            continue
        # What does not need what is wrong may be right.
        np.testing.assert_array_equal(found, values[[0] if len(found) == 1 else [4, 1]])


def test_bytes_in_the_other_order_are_not_taken_for_ours(tmp_path, way):
    values = np.arange(20, dtype=np.float32).reshape(5, 4)
    files = _write(tmp_path, values, 5)
    path = tmp_path / "a" / "zarr.json"
    path.write_text(path.read_text().replace('"little"', '"big"', 1))
    np.testing.assert_array_equal(_stored(tmp_path, files=files).read(), values.byteswap())


class TestCommit:
    def test_no_temporary_file_stays(self, tmp_path, way):
        write_rows(tmp_path / "0", np.zeros((3, 4), np.float16), 4)
        write_block(tmp_path / "1", np.zeros((3, 4), np.uint8), 8, 0)
        with pytest.raises(ZeroDivisionError), replacing(tmp_path / "2"):
            _ = 1 / 0
        assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1"]

    def test_what_a_kill_left_is_overwritten(self, tmp_path, way):
        (tmp_path / ".0.partial").write_bytes(b"x" * 10_000)
        file = write_rows(tmp_path / "0", np.zeros((3, 4), np.float16), 4)
        assert [p.name for p in tmp_path.iterdir()] == ["0"]
        assert (tmp_path / "0").stat().st_size == file.size

    def test_two_writers_of_one_file_do_not_mix(self, tmp_path):
        with replacing(tmp_path / "0") as first:
            os.write(first, b"first")
            with replacing(tmp_path / "0") as second:
                os.write(second, b"second, longer")
            assert (tmp_path / "0").read_bytes() == b"second, longer"
        assert (tmp_path / "0").read_bytes() == b"first"
        assert [p.name for p in tmp_path.iterdir()] == ["0"]

    def test_a_full_disk_is_told_and_nothing_is_left(self, tmp_path, way, monkeypatch):
        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(kernels_module.ShardKernels, "write_rows", full)
        monkeypatch.setattr(kernels_module, "write_parts", full)
        with pytest.raises(OSError, match="No space left"):
            write_rows(tmp_path / "0", np.zeros((3, 4), np.float16), 4)
        assert list(tmp_path.iterdir()) == []

    def test_a_shard_is_written_from_the_callers_memory(self, tmp_path, way):
        tracemalloc = pytest.importorskip("tracemalloc")
        values = np.ones((64, 250_000), np.float16)
        write_rows(tmp_path / "0", values[:2], 64, durable=False)
        tracemalloc.start()
        try:
            write_rows(tmp_path / "0", values, 64, durable=False)
            extra = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert extra < values.nbytes * 0.02
