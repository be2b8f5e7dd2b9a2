"""Trees that a build has replaced: kept while a reader has them open, removed when none has.

    .store.zarr.replaced/
      <digest>/     a tree that was the store; the first digits of its manifest's digest
      between       the store, for the instant between two renames where the kernel cannot exchange
      .*.removed    a tree that is being deleted

A reader holds a shared lock on the folder it opened (:class:`~featurestore.store.files.LocalFiles`);
the kernel lets go of it when the reader ends, however it ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal

from featurestore.errors import StoreError
from featurestore.store.manifest import read_manifest

Use = Literal["unread", "read", "unknown"]
"""Whether a reader has a tree open; unknown where the file system has no locks."""

_DIGITS: Final = 12
_REMOVED: Final = ".removed"
_BETWEEN: Final = "between"


def replaced_folder(store: Path) -> Path:
    """Where the trees lie that a build of this store has replaced."""
    return store.with_name(f".{store.name}.replaced")


def between(store: Path) -> Path:
    """Where the store lies between two renames."""
    return replaced_folder(store) / _BETWEEN


def replaced_trees(store: Path) -> list[Path]:
    """The trees that were replaced and are still there."""
    folder = replaced_folder(store)
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.name != _BETWEEN and not p.name.startswith("."))


def half_removed(store: Path) -> list[Path]:
    """What a removal that was cut off left."""
    folder = replaced_folder(store)
    return sorted(folder.glob(f".*{_REMOVED}")) if folder.is_dir() else []


def retire(tree: Path, store: Path) -> Use:
    """Put a tree beside the store that replaced it, and remove it at once if nobody reads it."""
    folder = replaced_folder(store)
    folder.mkdir(exist_ok=True)
    try:
        name = read_manifest(tree).digest[:_DIGITS]
    except StoreError:
        name = "damaged"
    place, number = folder / name, 1
    while place.exists():
        number += 1
        place = folder / f"{name}.{number}"
    tree.rename(place)
    use = remove_unread(place)
    _drop_if_empty(folder)
    return use


def sweep(store: Path) -> None:
    """Remove every replaced tree that nobody reads any more; needs no lock of the build."""
    for tree in replaced_trees(store):
        remove_unread(tree)
    for tree in half_removed(store):
        shutil.rmtree(tree, ignore_errors=True)
    _drop_if_empty(replaced_folder(store))


def use_of(tree: Path) -> Use:
    """Whether a reader has a tree open."""
    with _alone(tree) as use:
        return use


def remove_unread(tree: Path, *, even_if_unknown: bool = False) -> Use:
    """Remove a tree unless a reader has it open, or the file system cannot tell.

    Returns
    -------
    Use
        As found; the tree is gone if it is ``unread``.
    """
    with _alone(tree) as use:
        if use == "unread" or (use == "unknown" and even_if_unknown):
            # Renamed first: cut off half-way it must not look like a tree that is whole.
            doomed = tree.with_name(f".{tree.name}{_REMOVED}")
            shutil.rmtree(doomed, ignore_errors=True)
            with contextlib.suppress(FileNotFoundError):  # another process was quicker
                tree.rename(doomed)
            shutil.rmtree(doomed, ignore_errors=True)
            return "unread"
        return use


@contextmanager
def _alone(tree: Path) -> Iterator[Use]:
    """Hold the exclusive lock of a tree, where nobody reads it."""
    try:
        descriptor = os.open(tree, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        yield "unread"
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield "read"
        except OSError:
            yield "unknown"
        else:
            yield "unread"
    finally:
        os.close(descriptor)


def _drop_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not empty, or not there
        folder.rmdir()
