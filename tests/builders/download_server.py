"""A server on 127.0.0.1 that serves bytes and misbehaves as it is told."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """One file and what goes wrong with it.

    ``cut``: bytes of the body after which each of the first answers is cut off; ``statuses``: what
    the first answers say instead; ``ranges``: whether the server knows Range; ``tag``: its ETag,
    ``auto`` for one made of the content; ``length``: Content-Length if not the true one; ``stall``:
    seconds of silence in the middle of the first answer; ``trickle``: seconds between pieces of 8 kB;
    ``location``: where it redirects to.
    """

    content: bytes = b""
    cut: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    ranges: bool = True
    tag: str = "auto"
    modified: str = ""
    honours_if_range: bool = True
    stall: float = 0.0
    trickle: float = 0.0
    location: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    before: Callable[[Served], None] | None = None

    @property
    def etag(self) -> str:
        return (
            f'"{hashlib.sha256(self.content).hexdigest()[:16]}"' if self.tag == "auto" else self.tag
        )


@dataclass
class Server:
    """Files by path; ``asked``: path and Range header of each request, in order."""

    url: str
    files: dict[str, Served] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)

    @property
    def ranges(self) -> list[str]:
        return [r for _, r in self.asked]


@contextlib.contextmanager
def download_server() -> Iterator[Server]:
    server = Server("")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing on stderr."""

        def do_GET(self) -> None:
            server.asked.append((self.path, self.headers.get("Range", "")))
            self.close_connection = True
            path = re.sub(r"^https?://[^/]+", "", self.path)
            file = server.files.get(path)
            if file is None:
                return self._head(404, {"Content-Length": "0"})
            if file.before is not None:
                file.before(file)
            if file.location:
                return self._head(302, {"Location": file.location, "Content-Length": "0"})
            if file.statuses:
                return self._head(file.statuses.pop(0), {"Content-Length": "0", **file.extra})
            return self._body(file)

        def _body(self, file: Served) -> None:
            content, start, status = file.content, 0, 200
            headers = {
                k: v for k, v in (("ETag", file.etag), ("Last-Modified", file.modified)) if v
            }
            wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            condition = self.headers.get("If-Range", "")
            fresh = not condition or condition in (file.etag, file.modified)
            if wanted and file.ranges and (fresh or not file.honours_if_range):
                start, status = int(wanted[1]), 206
                if start >= len(content):
                    headers["Content-Range"] = f"bytes */{len(content)}"
                    self._head(416, headers | {"Content-Length": "0"})
                    return
                headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
            body = content[start:]
            self._head(status, headers | {"Content-Length": str(len(body))} | file.extra)
            stop = file.cut.pop(0) if file.cut else len(body)
            if file.stall:
                self.wfile.write(body[: stop // 2])
                self.wfile.flush()
                pause, file.stall = file.stall, 0.0
                time.sleep(pause)
                body, stop = body[stop // 2 :], stop - stop // 2
            with contextlib.suppress(OSError):
                while file.trickle and body:
                    self.wfile.write(body[:8192])
                    body, stop = body[8192:], max(stop - 8192, 0)
                    time.sleep(file.trickle)
                self.wfile.write(body[:stop])
                self.wfile.flush()
                if stop < len(body):
                    self.connection.shutdown(socket.SHUT_RDWR)

        def _head(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        server.url = f"http://127.0.0.1:{running.server_address[1]}"
        thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            running.shutdown()
            thread.join()
