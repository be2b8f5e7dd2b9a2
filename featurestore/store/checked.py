"""A Zarr store that knows what must be there: a missing or altered file raises, never reads as fill value."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from zarr.abc.store import ByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore

from featurestore.errors import StoreError
from featurestore.store.manifest import MANIFEST, Manifest
from featurestore.store.shard import damaged


class CheckedStore(LocalStore):
    """Read-only local store whose every file is held against the manifest.

    Files read whole are compared by sha256; of files read in part (shards) the size is compared,
    and their pieces carry checksums of their own.
    """

    def __init__(self, root: Path | str, *, manifest: Manifest, read_only: bool = True) -> None:
        super().__init__(root, read_only=True)
        self.manifest = manifest
        self._stamp = self._manifest_stamp()

    def _manifest_stamp(self) -> tuple[int, int] | None:
        try:
            found = (Path(self.root) / MANIFEST).stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns

    def check_current(self) -> None:
        """Refuse to read on from a store that a build has replaced since it was opened.

        Its values would be the new store's under the old one's digest.
        """
        if self._manifest_stamp() != self._stamp:
            raise StoreError(
                f"{self.root}: a build has replaced this store since it was opened; open it again"
            )

    def with_read_only(self, read_only: bool = False) -> CheckedStore:
        """The same store; it is always read-only."""
        return CheckedStore(self.root, manifest=self.manifest)

    def _check(
        self, key: str, found: Buffer | None, byte_range: ByteRequest | None
    ) -> Buffer | None:
        self.check_current()
        expected = self.manifest.files.get(key)
        if expected is None:
            return found
        path = Path(self.root) / key
        if found is None:
            raise damaged(path, "it is missing")
        if byte_range is None:
            data = found.to_bytes()
            if len(data) != expected.size:
                raise damaged(path, f"it has {len(data):,} bytes where {expected.size:,} belong")
            if hashlib.sha256(data).hexdigest() != expected.sha256:
                raise damaged(path, "its bytes are not those that were written")
        elif path.stat().st_size != expected.size:
            raise damaged(
                path, f"it has {path.stat().st_size:,} bytes where {expected.size:,} belong"
            )
        return found

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Bytes of a key, held against the manifest."""
        return self._check(key, await super().get(key, prototype, byte_range), byte_range)

    def get_sync(self, key: str, **options: Any) -> Buffer | None:
        """Bytes of a key, held against the manifest."""
        return self._check(key, super().get_sync(key, **options), options.get("byte_range"))
