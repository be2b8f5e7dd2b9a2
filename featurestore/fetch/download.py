"""One file from a server: resumed where it stopped, never spliced, held against what is published.

While it comes it is ``.NAME.part``, with ``.NAME.part.json`` beside it that says which version of the
file it is a part of. It takes its name when it is whole, flushed, and what is published.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final, Literal

from featurestore.errors import FetchError, InputError
from featurestore.fetch.checksums import Checksum
from featurestore.fetch.web import TransientError, Web
from featurestore.untrusted import read_json

PIECE: Final = 1 << 18
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+@() -]{0,199}")
_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")

State = Literal["fetched", "there", "there, not checked"]
OnBytes = Callable[[int, bool], None]
"""Called with how many bytes there are more (fewer where some were given up), and whether they came now."""


def unheard(_count: int, _now: bool) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class RemoteFile:
    """A file on a server.

    Parameters
    ----------
    url : str
    name : str
        What it is called here; see :func:`safe_name`.
    size : int or None
        Bytes, where the server lists them.
    checksum : Checksum or None
    """

    url: str
    name: str
    size: int | None = None
    checksum: Checksum | None = None

    @property
    def about(self) -> int | None:
        """Bytes, to the KiB where only blocks are listed; None where nothing is known."""
        if self.size is None and self.checksum is not None and self.checksum.blocks:
            return self.checksum.blocks * 1024
        return self.size


def safe_name(name: str, where: str) -> str:
    """The name that a server gives a file, if it is one that can do no harm here.

    Raises
    ------
    FetchError
        For a path, a hidden file, control characters, or the name of a part.
    """
    if _NAME.fullmatch(name) and not name.endswith((".part", ".", " ")):
        return name
    raise FetchError(f"{where}: names a file {name[:100]!r}, which is no plain name of a file")


def download(web: Web, file: RemoteFile, folder: Path, on_bytes: OnBytes = unheard) -> State:
    """Fetch a file into a folder, or find that it is there.

    Raises
    ------
    InputError
        If another file of that name is there, or another process is fetching it.
    FetchError
        If it cannot be had, or is not what is published.
    """
    target = folder / safe_name(file.name, file.url)
    if target.exists():
        state = _what_is_there(target, file)
        on_bytes(target.stat().st_size, False)
        return state
    folder.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.part")
    with _alone(part) as stream:
        _Download(web, file, part, stream, on_bytes).run()
        os.fsync(stream.fileno())
        part.rename(target)
        _note(part).unlink(missing_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return "fetched"


def _what_is_there(target: Path, file: RemoteFile) -> State:
    if not target.is_file():
        raise InputError(f"{target}: is there and is no file; give another --out")
    if wrong := _differs(target, file):
        raise InputError(
            f"{target}: is there already and {wrong}. Nothing was overwritten: move it away, or give "
            "another --out"
        )
    return "there" if file.checksum is not None or file.size is not None else "there, not checked"


def _differs(path: Path, file: RemoteFile) -> str:
    """In what a file is not what is published; empty if it is."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"has {size:,} bytes where {file.size:,} are published"
    if file.checksum is not None and (found := file.checksum.of(path)) != file.checksum:
        return f"has {found} where {file.checksum} is published"
    return ""


def _note(part: Path) -> Path:
    return part.with_name(part.name + ".json")


@contextmanager
def _alone(part: Path) -> Iterator[IO[bytes]]:
    """The part, open at its end, for one process at a time."""
    # Not through a link that somebody left under the name.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(part, flags, 0o644), "r+b", buffering=0) as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{part}: another fs fetch is at it; wait for that one") from error
        stream.seek(0, os.SEEK_END)
        yield stream


