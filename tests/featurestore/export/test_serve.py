"""``fs serve``: what the manifest names and nothing else, by the rules of HTTP."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from featurestore.errors import StoreNotFoundError
from featurestore.export.serve import CONNECTIONS, StoreServer

FILE = "plant/kmer/embedding/c/1/0/0/0"


@pytest.fixture
def store(built, tmp_path) -> Path:
    """A copy with strangers in it, and a secret beside it."""
    path = Path(shutil.copytree(built, tmp_path / "s.zarr"))
    (path / "stranger").write_text("x")
    (tmp_path / "secret").write_text("hunter2")
    return path


@pytest.fixture
def server(store) -> Iterator[StoreServer]:
    with StoreServer(store) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: StoreServer, path: str, method: str = "GET", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=10)
    connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
    answer = connection.getresponse()
    found = answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
    connection.close()
    return found


@pytest.mark.parametrize("prefix", ["/", "/s.zarr/"])
def test_every_file_of_the_manifest_is_served(server, store, prefix):
    for key in [
        *json.loads((store / "manifest.json").read_text().rpartition("\n}")[0] + "}")["files"],
        "manifest.json",
    ]:
        status, headers, body = ask(server, prefix + key)
        assert (status, body) == (200, (store / key).read_bytes())
        assert headers["content-length"] == str(len(body))


@pytest.mark.parametrize(
    ("asked", "slice_"),
    [("bytes=10-19", slice(10, 20)), ("bytes=10-", slice(10, None)), ("bytes=-20", slice(-20, None)),
     ("bytes=0-999999999", slice(None)), ("bytes=-999999999", slice(None))],
)  # fmt: skip
def test_ranges(server, store, asked, slice_):
    whole = (store / FILE).read_bytes()
    status, headers, body = ask(server, f"/{FILE}", Range=asked)
    assert (status, body) == (206, whole[slice_])
    start = whole.index(body)
    assert headers["content-range"] == f"bytes {start}-{start + len(body) - 1}/{len(whole)}"


def test_ranges_that_are_none(server, store):
    whole = (store / FILE).read_bytes()
    for asked in (f"bytes={len(whole)}-", "bytes=-0"):
        status, headers, _ = ask(server, f"/{FILE}", Range=asked)
        assert (status, headers["content-range"]) == (416, f"bytes */{len(whole)}")
    for asked in (
        "bytes=5-2",
        "bytes=a-b",
        "lines=0-1",
        "bytes=0-1,4-5",
        "bytes=-",
        "bytes=" + "9" * 5000 + "-",
    ):
        status, _, body = ask(server, f"/{FILE}", Range=asked)
        assert (status, body) == (200, whole), "what is not understood is ignored (RFC 9110, 14.2)"


def test_head_etag_and_cors(server, store):
    status, headers, body = ask(server, f"/{FILE}", "HEAD")
    assert (status, body, headers["content-length"]) == (
        200,
        b"",
        str((store / FILE).stat().st_size),
    )
    assert headers["access-control-allow-origin"] == "*"
    assert headers["accept-ranges"] == "bytes"
    assert ask(server, f"/{FILE}", If_None_Match=headers["etag"])[0] == 304
    assert ask(server, f"/{FILE}", Range="bytes=0-3", If_Range='"other"')[0] == 200
    assert ask(server, f"/{FILE}", Range="bytes=0-3", If_Range=headers["etag"])[0] == 206
    status, headers, _ = ask(
        server,
        f"/{FILE}",
        "OPTIONS",
        Origin="https://viewer",
        Access_Control_Request_Headers="range",
    )
    assert status == 204
    assert "Range" in headers["access-control-allow-headers"]


@pytest.mark.parametrize(
    "path",
    ["/", "/stranger", "/../secret", "/%2e%2e/secret", "/s.zarr/../../secret", "//etc/passwd", "/plant", "/plant/",
     "/plant/kmer/../tss/c/0", "/zarr.json%00", "/s.zarr/s.zarr/zarr.json", "/%ff", "/?zarr.json", "/.zarr.json"],
)  # fmt: skip
def test_nothing_else_is(server, path):
    status, _, body = ask(server, path)
    assert status == 404
    assert b"hunter2" not in body


def test_links_and_other_things_in_the_place_of_files_are_not_followed(server, store, tmp_path):
    size = (store / FILE).stat().st_size
    (tmp_path / "secret").write_bytes(b"hunter2".ljust(size))
    (store / FILE).unlink()
    (store / FILE).symlink_to(tmp_path / "secret")
    assert ask(server, f"/{FILE}")[0] == 404
    shutil.copytree(store / "plant/sequence", tmp_path / "elsewhere")
    shutil.rmtree(store / "plant/sequence")
    (store / "plant/sequence").symlink_to(tmp_path / "elsewhere")
    assert ask(server, "/plant/sequence/zarr.json")[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_nothing_is_written(server, store, method):
    before = (store / FILE).read_bytes()
    status, headers, _ = ask(server, f"/{FILE}", method)
    assert status == 405
    assert "GET" in headers["allow"]
    assert (store / FILE).read_bytes() == before


def test_more_readers_than_slots_wait_and_are_served(server, store):
    whole = (store / FILE).read_bytes()

    def read(_: int) -> bool:
        with urllib.request.urlopen(f"{server.url}/{FILE}", timeout=20) as answer:  # noqa: S310 - http
            return bytes(answer.read()) == whole

    idle = [socket.create_connection(server.server_address[:2]) for _ in range(CONNECTIONS - 4)]
    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(read, range(100)))
    for one in idle:
        one.close()


def test_the_command_serves_until_it_is_interrupted(built):
    words = [sys.executable, "-m", "featurestore", "serve", str(built), "--port", "0"]
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with urllib.request.urlopen(f"{url}/zarr.json", timeout=20) as answer:  # noqa: S310 - http
            assert answer.read() == (built / "zarr.json").read_bytes()
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0


def test_what_is_no_store_is_not_served(tmp_path):
    with pytest.raises(StoreNotFoundError):
        StoreServer(tmp_path)
