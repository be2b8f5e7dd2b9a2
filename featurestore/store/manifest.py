"""The manifest: size and digest of every file of a store, so that any flipped bit is found.

``manifest.json`` at the root. Its text is canonical (sorted keys, one form) and ends in the
sha256 of everything before, so a change in the manifest itself is found too.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from featurestore.errors import DamagedStoreError, StoreNotFoundError
from featurestore.store.commit import WrittenFile, commit_file
from featurestore.store.digest import hash_bytes, hash_file, hash_stream
from featurestore.store.files import LocalFiles, StoreFiles, checked_key
from featurestore.untrusted import parse_json

__all__ = [
    "MANIFEST", "Manifest", "WrittenFile", "hash_bytes", "hash_file", "hash_stream", "manifest_of",
    "read_manifest",
]  # fmt: skip

MANIFEST: Final = "manifest.json"


@dataclass(frozen=True)
class Manifest:
    """Files by path within the store (``/`` separated), and the digest of the whole."""

    files: dict[str, WrittenFile]
    keys: dict[str, str]
    """Shard path to the digest of everything its values follow from; equal keys, equal bytes."""

    def text(self) -> bytes:
        """Canonical bytes."""
        body = {
            "files": {p: [f.size, f.digest] for p, f in sorted(self.files.items())},
            "keys": dict(sorted(self.keys.items())),
            "manifest_version": 1,
        }
        core = json.dumps(body, sort_keys=True, indent=0, ensure_ascii=True).encode()
        return core + b"\n" + hashlib.sha256(core).hexdigest().encode() + b"\n"

    @property
    def digest(self) -> str:
        """Sha256 of the canonical bytes: the identity of the store's content."""
        return hashlib.sha256(self.text()).hexdigest()

    def write(self, root: Path) -> None:
        """Commit the manifest of the store at ``root``."""
        commit_file(root / MANIFEST, [self.text()])


def read_manifest(root: Path) -> Manifest:
    """Read and check the manifest of a store.

    Raises
    ------
    DamagedStoreError
        If it is missing, or is not byte for byte what was written.
    """
    try:
        files = LocalFiles(root)
    except StoreNotFoundError as error:
        raise missing_manifest(str(root)) from error
    return manifest_of(files)


def missing_manifest(label: str) -> DamagedStoreError:
    """The error for a store that has none."""
    return DamagedStoreError(
        f"{label}/{MANIFEST}: missing, so nothing in the store can be trusted. Run 'fs build' again: it "
        "checks and completes what is there."
    )


def manifest_of(files: StoreFiles) -> Manifest:
    """Read and check the manifest of a store, wherever it lies; errors as :func:`read_manifest`."""
    path = f"{files.label}/{MANIFEST}"
    try:
        raw = files.read(MANIFEST)
    except FileNotFoundError as error:
        raise missing_manifest(files.label) from error
    core, _, tail = raw.rstrip(b"\n").rpartition(b"\n")
    intact = hashlib.sha256(core).hexdigest().encode() == tail
    try:
        body = parse_json(core) if intact else None
        manifest = body and Manifest(
            {p: WrittenFile(int(size), str(digest)) for p, (size, digest) in body["files"].items()},
            dict(body["keys"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
        manifest = None
    for name in manifest.files if manifest else ():
        try:
            checked_key(name)
        except DamagedStoreError as error:
            raise DamagedStoreError(f"{path}: {error}") from error
    if not manifest or manifest.text() != raw:
        raise DamagedStoreError(
            f"{path}: its bytes are not those that were written. Run 'fs repair STORE', then 'fs build' "
            "again: without a manifest nothing can be taken over, so everything is computed anew."
        )
    return manifest