class _Download:
    """The tries at one file."""

    def __init__(
        self, web: Web, file: RemoteFile, part: Path, stream: IO[bytes], on_bytes: OnBytes
    ) -> None:
        self.web, self.file, self.part, self.stream = web, file, part, stream
        self.on_bytes = on_bytes
        self.resumed = False
        self.refused = False
        self.on_bytes(self.have, False)

    @property
    def have(self) -> int:
        return self.stream.tell()

    def run(self) -> None:
        """Fetch until it is whole and what is published."""
        self.web.patiently(self._try, lambda: self.have)
        if not (wrong := _differs(self.part, self.file)):
            return
        joined = self.resumed
        self._start_over()
        if joined:  # pieces of two versions may have met where a server names none
            self.web.patiently(self._try, lambda: self.have)
            if not (wrong := _differs(self.part, self.file)):
                return
            self._start_over()
        raise FetchError(f"{self.file.url}: what came {wrong}; it was thrown away")

    def _start_over(self) -> None:
        self.on_bytes(-self.have, False)
        self.stream.seek(0)
        self.stream.truncate()
        self.resumed = False
        _note(self.part).unlink(missing_ok=True)

    def _try(self) -> None:
        headers = self._headers()
        with self.web.open(self.file.url, headers) as response:
            if response.status == 416:
                self._past_the_end(response)
                return
            if response.status == 206:
                total = self._goes_on(response)
            else:
                if self.have:
                    self._start_over()
                total = _number(response.headers.get("Content-Length"))
            if None not in (total, self.file.size) and total != self.file.size:
                raise FetchError(
                    f"{self.file.url}: the server sends {total:,} bytes where {self.file.size:,} are "
                    "published"
                )
            self._write_note(response)
            self._take(response, total)

    def _headers(self) -> dict[str, str]:
        """What asks for the rest, if it is known to be the rest of the same."""
        if not self.have:
            return {}
        note = _read_note(self.part)
        validator = note.get("etag") or note.get("last_modified")
        # Without a validator the published checksum is what tells a splice.
        if note.get("url") != self.file.url or not (validator or self.file.checksum):
            self._start_over()
            return {}
        asked = {"Range": f"bytes={self.have}-"}
        return asked | ({"If-Range": validator} if validator else {})

    def _goes_on(self, response: Any) -> int | None:
        """Size in all of a file whose rest comes; starts over where it is the rest of another."""
        match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        total = _number(match[3]) if match else None
        here, earlier = _version(response), _read_note(self.part)
        same = all(here[k] == earlier.get(k) for k in here if here[k] and earlier.get(k))
        if match is None or int(match[1]) != self.have or not same:
            self._start_over()
            if self.refused:
                raise FetchError(
                    f"{self.file.url}: the server sends other ranges than are asked for"
                )
            self.refused = True
            raise TransientError(f"{self.file.url}: the server sent another range or version")
        self.resumed = True
        return total

    def _past_the_end(self, response: Any) -> None:
        """There is nothing after what is here: it is whole, or it is not of this file."""
        total = _number(response.headers.get("Content-Range", "").removeprefix("bytes */"))
        if self.have and self.have == (self.file.size if total is None else total):
            return
        self._start_over()
        if self.refused:
            raise FetchError(f"{self.file.url}: the server has no byte of the file (416)")
        self.refused = True
        raise TransientError(f"{self.file.url}: the part here is longer than the file")

    def _take(self, response: Any, total: int | None) -> None:
        most = total if total is not None else self.file.size
        for piece in response.stream(PIECE, decode_content=False):
            if most is not None and self.have + len(piece) > most:
                self._start_over()
                raise FetchError(f"{self.file.url}: more came than the {most:,} bytes that it has")
            self.web.go_on()
            self.stream.write(piece)
            self.on_bytes(len(piece), True)
        if most is not None and self.have < most:
            raise TransientError(f"{self.file.url}: cut off at {self.have:,} of {most:,} bytes")

    def _write_note(self, response: Any) -> None:
        note = _note(self.part)
        fresh = note.with_name(note.name + ".new")
        fresh.write_text(json.dumps({"url": self.file.url, **_version(response)}))
        fresh.replace(note)


def _version(response: Any) -> dict[str, str]:
    """What tells versions of a file apart; weak tags promise nothing of the bytes."""
    tag = response.headers.get("ETag", "")
    return {
        "etag": "" if tag.startswith("W/") else tag,
        "last_modified": response.headers.get("Last-Modified", ""),
    }


def _read_note(part: Path) -> dict[str, str]:
    try:
        found = read_json(_note(part))
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, str) and v.isprintable()}


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None
