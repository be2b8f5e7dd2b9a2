"""A tiny server on 127.0.0.1 that speaks as much of the Hugging Face hub as downloads need."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Hub:
    """A running server.

    ``repositories``: id (``owner/name``) → folder with its files; ``requests``: what was asked,
    ``METHOD path``, in order.
    """

    url: str
    repositories: dict[str, Path]
    requests: list[str] = field(default_factory=list)

    def commit(self, name: str) -> str:
        """Forty hex digits that stand for the state of a repository."""
        files = sorted(p for p in self.repositories[name].iterdir() if p.is_file())
        content = b"".join(p.name.encode() + p.read_bytes() for p in files)
        return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@contextlib.contextmanager
def hub_server(**repositories: Path) -> Iterator[Hub]:
    """Serve folders as model repositories; a double underscore in a keyword is the slash of the id.

    >>> with hub_server(owner__name=folder) as hub:
    ...     environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(cache)}  # of a new process
    """
    hub = Hub("", {k.replace("__", "/"): v for k, v in repositories.items()})

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            """Say nothing on stderr."""

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def _answer(self, *, body: bool) -> None:
            path = self.path.split("?")[0]
            hub.requests.append(f"{self.command} {path}")
            for name, folder in hub.repositories.items():
                files = sorted(p.name for p in folder.iterdir() if p.is_file())
                commit = hub.commit(name)
                if path in (f"/api/models/{name}", *self._revisions(name, commit)):
                    facts = {
                        "id": name, "modelId": name, "sha": commit, "private": False, "tags": [],
                        "downloads": 0, "siblings": [{"rfilename": f} for f in files],
                    }  # fmt: skip
                    return self._send(json.dumps(facts).encode(), body, {})
                if path.startswith(f"/api/models/{name}/tree/"):
                    rows = [
                        {"type": "file", "path": f, "size": (folder / f).stat().st_size, "oid": "0" * 40}
                        for f in files
                    ]  # fmt: skip
                    return self._send(json.dumps(rows).encode(), body, {})
                if path.startswith(f"/{name}/resolve/"):
                    file = path.rsplit("/", 1)[1]
                    if file in files:
                        content = (folder / file).read_bytes()
                        etag = hashlib.sha256(content).hexdigest()
                        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit}
                        return self._send(content, body, headers)
                    return self._send(b"", body, {"X-Error-Code": "EntryNotFound"}, 404)
            return self._send(b"{}", body, {"X-Error-Code": "RepoNotFound"}, 404)

        @staticmethod
        def _revisions(name: str, commit: str) -> list[str]:
            return [f"/api/models/{name}/revision/{r}" for r in ("main", commit)]

        def _send(
            self, content: bytes, body: bool, headers: dict[str, str], status: int = 200
        ) -> None:
            self.send_response(status)
            for key, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(key, value)
            self.end_headers()
            if body:
                self.wfile.write(content)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
