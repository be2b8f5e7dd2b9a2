"""``fs gc``: removes what builds left behind and nothing refers to any more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurestore.build.planning.group_plan import BuildPlan
from featurestore.build.planning.prepare import earlier_plan
from featurestore.build.sealing.lock import build_lock
from featurestore.build.sealing.replaced import (
    between,
    half_removed,
    remove_unread,
    replaced_folder,
    replaced_trees,
    use_of,
)
from featurestore.build.work_area import WorkArea
from featurestore.errors import InputError, StoreError, StoreLockedError, StoreNotFoundError
from featurestore.store.identify import is_ours
from featurestore.store.manifest import read_manifest
from featurestore.store.verify import strangers


@dataclass(frozen=True)
class Item:
    """Something that was found beside or in a store.

    Parameters
    ----------
    path : str
    what : str
        What it is.
    bytes : int
        What removing it frees: files that the store holds as well count nothing.
    removed : bool
        Whether it is gone; with a dry run, whether it would be.
    why : str
        Why it stays; empty where it goes.
    """

    path: str
    what: str
    bytes: int
    removed: bool
    why: str = ""


@dataclass
class Collection:
    """What ``fs gc`` found."""

    store: str
    dry_run: bool
    items: list[Item] = field(default_factory=list)

    @property
    def freed(self) -> int:
        """Bytes that were freed, or would be."""
        return sum(i.bytes for i in self.items if i.removed)

    def facts(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            "store": self.store, "dry_run": self.dry_run, "freed_bytes": self.freed,
            "items": [vars(i) for i in self.items],
        }  # fmt: skip


def collect(
    store: Path, *, dry_run: bool = False, work_area: bool = False, unseen: bool = False
) -> Collection:
    """Remove replaced trees that nobody reads, and what dead builds left.

    Parameters
    ----------
    dry_run : bool
        Only tell.
    work_area : bool
        Also the work area of a build that was not finished: its finished shards are lost.
    unseen : bool
        Also replaced trees of which the file system cannot tell whether somebody reads them.

    Raises
    ------
    StoreNotFoundError
        If there is neither a store nor anything that a build of it left.
    InputError
        If something else stands at the path.
    """
    store = store.resolve()
    work = WorkArea.beside(store)
    if store.exists() and not is_ours(store):
        raise InputError(f"{store}: not a store of this project, so nothing was touched")
    if not (store.exists() or work.root.exists() or replaced_folder(store).exists()):
        raise StoreNotFoundError(f"{store}: no store here, and nothing that a build of one left")
    found = Collection(str(store), dry_run)
    _replaced(found, store, unseen)
    _work_area(found, store, work, work_area)
    _strangers(found, store)
    return found


def _replaced(found: Collection, store: Path, unseen: bool) -> None:
    for tree in replaced_trees(store):
        size = freed_by(tree)
        if found.dry_run:
            use = use_of(tree)
            use = "unread" if use == "unknown" and unseen else use
        else:
            use = remove_unread(tree, even_if_unknown=unseen)
        why = {
            "unread": "",
            "read": "a reader has it open; it goes when that ends",
            "unknown": "the file system cannot tell whether somebody reads it; if nobody does: fs gc --unseen",
        }[use]
        found.items.append(Item(str(tree), "a store that was replaced", size, not why, why))
    for tree in half_removed(store):
        _remove(found, tree, "a store whose removal was cut off")
    if not found.dry_run and replaced_folder(store).is_dir() and not any(replaced_folder(store).iterdir()):  # fmt: skip
        replaced_folder(store).rmdir()


def _remove(found: Collection, path: Path, what: str, remove: Callable[[Path], None] | None = None) -> None:  # fmt: skip
    size = freed_by(path)
    if not found.dry_run:
        (remove or _delete)(path)
    found.items.append(Item(str(path), what, size, True))


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _work_area(found: Collection, store: Path, work: WorkArea, remove: bool) -> None:
    cut_off = work.being_removed
    if not work.root.exists():
        if cut_off.exists():
            _remove(found, cut_off, "a work area whose removal was cut off")
        return
    try:
        with build_lock(work.root):
            if cut_off.exists():
                _remove(found, cut_off, "a work area whose removal was cut off")
            _unlocked_work_area(found, store, work, remove)
    except StoreLockedError as error:
        found.items.append(Item(str(work.root), "the work area of a build", 0, False, str(error)))


def _unlocked_work_area(found: Collection, store: Path, work: WorkArea, remove: bool) -> None:
    """The work area of a build that does not run; its lock is held."""
    if between(store).exists():
        found.items.append(
            Item(str(between(store)), "the store, on its way to be replaced", 0, False,
                 "a build was cut off between two renames; run 'fs build' again")
        )  # fmt: skip
    if remove and not between(store).exists():
        size = freed_by(work.root)
        if not found.dry_run:
            work.remove()
        found.items.append(Item(str(work.root), _told_of(work.root, work), size, True))
        return
    for path in partial_files(work.root):
        _remove(found, path, "a file that a dead attempt did not finish")
    why = "the next 'fs build' goes on with it; to give it up: fs gc --work-area"
    found.items.append(Item(str(work.root), _told_of(work.root, work), freed_by(work.root), False, why))  # fmt: skip


def _told_of(root: Path, work: WorkArea) -> str:
    plan: BuildPlan | None = earlier_plan(work)
    done = sum(1 for _ in (root / "done").rglob("[!.]*.json")) if (root / "done").is_dir() else 0
    of = f" of {len(plan.tasks()):,}" if plan is not None else ""
    return f"an unfinished build with {done:,}{of} shards done"


def partial_files(root: Path) -> Iterator[Path]:
    """Files and folders that were being written and were not committed."""
    for folder, folders, names in os.walk(root):
        for name in [n for n in (*folders, *names) if n.startswith(".") and ".partial" in n]:
            yield Path(folder) / name
        folders[:] = [n for n in folders if ".partial" not in n]


def _strangers(found: Collection, store: Path) -> None:
    """Files in the store that no build put there stay, and are told."""
    if not store.exists():
        return
    try:
        names = [f.file for f in strangers(store, read_manifest(store))]
    except StoreError:
        return  # 'fs verify' tells of the damage
    for name in names:
        path = store / name
        size = path.lstat().st_size
        found.items.append(
            Item(str(path), "does not belong to the store", size, False, "no build put it there; yours to remove")
        )  # fmt: skip


def freed_by(path: Path) -> int:
    """Bytes that go with a file or folder: those of files that have no other place."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size if path.is_symlink() or path.exists() else 0
    inside: dict[tuple[int, int], tuple[int, int, int]] = {}
    for folder, _, names in os.walk(path):
        for name in names:
            try:
                stat = (Path(folder) / name).lstat()
            except FileNotFoundError:
                continue
            seen = inside.get((stat.st_dev, stat.st_ino), (0, 0, 0))[0]
            inside[stat.st_dev, stat.st_ino] = seen + 1, stat.st_nlink, stat.st_size
    return sum(size for seen, links, size in inside.values() if seen >= links)
