"""A Zarr store that knows what must be there: a missing or altered file raises, never reads as fill value."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from zarr.abc.store import (
    ByteRequest,
    OffsetByteRequest,
    RangeByteRequest,
    Store,
    SuffixByteRequest,
)
from zarr.core.buffer import Buffer, BufferPrototype, default_buffer_prototype

from featurestore.store.files import StoreFiles
from featurestore.store.manifest import Manifest, hash_bytes
from featurestore.store.shard import damaged


class CheckedStore(Store):
    """Read-only Zarr store over any :class:`StoreFiles`, every file held against the manifest.

    Files read whole are compared by digest; of files read in part (shards) the size is compared,
    and their pieces carry checksums of their own. What there is, the manifest says: listing reads
    no folder.
    """

    supports_writes = False
    supports_deletes = False
    supports_listing = True

    def __init__(self, files: StoreFiles, manifest: Manifest) -> None:
        super().__init__(read_only=True)
        self.files, self.manifest = files, manifest
        self._is_open = True

    def __eq__(self, value: object) -> bool:
        return (
            isinstance(value, CheckedStore)
            and value.files.label == self.files.label
            and value.manifest == self.manifest
        )

    def __hash__(self) -> int:
        return hash(self.files.label)

    def __str__(self) -> str:
        return self.files.label

    def with_read_only(self, read_only: bool = False) -> CheckedStore:
        """The same store; it is always read-only."""
        return CheckedStore(self.files, self.manifest)

    def _path(self, key: str) -> str:
        return f"{self.files.label}/{key}"

    def _whole(self, key: str) -> bytes:
        data = self.files.read(key)
        expected = self.manifest.files.get(key)
        if expected is not None:
            if len(data) != expected.size:
                raise damaged(
                    self._path(key), f"it has {len(data):,} bytes where {expected.size:,} belong"
                )
            if hash_bytes(data, expected) != expected:
                raise damaged(self._path(key), "its bytes are not those that were written")
        return data

    def _part(self, key: str, wanted: ByteRequest) -> bytes:
        size = self.files.size(key)
        expected = self.manifest.files.get(key)
        if expected is not None and size != expected.size:
            raise damaged(self._path(key), f"it has {size:,} bytes where {expected.size:,} belong")
        match wanted:
            case RangeByteRequest(start, end):
                first, last = start, min(end, size)
            case OffsetByteRequest(offset):
                first, last = offset, size
            case SuffixByteRequest(suffix):
                first, last = max(size - suffix, 0), size
        return self.files.read_range(key, first, max(last - first, 0))

    def get_sync(
        self,
        key: str,
        *,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Bytes of a key, held against the manifest."""
        make = (prototype or default_buffer_prototype()).buffer.from_bytes
        try:
            return make(self._whole(key) if byte_range is None else self._part(key, byte_range))
        except FileNotFoundError as error:
            if key in self.manifest.files:
                raise damaged(self._path(key), "it is missing") from error
            return None

    async def get(
        self,
        key: str,
        prototype: BufferPrototype | None = None,
        byte_range: ByteRequest | None = None,
    ) -> Buffer | None:
        """Bytes of a key, held against the manifest."""
        if self.files.is_remote:
            return await asyncio.to_thread(
                self.get_sync, key, prototype=prototype, byte_range=byte_range
            )
        return self.get_sync(key, prototype=prototype, byte_range=byte_range)

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Several pieces."""
        wanted = (self.get(k, prototype, r) for k, r in key_ranges)
        return list(await asyncio.gather(*wanted))

    async def exists(self, key: str) -> bool:
        """Whether a file is there."""
        try:
            self.files.size(key)
        except FileNotFoundError:
            return False
        return True

    async def set(self, key: str, value: Buffer) -> None:
        """Never: stores are written by ``fs build``."""
        raise PermissionError(f"{self.files.label} is opened for reading")

    async def delete(self, key: str) -> None:
        """Never: stores are written by ``fs build``."""
        raise PermissionError(f"{self.files.label} is opened for reading")

    async def list(self) -> AsyncIterator[str]:
        """Every key."""
        for key in self.manifest.files:
            yield key

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Keys that begin so."""
        for key in self.manifest.files:
            if key.startswith(prefix):
                yield key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names right below a prefix."""
        base = f"{prefix.rstrip('/')}/" if prefix else ""
        below = (k.removeprefix(base) for k in self.manifest.files if k.startswith(base))
        for name in dict.fromkeys(key.partition("/")[0] for key in below):
            yield name

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files, "manifest": self.manifest}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["files"], state["manifest"])  # type: ignore[misc]
