"""Targets that are no plain text: stores, weights, runs."""

# ruff: noqa: PT017 - an error is one of two right outcomes here

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from featurestore.errors import MeristemError
from tests.fuzz.targets import TARGETS, Target, told, written


def _late(
    name: str, seeds: Callable[[], tuple[bytes, ...]], *, file: str = ""
) -> Callable[[Callable[[Path, bytes], None]], None]:
    def register(read: Callable[[Path, bytes], None]) -> None:
        TARGETS[name] = Target(cache(seeds), read, (), file)

    return register


# ------------------------------------------------------------------------- stores


@cache
def store_files() -> dict[str, bytes]:
    """Every file of a small store, by key."""
    from featurestore.build.engine import build
    from tests.builders.hostile import write

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        toml = (folder / "dataset.toml", write(folder, {}))[0]
        build(toml, folder / "s.zarr", embedders=["onehot", "kmer"])
        return {
            p.relative_to(folder / "s.zarr").as_posix(): p.read_bytes()
            for p in (folder / "s.zarr").rglob("*")
            if p.is_file()
        }


def signed(files: dict[str, bytes]) -> bytes:
    """The manifest that an attacker would write for these files."""
    body = json.loads(store_files()["manifest.json"].rsplit(b"\n", 2)[0])
    for key, data in files.items():
        if key in body["files"]:
            old = str(body["files"][key][1])
            digest = hashlib.sha256(data).hexdigest()
            # Digests of shards cover more than their bytes; those that do not fit are told.
            body["files"][key] = [len(data), digest if ":" not in old else old]
    return sealed(json.dumps(body, sort_keys=True, indent=0, ensure_ascii=True).encode())


def sealed(core: bytes) -> bytes:
    """A manifest's text with its own digest."""
    return core + b"\n" + hashlib.sha256(core).hexdigest().encode() + b"\n"


def lay(folder: Path, changes: dict[str, bytes]) -> Path:
    """The store with some files replaced."""
    root = folder / "s.zarr"
    if not root.exists():
        for key, data in store_files().items():
            (root / key).parent.mkdir(parents=True, exist_ok=True)
            (root / key).write_bytes(data)
    for key, data in changes.items():
        (root / key).write_bytes(data)
    return root


def restore(root: Path, keys: dict[str, bytes]) -> None:
    """Put back what was replaced."""
    for key in keys:
        (root / key).write_bytes(store_files()[key])


def read_everything(root: Path) -> None:
    """Open a store and read all that its own metadata tells of."""
    from featurestore.store.reader import open_store

    store = open_store(root)
    for species in store.species[:5]:
        for path in [p for p in store._paths(species) if store.meta(species, p)["node_type"] == "array"][:60]:  # fmt: skip
            store.array(species, path)
        store.genes(species)
        store.funnel(species)
        store.notes(species)
        for name in store.embedders(species)[:5]:
            store.embedder_attrs(species, name)
            store.features(species, name)


def _store_target(key: str) -> None:
    @_late(f"store:{key}", lambda: (store_files()[key],), file="s.zarr")
    def _read(folder: Path, data: bytes) -> None:
        changes = {key: data, "manifest.json": signed({key: data})}
        if key.endswith("zarr.json") and key != "zarr.json":
            body = json.loads(store_files()["zarr.json"])
            try:
                body["consolidated_metadata"]["metadata"][key.removesuffix("/zarr.json")] = (
                    json.loads(data)
                )
            except (ValueError, RecursionError):
                pass
            else:
                changes["zarr.json"] = json.dumps(body).encode()
                changes["manifest.json"] = signed({key: data, "zarr.json": changes["zarr.json"]})
        root = lay(folder, changes)
        try:
            read_everything(root)
        finally:
            restore(root, changes)


for _key in (
    "zarr.json", "plant/zarr.json", "plant/gene/zarr.json", "plant/kmer/zarr.json",
    "plant/kmer/embedding/zarr.json", "plant/sequence/status/zarr.json", "plant/genome/code/zarr.json",
    "plant/gene/c/0", "plant/kmer/status/c/0/0", "plant/kmer/embedding/c/0/0/0/0", "plant/genome/code/c/0",
):  # fmt: skip
    _store_target(_key)


@_late("manifest", lambda: (store_files()["manifest.json"].rsplit(b"\n", 2)[0],), file="s.zarr")
def _manifest(folder: Path, data: bytes) -> None:
    from featurestore.store.verify import verify

    changes = {"manifest.json": sealed(data)}
    root = lay(folder, changes)
    try:
        found = verify(root)
        assert all(f.what for f in found.findings)
        read_everything(root)
    finally:
        restore(root, changes)


def _vlen(*items: str) -> bytes:
    raw = [i.encode() for i in items]
    parts = [len(r).to_bytes(4, "little") + r for r in raw]
    return len(items).to_bytes(4, "little") + b"".join(parts)


