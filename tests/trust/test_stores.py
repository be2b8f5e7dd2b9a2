"""A store that somebody else wrote: what it says of itself is not believed."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from featurestore.errors import MeristemError, StoreError
from featurestore.store.manifest import read_manifest
from featurestore.store.reader import open_store
from tests.builders.hostile import fs
from tests.fuzz.targets_binary import lay, read_everything, sealed, signed, store_files

EMBEDDING = "plant/kmer/embedding/zarr.json"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A sound store of its own."""
    return lay(tmp_path, {})


def lie(store: Path, key: str, change) -> None:
    """Change the metadata of one node, consolidated and own, and sign it all anew."""
    body = json.loads(store_files()[key])
    change(body)
    root = json.loads(store_files()["zarr.json"])
    root["consolidated_metadata"]["metadata"][key.removesuffix("/zarr.json")] = body
    changed = {key: json.dumps(body).encode(), "zarr.json": json.dumps(root).encode()}
    for name, data in (changed | {"manifest.json": signed(changed)}).items():
        (store / name).write_bytes(data)


def set_shape(first: object):
    def change(body: dict) -> None:
        body["shape"][0] = first

    return change


def set_chunk(first: object):
    def change(body: dict) -> None:
        body["chunk_grid"]["configuration"]["chunk_shape"][0] = first

    return change


def set_key(key: str, value: object):
    def change(body: dict) -> None:
        body[key] = value

    return change


def test_the_lies_are_signed_rightly(store):
    read_everything(store)
    lie(store, EMBEDDING, lambda body: body["attributes"].update(extra=1))
    read_everything(store)


@pytest.mark.parametrize(
    "key",
    [
        EMBEDDING,
        "plant/gene/zarr.json",
        "plant/kmer/status/zarr.json",
        "plant/genome/code/zarr.json",
    ],
)
@pytest.mark.parametrize(
    "change",
    [
        set_shape(10**15), set_shape(2**63), set_shape(-1), set_shape("9"), set_shape(1.5), set_shape(None),
        set_chunk(-1), set_chunk(0), set_chunk("x"),
        set_key("data_type", "object"), set_key("data_type", "float9"), set_key("data_type", "V1000000000"),
        set_key("data_type", {"name": "x"}), set_key("codecs", []), set_key("codecs", [{"name": "pickle"}]),
        set_key("codecs", None), set_key("shape", []), set_key("shape", [10**6] * 3), set_key("dimension_names", ["x"] * 9),
        set_key("node_type", "x"), set_key("chunk_grid", {"name": "regular"}), set_key("attributes", []),
    ],
)  # fmt: skip
def test_a_store_that_lies_about_an_array_is_told_without_an_allocation(store, key, change):
    """Were a word of these believed, petabytes would be asked for: MemoryError is no answer."""
    lie(store, key, change)
    with pytest.raises(StoreError, match=r"s\.zarr"):
        read_everything(store)
    done = fs("verify", str(store))
    assert done.escaped is None
    assert done.code in (0, 3)


@pytest.mark.parametrize(
    "name", ["../outside.txt", "/etc/passwd", "plant/../../outside.txt", "..", "", "a\0b"]
)
def test_a_manifest_names_no_file_outside_and_repair_deletes_none(store, name):
    victim = store.parent / "outside.txt"
    victim.write_text("mine")
    body = json.loads(store_files()["manifest.json"].rsplit(b"\n", 2)[0])
    body["files"][name] = [1, "0" * 64]
    core = json.dumps(body, sort_keys=True, indent=0, ensure_ascii=True).encode()
    (store / "manifest.json").write_bytes(sealed(core))
    with pytest.raises(StoreError, match="no path within a store"):
        open_store(store)
    for command in ("verify", "repair", "ls", "info"):
        done = fs(command, str(store))
        assert done.escaped is None
    assert victim.read_text() == "mine"


def test_repair_goes_through_no_link(store):
    """A folder of the store that is a link to somebody's own: what lies there stays."""
    outside = store.parent / "outside"
    (store / "plant" / "kmer").rename(outside)
    mine = [p for p in outside.rglob("*") if p.is_file()]
    for path in mine:
        path.write_bytes(b"mine")
    assert mine
    (store / "plant" / "kmer").symlink_to(outside, target_is_directory=True)
    done = fs("repair", str(store))
    assert done.escaped is None
    assert all(path.read_bytes() == b"mine" for path in mine)


@pytest.mark.parametrize(
    "core",
    [
        b"[" * 100_000,
        b'{"files": []}',
        b"null",
        b'{"files": {"zarr.json": [1e999, "x"]}, "keys": {}}',
    ],
)
def test_a_manifest_that_is_none_is_told(store, core):
    (store / "manifest.json").write_bytes(sealed(core))
    with pytest.raises(StoreError, match=r"manifest\.json"):
        read_manifest(store)
    for command in ("ls", "verify", "repair"):
        assert fs(command, str(store)).escaped is None


@pytest.mark.parametrize(
    "key",
    ["manifest.json", "zarr.json", "plant/gene/c/0", "plant/kmer/embedding/c/0/0/0/0", EMBEDDING],
)
@pytest.mark.parametrize("kind", ["fifo", "device", "folder"])
def test_a_file_of_a_store_that_is_none_is_not_waited_for(store, key, kind):
    path = store / key
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    started = time.monotonic()
    with pytest.raises(MeristemError):
        read_everything(store)
    assert fs("verify", str(store)).escaped is None
    assert time.monotonic() - started < 20


def test_consolidated_metadata_that_differs_from_a_nodes_own_is_told(store):
    """Another reader would take the node's own: one store, two readings."""
    root = json.loads(store_files()["zarr.json"])
    node = root["consolidated_metadata"]["metadata"]["plant/kmer/embedding"]
    node["attributes"]["long_name"] = "something else"
    changed = {"zarr.json": json.dumps(root).encode()}
    for name, data in (changed | {"manifest.json": signed(changed)}).items():
        (store / name).write_bytes(data)
    with pytest.raises(StoreError):
        read_everything(store)


@pytest.mark.parametrize("index", [2**64 - 2, 2**63, 10**15, 0])
def test_an_index_of_a_shard_leads_nowhere_else(store, index):
    from featurestore.store.shard import crc32c

    key = "plant/kmer/embedding/c/0/0/0/0"
    data = bytearray(store_files()[key])
    meta = json.loads(store_files()[EMBEDDING])
    inner = meta["codecs"][0]["configuration"]["chunk_shape"]
    shard = meta["chunk_grid"]["configuration"]["chunk_shape"]
    size = 16 * (shard[0] // inner[0])
    table = np.frombuffer(bytes(data[-size - 4 : -4]), "<u8").copy()
    table[0] = index if index else table[2]  # 0: two rows at one place
    raw = table.tobytes()
    crc = crc32c(raw)
    data[-size - 4 :] = raw + (crc if isinstance(crc, bytes) else int(crc).to_bytes(4, "little"))
    (store / key).write_bytes(data)
    (store / "manifest.json").write_bytes(signed({key: bytes(data)}))
    with pytest.raises(StoreError, match="embedding"):
        open_store(store).features("plant", "kmer")
