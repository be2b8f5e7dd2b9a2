"""``fs verify`` of a store on the network: every byte of it is fetched and held against the manifest."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from featurestore.errors import RemoteStoreError, StoreError, StoreNotFoundError
from featurestore.store.findings import Finding
from featurestore.store.manifest import MANIFEST, Manifest, hash_stream
from featurestore.store.places import manifest_at
from featurestore.store.remote import RemoteFiles
from featurestore.store.remote_backends import ObstoreBackend
from featurestore.store.verify import STRANGER, Verification, structure

if TYPE_CHECKING:
    from featurestore.store.remote_backends import BackendName


def verify_remote(url: str, *, backend: BackendName | None = None) -> Verification:
    """Check checksums, structure and completeness of a store by its address.

    Objects that do not belong to it are found where the place can be listed (buckets, by obstore).

    Raises
    ------
    StoreNotFoundError, RemoteStoreError
        If there is nothing at the address, or it cannot be read.
    """
    files = RemoteFiles(url, backend=backend)
    try:
        manifest = manifest_at(files)
    except (StoreNotFoundError, RemoteStoreError):
        raise
    except StoreError as error:
        return Verification(files.label, 0, 0, [Finding(MANIFEST, str(error))])
    findings = [*_digests(files, manifest), *_strangers(files, manifest)]
    if not findings:
        files.prefetch(name for name in manifest.files if name.endswith("zarr.json"))
        findings += structure(files.read, manifest)
    size = sum(f.size for f in manifest.files.values())
    return Verification(files.label, len(manifest.files) + 1, size, findings)


def _digests(files: RemoteFiles, manifest: Manifest) -> list[Finding]:
    found: list[Finding] = []

    def check(name: str) -> None:
        expected = manifest.files[name]
        try:
            actual = hash_stream(_Stream(files.stream(name)), expected)
        except FileNotFoundError:
            found.append(Finding(name, "missing"))
            return
        if actual.size != expected.size:
            found.append(Finding(name, f"{actual.size:,} bytes where {expected.size:,} belong"))
        elif actual != expected:
            found.append(
                Finding(name, "its bytes are not those that were written (digest differs)")
            )

    files.each(check, sorted(manifest.files))
    return sorted(found, key=lambda finding: finding.file)


class _Stream(io.RawIOBase):
    """Pieces as a file that is read on."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces, self._rest = pieces, memoryview(b"")

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Next bytes; 0 at the end."""
        while not self._rest:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count


def _strangers(files: RemoteFiles, manifest: Manifest) -> Iterator[Finding]:
    if not (files.address.is_bucket and isinstance(files.backend, ObstoreBackend)):
        return
    for name, _ in files.backend.list():
        if name not in manifest.files and name != MANIFEST:
            yield Finding(name, STRANGER)
