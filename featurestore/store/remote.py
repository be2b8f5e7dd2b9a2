"""A store on the network as :class:`~featurestore.store.files.StoreFiles`: few requests, each one checked.

Opening takes two requests (``manifest.json`` and ``zarr.json``, side by side). After that the manifest
answers how long every file is, so no request asks for it, and a body that is shorter than it should be
is asked for again. Small files are kept in memory; pieces of large ones are fetched in parallel.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Any, Final, TypeVar

from featurestore.errors import DamagedStoreError, RemoteStoreError
from featurestore.store.files import checked_key
from featurestore.store.manifest import Manifest
from featurestore.store.ranges import PIECE_BYTES, Span
from featurestore.store.remote_backends import (
    Backend,
    BackendName,
    PassingError,
    RefusedError,
    RemoteOptions,
    make_backend,
    refuse_fork,
)
from featurestore.store.remote_url import parse_address
from featurestore.store.shard import damaged

PARALLEL: Final = 16
"""Requests under way at a time."""

_CACHE_BYTES: Final = 256 * 2**20
_CACHED_FILE_BYTES: Final = 32 * 2**20
_T = TypeVar("_T")
_HERE = threading.local()


def _mark_worker() -> None:
    _HERE.is_worker = True


class RemoteFiles:
    """Read access to a store by its address.

    Parameters
    ----------
    url : str
        ``s3://bucket/…``, ``gs://bucket/…`` or ``https://host/…``.
    backend : {"obstore", "fsspec"}, optional
    options : RemoteOptions, optional

    Raises
    ------
    InputError, MissingDependencyError, RemoteStoreError
    """

    def __init__(
        self, url: str, *, backend: BackendName | None = None, options: RemoteOptions | None = None
    ) -> None:
        self.address = parse_address(url)
        self.options = options or RemoteOptions()
        self.requests = 0
        self._process = os.getpid()
        self._name = backend
        self._backend = make_backend(self.address, backend, self.options)
        self._sizes: dict[str, int] = {}
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._cached = 0
        self._lock = threading.Lock()
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    @property
    def label(self) -> str:
        """Address without what may be secret."""
        return self.address.label

    @property
    def is_remote(self) -> bool:
        """True."""
        return True

    @property
    def backend(self) -> Backend:
        """What sends the requests."""
        return self._backend

    def damage(self, key: str, what: str) -> DamagedStoreError:
        """The error for an object that cannot be trusted."""
        return damaged(f"{self.label}/{key}", what)

    def begin(self, *keys: str) -> bool:
        """Fetch the first files side by side; whether any of them is there."""
        there: list[str] = []

        def one(key: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                self.read(key)
                there.append(key)

        self.each(one, keys)
        return bool(there)

    def know(self, manifest: Manifest) -> None:
        """Take the sizes of all files from the manifest."""
        self._sizes = {key: file.size for key, file in manifest.files.items()}
        for key in [k for k, data in self._cache.items() if len(data) != self._sizes.get(k)]:
            self.forget(key)

    def forget(self, key: str) -> None:
        """Ask for a file anew when it is read next."""
        with self._lock:
            self._cached -= len(self._cache.pop(key, b""))

    def size(self, key: str) -> int:
        """Bytes of a file."""
        if key in self._sizes:
            return self._sizes[key]
        return self.persist(key, lambda: self._backend.size(checked_key(key)))

    def read(self, key: str) -> bytes:
        """A whole file; small ones are kept."""
        with self._lock:
            if key in self._cache:
                self._cache.move_to_end(key)
                return self._cache[key]
        size = self._sizes.get(key)
        if size is not None and size > PIECE_BYTES:
            data = self._in_pieces(key, size)
        else:
            data = self.persist(key, lambda: self._whole(key, size))
        self._keep(key, data)
        return data

    def _whole(self, key: str, size: int | None) -> bytes:
        data = self._backend.get(checked_key(key), 0, None)
        if size is not None and len(data) != size:
            raise PassingError(f"it has {len(data):,} bytes where {size:,} belong")
        return data

    def _in_pieces(self, key: str, size: int) -> bytes:
        whole = bytearray(size)

        def put(span: Span, data: bytes) -> None:
            whole[span.start : span.start + span.length] = data

        self.fetch(pieces(key, size), put)
        return bytes(whole)

    def _keep(self, key: str, data: bytes) -> None:
        if len(data) > _CACHED_FILE_BYTES:
            return
        with self._lock:
            if key not in self._cache:
                self._cache[key] = data
                self._cached += len(data)
            while self._cached > _CACHE_BYTES:
                self._cached -= len(self._cache.popitem(last=False)[1])

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``; fewer where the file ends before."""
        if key in self._sizes:
            length = max(min(length, self._sizes[key] - start), 0)
        if length == 0:
            return b""
        with self._lock:
            if key in self._cache:
                return self._cache[key][start : start + length]
        return self.persist(key, lambda: self._part(Span(key, start, length)))

    def _part(self, span: Span) -> bytes:
        data = self._backend.get(checked_key(span.key), span.start, span.length)
        if len(data) > span.length or (span.key in self._sizes and len(data) != span.length):
            raise PassingError(
                f"{len(data):,} bytes came where {span.length:,} from {span.start:,} were asked for"
            )
        return data

    def index(self, key: str, start: int, length: int) -> bytes:
        """The index at the end of a shard: asked for once, then kept."""
        name = f"{key}#index"
        with self._lock:
            if name in self._cache:
                self._cache.move_to_end(name)
                return self._cache[name]
        data = self.read_range(key, start, length)
        self._keep(name, data)
        return data

    def open(self, key: str) -> None:
        """None: there is no descriptor."""
        return

    def prefetch(self, keys: Iterable[str]) -> None:
        """Fetch small files side by side, so that reading them one after the other asks nothing."""
        with self._lock:
            wanted = [k for k in keys if k in self._sizes and k not in self._cache]
        wanted = [k for k in wanted if self._sizes[k] <= PIECE_BYTES]
        # Whoever reads a file that is missing says so; fetching it early is not the place.
        with contextlib.suppress(FileNotFoundError):
            self.each(self.read, wanted)

    def fetch(self, spans: Iterable[Span], take: Callable[[Span, bytes], None]) -> None:
        """Fetch pieces of files in parallel; ``take`` gets each as it comes, in a thread of its own.

        A piece that ``take`` refuses with :class:`~featurestore.errors.DamagedStoreError` is fetched
        once more before the error stands: it may have been spoilt on the way.
        """

        def one(span: Span) -> None:
            try:
                take(span, self.read_range(span.key, span.start, span.length))
            except FileNotFoundError:
                raise self.damage(span.key, "it is missing") from None
            except DamagedStoreError:
                take(span, self.persist(span.key, lambda: self._part(span)))

        self.each(one, spans)

    def each(self, work: Callable[[Any], object], items: Iterable[Any]) -> None:
        """Do work on items, :data:`PARALLEL` at a time; the first error ends it."""
        # From within a worker the items follow one another: workers that wait for workers never end.
        alone = isinstance(items, Sequence) and len(items) <= 1
        if alone or getattr(_HERE, "is_worker", False):
            for item in items:
                work(item)
        else:
            self._each(work, items)

    def _each(self, work: Callable[[Any], object], items: Iterable[Any]) -> None:
        pool = self._workers()
        under_way: set[Future[object]] = set()
        try:
            for item in items:
                if len(under_way) >= 2 * PARALLEL:  # bounded, however many there are
                    done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                    for future in done:
                        future.result()
                under_way.add(pool.submit(work, item))
            for future in under_way:
                future.result()
        finally:
            for future in under_way:
                future.cancel()
            wait(under_way)

    def _workers(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None or self._pool[0] != os.getpid():
                pool = ThreadPoolExecutor(
                    PARALLEL, thread_name_prefix="meristem-remote", initializer=_mark_worker
                )
                weakref.finalize(self, pool.shutdown, wait=False)
                self._pool = (os.getpid(), pool)
            return self._pool[1]

    def persist(self, key: str, ask: Callable[[], _T]) -> _T:
        """Ask until there is an answer, with growing pauses, at most ``attempts`` times.

        Raises
        ------
        FileNotFoundError
            If the object is not there.
        RemoteStoreError
            If the server refuses, or gives no whole answer in all attempts.
        """
        refuse_fork(self._process, self.label)
        pause, last = self.options.backoff, ""
        for attempt in range(self.options.attempts):
            if attempt:
                time.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311 - spreads requests, guards nothing
                pause = min(2 * pause, self.options.longest_backoff)
            self.requests += 1
            try:
                return ask()
            except PassingError as error:
                last = str(error)
            except RefusedError as error:
                raise RemoteStoreError(f"{self.label}/{key}: {error}") from None
        raise RemoteStoreError(
            f"{self.label}/{key}: no whole answer after {self.options.attempts} requests; the last: {last}"
        )

    def stream(self, key: str) -> Iterator[bytes]:
        """A file as it is on the network now, piece by piece; nothing is kept."""
        size = self.persist(key, lambda: self._backend.size(checked_key(key)))
        for span in pieces(key, size):
            yield self.persist(key, lambda span=span: self._part(span))  # type: ignore[misc] # bound early

    def __getstate__(self) -> dict[str, Any]:
        return {
            "url": self.address.url,
            "name": self._name,
            "options": self.options,
            "sizes": self._sizes,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["url"], backend=state["name"], options=state["options"])  # type: ignore[misc]
        self._sizes = state["sizes"]


def pieces(key: str, size: int) -> list[Span]:
    """A file cut into spans of at most :data:`PIECE_BYTES`."""
    return [
        Span(key, start, min(PIECE_BYTES, size - start)) for start in range(0, size, PIECE_BYTES)
    ]
