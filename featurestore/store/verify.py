"""``fs verify`` and ``fs repair``: every byte of the store is held against what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import product
from math import prod
from pathlib import Path
from stat import S_ISREG
from typing import Any, Final

from featurestore.errors import InputError, StoreError, StoreNotFoundError
from featurestore.schema import fits, registered
from featurestore.store.files import checked_key
from featurestore.store.findings import Finding
from featurestore.store.identify import is_ours
from featurestore.store.layout import layout_of
from featurestore.store.manifest import MANIFEST, Manifest, hash_file, read_manifest
from featurestore.untrusted import parse_json

LINK: Final = "a symbolic link, which a store never holds"
STRANGER: Final = "does not belong to the store"
STRANGE: Final = frozenset({LINK, STRANGER})
"""Findings that are not damage: somebody put something there."""


@dataclass(frozen=True)
class Verification:
    """Outcome of :func:`verify`."""

    store: str
    files: int
    bytes: int
    findings: list[Finding]
    recomputed: int = 0
    notes: list[str] = field(default_factory=list)

    @property
    def intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def verify(store: Path) -> Verification:
    """Check structure, checksums and completeness.

    Every file is read and held against the manifest, and the manifest against the structure
    that the arrays' metadata asks for, so a flipped bit, a missing file, a file cut short and a
    file that does not belong are each found and named.

    Raises
    ------
    StoreNotFoundError
        If there is nothing at the path.
    """
    if not store.is_dir():
        raise StoreNotFoundError(f"{store}: no store here")
    try:
        manifest = read_manifest(store)
    except StoreError as error:
        return Verification(str(store), 0, 0, [Finding(MANIFEST, str(error))])
    findings = [*_checksums(store, manifest), *strangers(store, manifest)]
    if not findings:
        findings += structure(lambda name: (store / name).read_bytes(), manifest)
    size = sum(f.size for f in manifest.files.values())
    return Verification(str(store), len(manifest.files) + 1, size, findings)


def _checksums(store: Path, manifest: Manifest) -> Iterator[Finding]:
    for name, expected in sorted(manifest.files.items()):
        try:
            found = (store / name).stat()
            size = found.st_size
            if not S_ISREG(found.st_mode):
                yield Finding(name, "not a file")
            elif size != expected.size:
                yield Finding(name, f"{size:,} bytes where {expected.size:,} belong")
            elif hash_file(store / name, expected) != expected:
                yield Finding(name, "its bytes are not those that were written (digest differs)")
        except FileNotFoundError:
            yield Finding(name, "missing")
        except OSError as error:
            yield Finding(name, f"cannot be read: {error}")


def strangers(store: Path, manifest: Manifest) -> Iterator[Finding]:
    """Files and links in a store that no build put there."""
    for path in sorted(store.rglob("*")):
        name = path.relative_to(store).as_posix()
        if path.is_symlink():
            yield Finding(name, LINK)
        elif path.is_file() and name not in manifest.files and name != MANIFEST:
            yield Finding(name, STRANGER)


def structure(read: Callable[[str], bytes], manifest: Manifest) -> Iterator[Finding]:
    """Every array has the dimensions of the registry and every chunk that its shape asks for.

    ``read`` gives the bytes of a file.
    """
    for name in sorted(manifest.files):
        if not name.endswith("zarr.json"):
            continue
        try:
            body = parse_json(read(name))
            if body["node_type"] != "array":
                continue
            layout_of(body, name)
        except (ValueError, KeyError, TypeError, StoreError) as error:
            yield Finding(name, f"describes no array that can be ({type(error).__name__}: {error})")
            continue
        folder = name.removesuffix("/zarr.json")
        dims = tuple(body.get("dimension_names") or ())
        spec = registered(folder.split("/", 1)[1], dims)
        if len(dims) != len(body["shape"]):
            yield Finding(name, f"{len(body['shape'])} dimensions but names {dims}")
        elif spec is None:
            yield Finding(name, "an array that the schema does not know")
        elif not fits(spec, dims):
            yield Finding(name, f"dimensions {dims} where the schema has {spec.dims}")
        if (count := chunk_count(body)) > len(manifest.files):
            yield Finding(name, f"its shape asks for {count:,} files, more than the store has")
            continue
        for chunk in chunk_names(folder, body):
            if chunk not in manifest.files:
                yield Finding(chunk, "the manifest lacks a chunk that the array's shape asks for")


def chunk_count(metadata: dict[str, Any]) -> int:
    """Files that an array of this metadata consists of."""
    shape, chunk = metadata["shape"], metadata["chunk_grid"]["configuration"]["chunk_shape"]
    return prod(-(-s // c) for s, c in zip(shape, chunk, strict=True))


def chunk_names(folder: str, metadata: dict[str, Any]) -> Iterator[str]:
    """Files that an array of this metadata consists of."""
    shape, chunk = metadata["shape"], metadata["chunk_grid"]["configuration"]["chunk_shape"]
    counts = [-(-s // c) for s, c in zip(shape, chunk, strict=True)]
    for index in product(*(range(n) for n in counts)):
        yield "/".join([folder, "c", *(str(i) for i in index)])


def _behind_link(store: Path, name: str) -> bool:
    """Whether a folder on the way to a file of the store is a link, or the way leads out."""
    parts = Path(checked_key(name)).parts[:-1]
    return any((store / Path(*parts[: i + 1])).is_symlink() for i in range(len(parts)))


def repair(store: Path) -> list[Finding]:
    """Remove what is damaged, so that the next build computes it (and nothing else) anew.

    Files that do not belong to the store are left where they are.

    Returns
    -------
    list of Finding
        What was removed.

    Raises
    ------
    InputError
        If the folder is not a store of this project.
    """
    if not is_ours(store):
        raise InputError(f"{store}: not a store of this project, so nothing in it was touched")
    found = [f for f in verify(store).findings if f.what not in STRANGE]
    # What lies behind a link is somebody else's: the link is told, and nothing behind it touched.
    removed = [f for f in found if not _behind_link(store, f.file)]
    for finding in removed:
        (store / finding.file).unlink(missing_ok=True)
    return removed
