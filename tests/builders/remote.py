"""Stores on the network, on 127.0.0.1: an S3 server (moto) and a web server that misbehaves on demand."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, unquote, urlsplit

from featurestore.export.serve import StoreHandler, StoreServer

REGION = "eu-central-1"
KEY, SECRET = "AKIATESTKEYID", "tests-secret-do-not-tell"


@dataclass
class S3:
    """A running moto server. ``environment``: what reaches it, for ``monkeypatch.setenv``."""

    url: str
    environment: dict[str, str] = field(default_factory=dict)

    @cached_property
    def client(self) -> Any:
        """boto3, an independent way to the same objects."""
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.url, region_name=REGION, aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
        )  # fmt: skip

    def make_bucket(self, name: str) -> str:
        self.client.create_bucket(
            Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        return name

    def object(self, bucket: str, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket=bucket, Key=key)["Body"].read())

    def put(self, bucket: str, key: str, data: bytes) -> None:
        self.client.put_object(Bucket=bucket, Key=key, Body=data)

    def keys(self, bucket: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return [o["Key"] for page in pages for o in page.get("Contents", [])]

    def delete(self, bucket: str, key: str) -> None:
        self.client.delete_object(Bucket=bucket, Key=key)


@contextlib.contextmanager
def s3_server() -> Iterator[S3]:
    """moto in a process of its own, with requests over a socket as to any S3."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(f"{url}/moto-api/", timeout=5).close()  # noqa: S310 - http
                break
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.05)
        environment = {
            "AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION, "AWS_ENDPOINT_URL": url,
        }  # fmt: skip
        yield S3(url, environment)
    finally:
        process.terminate()
        process.wait(10)


class GoogleHandler(BaseHTTPRequestHandler):
    """As much of the XML interface of Google Cloud Storage as stores need; objects in memory."""

    protocol_version = "HTTP/1.1"
    objects: ClassVar[dict[str, tuple[bytes, dict[str, str]]]] = {}
    lost: ClassVar[list[str]] = []
    """Endings of keys whose next answer is lost: the object is kept, the client hears 503."""

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        named = {
            "ETag": '"1"',
            "Last-Modified": "Sat, 01 Jan 2000 00:00:00 GMT",
            "Content-Length": str(len(body)),
        }
        for key, value in {**named, **{k.replace("_", "-"): v for k, v in headers.items()}}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        key = unquote(self.path)
        if self.headers.get("x-goog-if-generation-match") == "0" and key in self.objects:
            return self._answer(412)
        notes = {k: v for k, v in self.headers.items() if k.lower().startswith("x-goog-meta-")}
        self.objects[key] = data, notes
        for ending in [e for e in self.lost if key.endswith(e)]:
            self.lost.remove(ending)
            return self._answer(503)
        return self._answer(200)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if "list-type=2" in parts.query:
            return self._list(unquote(parts.path), parse_qs(parts.query)["prefix"][0])
        found = self.objects.get(unquote(parts.path))
        if found is None:
            return self._answer(404)
        data, notes = found
        if span := self.headers.get("Range"):
            first, last = (int(x) for x in span.removeprefix("bytes=").split("-"))
            told = f"bytes {first}-{min(last, len(data) - 1)}/{len(data)}"
            return self._answer(206, data[first : last + 1], Content_Range=told, **notes)
        return self._answer(200, data, **notes)

    do_HEAD = do_GET

    def _list(self, bucket: str, prefix: str) -> None:
        start = f"{bucket}/{prefix}"
        rows = "".join(
            f"<Contents><Key>{k.removeprefix(f'{bucket}/')}</Key><Size>{len(v)}</Size>"
            "<LastModified>2000-01-01T00:00:00.000Z</LastModified><ETag>1</ETag></Contents>"
            for k, (v, _) in sorted(self.objects.items())
            if k.startswith(start)
        )
        self._answer(200, f"<ListBucketResult>{rows}</ListBucketResult>".encode())


