"""Where an export goes: a folder that appears whole, or a bucket in which the manifest comes last."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Protocol

from featurestore.errors import InputError, RemoteStoreError, StoreLockedError
from featurestore.store.commit import WrittenFile, commit_file
from featurestore.store.digest import hash_file
from featurestore.store.manifest import MANIFEST
from featurestore.store.remote import RemoteFiles
from featurestore.store.remote_backends import AlreadyThereError, ObstoreBackend, RemoteOptions

_UPLOAD_SECONDS: Final = 600.0


class Target(Protocol):
    """Takes the files of an export; safe to call from several threads."""

    def held(self, key: str, recipe: str) -> WrittenFile | None:
        """What an earlier attempt left of a file, if it follows from the same recipe."""

    def put(self, key: str, data: bytes, recipe: str) -> WrittenFile:
        """Keep a file."""

    def finish(self, manifest: bytes) -> None:
        """Make the store appear."""

    def close(self) -> None:
        """Let go, finished or not."""


class FolderTarget:
    """A folder. Files gather beside it under a hidden name, with a journal; at the end it is renamed.

    Raises
    ------
    InputError
        If something is there already.
    StoreLockedError
        If another process exports to the same place.
    """

    def __init__(self, out: Path, identity: str) -> None:
        self.out = out.absolute()
        if self.out.exists() or self.out.is_symlink():
            raise InputError(f"{out}: there is something already; name a place that does not exist")
        self._work = self.out.with_name(f".{self.out.name}.export")
        self._work.mkdir(parents=True, exist_ok=True)
        self._lock_file = self._claim()
        self._tree, self._journal = self._work / "store", self._work / "journal.jsonl"
        self._known = self._resume(identity)
        self._guard = threading.Lock()

    def _claim(self) -> int:
        descriptor = os.open(self._work, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(descriptor)
            raise StoreLockedError(f"{self.out}: another process is exporting to it") from error
        except OSError:  # no locks on this file system
            return descriptor
        return descriptor

    def _resume(self, identity: str) -> dict[str, tuple[str, WrittenFile]]:
        lines: list[Any] = []
        with contextlib.suppress(FileNotFoundError):
            for line in self._journal.read_text().splitlines():
                with contextlib.suppress(ValueError):  # the line that a kill cut short
                    lines.append(json.loads(line))
        if not lines or lines[0] != {"identity": identity}:
            shutil.rmtree(self._tree, ignore_errors=True)
            commit_file(self._journal, [json.dumps({"identity": identity}).encode() + b"\n"])
            return {}
        return {key: (recipe, WrittenFile(size, digest)) for key, recipe, size, digest in lines[1:]}

    def held(self, key: str, recipe: str) -> WrittenFile | None:
        """A file that is there whole: it is read to make sure."""
        found = self._known.get(key)
        if found is None or found[0] != recipe:
            return None
        with contextlib.suppress(OSError):
            if hash_file(self._tree / key) == found[1]:
                return found[1]
        return None

    def put(self, key: str, data: bytes, recipe: str) -> WrittenFile:
        """Write a file by rename, then note it."""
        written = commit_file(self._tree / key, [data])
        line = json.dumps([key, recipe, written.size, written.digest]) + "\n"
        with self._guard, self._journal.open("a") as journal:
            journal.write(line)
        return written

    def finish(self, manifest: bytes) -> None:
        """Drop what does not belong, write the manifest, flush, rename."""
        files = json.loads(manifest.rpartition(b"\n")[0].rpartition(b"\n")[0])["files"]
        for path in [p for p in self._tree.rglob("*") if p.is_file()]:
            if path.relative_to(self._tree).as_posix() not in files:
                path.unlink()
        commit_file(self._tree / MANIFEST, [manifest])
        for folder in [self._tree, *(p for p in self._tree.rglob("*") if p.is_dir())]:
            _sync(folder)
        self._tree.rename(self.out)
        _sync(self.out.parent)
        shutil.rmtree(self._work)

    def close(self) -> None:
        """Release the lock."""
        os.close(self._lock_file)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class BucketTarget:
    """An address in object storage: every object by conditional put, so that the first writer wins.

    An object that is there already and equal is fine; another one is an error that names it.

    Raises
    ------
    InputError
        For an address that cannot be written.
    """

    def __init__(self, url: str, options: RemoteOptions | None = None) -> None:
        waits = replace(options or RemoteOptions(), timeout=_UPLOAD_SECONDS)
        self._files = RemoteFiles(url, backend="obstore", options=waits)
        if not self._files.address.is_bucket:
            raise InputError(
                f"{self._files.label}: a store is published to s3:// or gs://, or to a folder"
            )
        assert isinstance(self._files.backend, ObstoreBackend)  # noqa: S101 - asked for
        self._backend = self._files.backend
        self._there = dict(self._files.persist("", lambda: list(self._backend.list())))
        self.requests = self._files

    @property
    def label(self) -> str:
        """The address as messages show it."""
        return self._files.label

    def held(self, key: str, recipe: str) -> WrittenFile | None:
        """An object that an earlier attempt put there, by what it noted on it."""
        if key not in self._there:
            return None
        size, notes = self._describe(key)
        known = notes.get("meristem-recipe") == _brief(recipe)
        digest = notes.get("meristem-sha256", "")
        return WrittenFile(size, digest) if known and len(digest) == 64 else None

    def _describe(self, key: str) -> tuple[int, dict[str, str]]:
        return self._files.persist(key, lambda: self._backend.describe(key))

    def put(self, key: str, data: bytes, recipe: str) -> WrittenFile:
        """Put an object, or find the equal one that is there."""
        written = WrittenFile(len(data), hashlib.sha256(data).hexdigest())
        notes = {"meristem-recipe": _brief(recipe), "meristem-sha256": written.digest}

        def ask() -> bool:
            try:
                self._backend.put_new(key, data, notes)
            except AlreadyThereError:
                return False
            return True

        if not self._files.persist(key, ask) and not self._is_equal(key, data):
            raise RemoteStoreError(
                f"{self.label}/{key}: another object is there already, and it is left as it is. Publish to an address "
                "of its own, or delete what lies there first"
            )
        return written

    def _is_equal(self, key: str, data: bytes) -> bool:
        size, _ = self._describe(key)
        return size == len(data) and b"".join(self._files.stream(key)) == data

    def finish(self, manifest: bytes) -> None:
        """Put the manifest: from now on the store can be opened."""
        self.put(MANIFEST, manifest, "manifest")

    def close(self) -> None:
        """Nothing is held."""


def _brief(recipe: str) -> str:
    return hashlib.sha256(recipe.encode()).hexdigest()


@contextlib.contextmanager
def closing(target: Target) -> Iterator[Target]:
    """Close a target in the end."""
    try:
        yield target
    finally:
        target.close()
