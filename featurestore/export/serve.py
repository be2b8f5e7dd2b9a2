"""``fs serve``: a store over HTTP, read-only, for browsers, xarray and our own reader.

Serves the files that the manifest names and no other. Ranges, suffix ranges, HEAD, entity tags (RFC 9110)
and CORS, which is what zarrita in a browser, fsspec and obstore ask for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import socket
import stat
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from featurestore.cells import for_terminal
from featurestore.errors import InputError
from featurestore.store.files import LocalFiles
from featurestore.store.manifest import MANIFEST, WrittenFile
from featurestore.store.places import manifest_at

CONNECTIONS: Final = 64
"""Connections served at a time; more wait in the queue of the socket."""

IDLE_SECONDS: Final = 20.0
"""A connection that says or takes nothing for so long is closed."""

_PIECE: Final = 1 << 20
_RANGE: Final = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class StoreServer(ThreadingHTTPServer):
    """Serves one store.

    Parameters
    ----------
    store : Path
    host : str
    port : int
        0: any that is free; see :attr:`url`.
    origin : str
        Web pages that may read it (``Access-Control-Allow-Origin``).
    log : bool
        A line on stderr for every request.

    Raises
    ------
    StoreNotFoundError, DamagedStoreError
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        store: Path,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        origin: str = "*",
        log: bool = False,
        handler: type[StoreHandler] | None = None,
    ) -> None:
        if any(c in origin for c in "\r\n"):
            raise InputError(f"origin {origin!r}: one address, or *")
        self.files = LocalFiles(store)
        manifest = manifest_at(self.files)
        text = self.files.read(MANIFEST)
        own = WrittenFile(len(text), hashlib.sha256(text).hexdigest())
        self.served = {**manifest.files, MANIFEST: own}
        self.name = store.resolve().name
        self.origin, self.log = origin, log
        self._slots = threading.BoundedSemaphore(CONNECTIONS)
        self._root = os.open(self.files.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            if ":" in host:
                self.address_family = socket.AF_INET6
            super().__init__((host, port), handler or StoreHandler)
        except (OSError, OverflowError) as error:
            os.close(self._root)
            raise InputError(f"cannot listen on {host}, port {port}: {error}") from error

    @property
    def url(self) -> str:
        """Address of the store."""
        host, port = self.server_address[:2]
        shown = f"[{host!s}]" if ":" in str(host) else str(host)
        return f"http://{shown}:{port}/{self.name}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own once there is a slot."""
        self._slots.acquire()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._slots.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """The thread's work."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is no error of ours; anything else shows."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    def server_close(self) -> None:
        """Close the socket and the folder."""
        super().server_close()
        with contextlib.suppress(OSError):
            os.close(self._root)

    def open_file(self, key: str) -> int | None:
        """Descriptor of a served file; None where it is not there or a link leads to it."""
        folder = os.dup(self._root)
        *parents, name = key.split("/")
        try:
            for parent in parents:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                inner = os.open(parent, flags, dir_fd=folder)
                os.close(folder)
                folder = inner
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            found = os.open(name, flags, dir_fd=folder)
        except OSError:
            return None
        finally:
            os.close(folder)
        kind = os.fstat(found)
        if not stat.S_ISREG(kind.st_mode) or kind.st_size != self.served[key].size:
            os.close(found)
            return None
        return found


class StoreHandler(BaseHTTPRequestHandler):
    """Answers one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "meristem"
    sys_version = ""
    timeout = IDLE_SECONDS
    server: StoreServer

    def do_GET(self) -> None:
        """A file, or a part of it."""
        self.answer(with_body=True)

    def do_HEAD(self) -> None:
        """Its headers."""
        self.answer(with_body=False)

    def do_OPTIONS(self) -> None:
        """What a browser asks before it reads from another page's address."""
        self._begin(HTTPStatus.NO_CONTENT, 0)
        self.send_header("Access-Control-Allow-Methods", "GET, HEAD, OPTIONS")
        self.send_header(
            "Access-Control-Allow-Headers", "Range, If-None-Match, If-Range, Cache-Control"
        )
        self.send_header("Access-Control-Max-Age", "86400")
        self.end_headers()

    def do_POST(self) -> None:
        """Refused, as is every method that writes."""
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "this server only reads\n")
        self.close_connection = True

    do_PUT = do_DELETE = do_PATCH = do_POST  # noqa: N815 - the names that http.server calls

    def key(self) -> str | None:
        """The file asked for, if it is one of the store's."""
        path = unquote(urlsplit(self.path).path, errors="surrogateescape").removeprefix("/")
        own = path.removeprefix(f"{self.server.name}/")
        return next((k for k in (own, path) if k in self.server.served), None)

    def answer(self, *, with_body: bool) -> None:
        """Send what was asked for."""
        key = self.key()
        descriptor = None if key is None else self.server.open_file(key)
        if key is None or descriptor is None:
            self._refuse(HTTPStatus.NOT_FOUND, "no such file in this store\n", with_body=with_body)
            return
        try:
            self._send(key, descriptor, with_body=with_body)
        finally:
            os.close(descriptor)

    def _send(self, key: str, descriptor: int, *, with_body: bool) -> None:
        file = self.server.served[key]
        tag = f'"{file.digest}"'
        if tag in self.headers.get("If-None-Match", ""):
            self._begin(HTTPStatus.NOT_MODIFIED, None)
            self.send_header("ETag", tag)
            self.end_headers()
            return
        wanted = self.headers.get("Range")
        if self.headers.get("If-Range", tag) != tag:
            wanted = None
        span = parse_range(wanted, file.size)
        if span is None:
            self._begin(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, 0)
            self.send_header("Content-Range", f"bytes */{file.size}")
            self.end_headers()
            return
        start, stop, partial = span
        self._begin(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK, stop - start)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{file.size}")
        self.send_header("ETag", tag)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Cache-Control", "no-cache")
        kind = "application/json" if key.endswith(".json") else "application/octet-stream"
        self.send_header("Content-Type", kind)
        self.end_headers()
        if with_body:
            self.body(descriptor, start, stop)

    def body(self, descriptor: int, start: int, stop: int) -> None:
        """Send bytes of a file; a client that reads slowly is waited for, one that stops is dropped."""
        while start < stop:
            piece = os.pread(descriptor, min(_PIECE, stop - start), start)
            if not piece:
                self.close_connection = True
                return
            self.wfile.write(piece)
            start += len(piece)

    def _begin(self, status: HTTPStatus, length: int | None) -> None:
        self.send_response(status)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Access-Control-Allow-Origin", self.server.origin)
        self.send_header(
            "Access-Control-Expose-Headers", "Content-Range, Content-Length, ETag, Accept-Ranges"
        )
        self.send_header("X-Content-Type-Options", "nosniff")

    def _refuse(self, status: HTTPStatus, text: str, *, with_body: bool = True) -> None:
        self._begin(status, len(text))
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD, OPTIONS")
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.end_headers()
        if with_body:
            self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """A line on stderr, if asked for."""
        if self.server.log:
            sys.stderr.write(for_terminal(f"{self.address_string()} {format % args}") + "\n")


def parse_range(header: str | None, size: int) -> tuple[int, int, bool] | None:
    """Half-open span of a ``Range`` header, and whether it is a part: a header not understood asks for all.

    Returns
    -------
    (start, stop, is a part), or None if nothing of the file lies in the range (416)
    """
    found = _RANGE.fullmatch(header or "")
    if found is None or found[0] == "bytes=-":
        return 0, size, False
    first, last = found[1], found[2]
    if first and last and int(last) < int(first):
        return 0, size, False
    start = int(first) if first else max(size - int(last), 0)
    stop = min(int(last) + 1, size) if first and last else size
    return (start, stop, True) if start < stop else None