@contextlib.contextmanager
def google_server(folder: Path, lost: list[str]) -> Iterator[dict[str, str]]:
    """The environment that leads to a server of its own."""
    handler = type("Handler", (GoogleHandler,), {"objects": {}, "lost": lost})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        url = f"http://127.0.0.1:{server.server_address[1]}"
        account = {
            "gcs_base_url": url,
            "disable_oauth": True,
            "client_email": "",
            "private_key": "",
            "private_key_id": "",
        }
        (folder / "account.json").write_text(json.dumps(account))
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield {
                "GOOGLE_SERVICE_ACCOUNT": str(folder / "account.json"),
                "STORAGE_EMULATOR_HOST": url,
            }
        finally:
            server.shutdown()


Fault = Callable[["FaultyHandler"], bool]
"""Misbehaves and returns True, or leaves the request to the server."""


class FaultyHandler(StoreHandler):
    """The server of the project, with faults before its answers; it notes what was asked."""

    server: FaultyServer

    def answer(self, *, with_body: bool) -> None:
        with self.server.lock:
            self.server.asked.append((self.command, self.path, self.headers.get("Range", "")))
            self.server.given.append(self.headers.get("Authorization", ""))
            fault = self.server.next_fault(self.path)
        if fault is None or not fault(self):
            super().answer(with_body=with_body)

    def body(self, descriptor: int, start: int, stop: int) -> None:
        self.server.sent += stop - start
        super().body(descriptor, start, stop)


class FaultyServer(StoreServer):
    """``faults``: path ending → faults that its next requests meet, one each; ``always`` for ever."""

    def __init__(self, store: Path) -> None:
        self.faults: dict[str, list[Fault]] = {}
        self.always: dict[str, Fault] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.given: list[str] = []
        self.sent = 0
        self.lock = threading.Lock()
        super().__init__(store, handler=FaultyHandler)

    def next_fault(self, path: str) -> Fault | None:
        path = path.split("?")[0]
        for ending, faults in self.faults.items():
            if path.endswith(ending) and faults:
                return faults.pop(0)
        return next((f for ending, f in self.always.items() if path.endswith(ending)), None)

    def forget(self) -> None:
        self.asked.clear()
        self.given.clear()
        self.sent = 0


@contextlib.contextmanager
def web_server(store: Path) -> Iterator[FaultyServer]:
    """Serve a store from a thread of this process."""
    with FaultyServer(store) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def status(code: int, text: str = "") -> Fault:
    """Answer with a status."""

    def fault(handler: FaultyHandler) -> bool:
        handler.send_response(code)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text.encode())
        return True

    return fault


def slow(seconds: float) -> Fault:
    """Answer, but late."""

    def fault(handler: FaultyHandler) -> bool:
        time.sleep(seconds)
        return False

    return fault


def cut(handler: FaultyHandler) -> bool:
    """Promise a body and hang up in its middle."""
    asked = handler.headers.get("Range", "")
    first, last = (int(x) for x in (asked or "bytes=0-999").removeprefix("bytes=").split("-"))
    handler.send_response(206 if asked else 200)
    handler.send_header("Content-Length", str(last + 1 - first))
    if asked:
        handler.send_header("Content-Range", f"bytes {first}-{last}/1000000")
    handler.end_headers()
    handler.wfile.write(b"x" * ((last + 1 - first) // 2))
    handler.wfile.flush()
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)
    return True


def short(handler: FaultyHandler) -> bool:
    """Answer half of what was asked for as if it were all of it."""
    return _answer_asked(handler, lambda data: data[: len(data) // 2])


def spoilt(handler: FaultyHandler) -> bool:
    """Answer what was asked for with one bit flipped."""

    def flip(data: bytes) -> bytes:
        middle = len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]

    return _answer_asked(handler, flip)


def _answer_asked(handler: FaultyHandler, change: Callable[[bytes], bytes]) -> bool:
    key = handler.key()
    assert key is not None
    data = handler.server.files.read(key)
    asked = handler.headers.get("Range", "")
    span = asked or f"bytes=0-{len(data) - 1}"
    first, last = (int(x) for x in span.removeprefix("bytes=").split("-"))
    body = change(data[first : last + 1])
    handler.send_response(206 if asked else 200)
    handler.send_header("Content-Length", str(len(body)))
    if asked:
        handler.send_header("Content-Range", f"bytes {first}-{first + len(body) - 1}/{len(data)}")
    handler.end_headers()
    handler.wfile.write(body)
    return True