@_late("vlen-utf8", lambda: (_vlen("g1", "g2", "g3"), _vlen("a", "bcd", "", "é"), _vlen()))
def _text(folder: Path, data: bytes) -> None:
    from featurestore.store.text import NotTextError, StoredText

    for n in {int.from_bytes(data[:4], "little"), 3}:
        try:
            found = StoredText.parse(data, n)
        except NotTextError:
            continue
        assert len(found) == n
        try:
            listed = found.all().tolist()
        except UnicodeDecodeError:  # whoever reads a store turns it into an error of the store
            continue
        assert _vlen(*listed) == data
        for row, name in enumerate(listed[:5]):
            assert row in found.rows_of([name]).tolist()


# ------------------------------------------------------------------------ weights


@_late("safetensors", lambda: (_safetensors(),), file="model.safetensors")
def _weights(folder: Path, data: bytes) -> None:
    from featurestore.embedders.checkpoint import read_tensors

    tensors = read_tensors((written(folder, "model.safetensors", data),))
    assert sum(t.numel() * t.element_size() for t in tensors.values()) <= len(data)


def _safetensors() -> bytes:
    from safetensors.numpy import save

    return save({"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(4, np.int64)})


@_late("torch-weights", lambda: _torch(), file="pytorch_model.bin")
def _torch_weights(folder: Path, data: bytes) -> None:
    from featurestore.embedders.checkpoint import read_tensors

    read_tensors((written(folder, "pytorch_model.bin", data),))


def _torch() -> tuple[bytes, ...]:
    import torch

    found = []
    for zipped in (True, False):
        stream = io.BytesIO()
        torch.save({"a": torch.ones(2, 3)}, stream, _use_new_zipfile_serialization=zipped)
        found.append(stream.getvalue())
    return tuple(found)


@_late("checkpoint-json", lambda: (b'{"weight_map": {"a": "x.safetensors"}}',))
def _checkpoint_json(folder: Path, data: bytes) -> None:
    from featurestore.embedders.checkpoint import find_checkpoint

    written(folder, "config.json", b"{}")
    written(folder, "model.safetensors.index.json", data)
    found = find_checkpoint(str(folder))
    assert all(path.parent == folder for path in found.weights)


@_late("a2z-h5", lambda: (_keras(),), file="model.h5")
def _a2z(folder: Path, data: bytes) -> None:
    from featurestore.embedders.a2z.keras_file import read_keras

    read_keras(written(folder, "model.h5", data))


def _keras() -> bytes:
    """The skeleton of a Keras file: enough for every check of names, links and attributes.

    Text has a fixed length: libhdf5 itself loops in a damaged heap of texts of any length, which
    nothing above it can stop (docs/threats.md).
    """
    import h5py

    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.attrs["backend"] = np.bytes_("tensorflow")
        config = json.dumps({"class_name": "Sequential", "config": []})
        file.attrs["model_config"] = np.bytes_(config)
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [b"conv1d", b"dense"]
        layer = group.create_group("conv1d/conv1d")
        layer.create_dataset("kernel:0", data=np.zeros((3, 4, 2), np.float32))
        group["conv1d"].attrs["weight_names"] = [b"conv1d/kernel:0"]
    return stream.getvalue()


@_late("learner", lambda: _ridge(), file="learner")
def _learner(folder: Path, data: bytes) -> None:
    from learners.controls import SpeciesMean
    from learners.linear import Ridge

    for cls in (Ridge, SpeciesMean):
        path = folder / "learner"
        path.mkdir(exist_ok=True)
        written(path, "learner.json", data.replace(b"ridge", cls.info.name.encode()))
        written(path, "arrays.safetensors", _safetensors())
        try:
            cls.load(path)
        except MeristemError as error:
            assert "learner" in str(error)


def _ridge() -> tuple[bytes, ...]:
    config = {"learner": "ridge", "parameters": {"penalty": None, "grid": 33}, "layout": {}, "rounds": [1],
              "levels": [[{"group": ["a"], "mean": [1.0, None]}]]}  # fmt: skip
    return (json.dumps(config).encode(),)


# --------------------------------------------------------------------------- runs


@cache
def run_files() -> dict[str, bytes]:
    """The files of one finished run."""
    from tests.builders.runs import population, write_run

    with tempfile.TemporaryDirectory() as name:
        run = write_run(Path(name), genes=population(60), bootstrap=0, learning=True)
        return {p.name: p.read_bytes() for p in run.path.iterdir() if p.is_file()}


def _run_target(key: str) -> None:
    @_late(f"run:{key}", lambda: (run_files()[key],), file="run")
    def _read(folder: Path, data: bytes) -> None:
        from benchmarks.report.view import _audit, _funnels, _run, _shared
        from benchmarks.runs.files import read_runs
        from benchmarks.scores.leaderboard import leaderboard, render_text
        from benchmarks.scores.methods import group_runs

        path = folder / "run"
        path.mkdir(exist_ok=True)
        for name, content in (run_files() | {key: data}).items():
            written(path, name, content)
        runs = read_runs(path)
        board = leaderboard(runs, bootstrap=0)
        assert len(board) == 1
        render_text(board, sort_by="r2")
        for group in group_runs(runs):
            for view in (_funnels, _audit, _shared):
                view(group)
            _run(runs[0])


for _key in ("run.json", "predictions.parquet", "metrics.parquet"):
    _run_target(_key)

__all__ = ["told"]
