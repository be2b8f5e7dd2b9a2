"""Turns a work area whose shards are done into a store: completeness by reading, manifest, swap."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from featurestore.build.planning.group_plan import BuildPlan, Task
from featurestore.build.reuse.existing import READERS
from featurestore.build.reuse.known import forget
from featurestore.build.sealing.metadata import consolidate, write_metadata
from featurestore.build.sealing.replaced import between, retire, sweep
from featurestore.build.work_area import WorkArea
from featurestore.errors import IncompleteStoreError, StoreError
from featurestore.inputs.model import SpeciesData
from featurestore.store.manifest import Manifest, hash_file, read_manifest
from featurestore.store.shard import WrittenFile, commit_file

_AT_FDCWD: Final = -100
_RENAME_EXCHANGE: Final = 2


def seal(
    work: WorkArea, plan: BuildPlan, data: Sequence[SpeciesData], funnels: Mapping[str, Any]
) -> Manifest:
    """Check every shard by reading it, write metadata and manifest; the tree is then a whole store.

    Raises
    ------
    IncompleteStoreError
        If a shard has no marker, or its bytes are not those it was written with.
    """
    expected, keys = _collect(work, plan)
    fresh = work.root / "metadata"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    write_metadata(fresh, work, plan, data, funnels)
    small = [p for p in fresh.rglob("*") if p.is_file()]
    wanted = {*expected, *(p.relative_to(fresh).as_posix() for p in small)}
    for path in [p for p in work.store.rglob("*") if p.is_file()]:
        if path.relative_to(work.store).as_posix() not in wanted:
            path.unlink()  # of an earlier plan in this work area
    for path in small:
        target = work.store / path.relative_to(fresh)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.replace(target)
    shutil.rmtree(fresh)
    _drop_empty_folders(work.store)
    consolidate(work.store)
    files = dict(expected)
    for name in sorted(wanted - set(expected)):
        files[name] = hash_file(work.store / name)
    manifest = Manifest(files, keys)
    manifest.write(work.store)
    return manifest


def drop_spoilt(work: WorkArea, plan: BuildPlan) -> int:
    """Read every finished shard back; those that are not what was written lose their marker.

    Returns
    -------
    int
        How many did.
    """

    def spoilt(task: Task) -> bool:
        marker = work.read_marker(task, plan.key(task))
        if marker is not None and all(_is(work.store / p, f) for p, f in marker.files.items()):
            return False
        work.marker_path(task).unlink(missing_ok=True)
        return True

    with ThreadPoolExecutor(READERS) as pool:  # reading and digesting lets other threads run
        return sum(pool.map(spoilt, plan.tasks()))


def _is(path: Path, file: WrittenFile) -> bool:
    return hash_file(path, file) == file


def _collect(work: WorkArea, plan: BuildPlan) -> tuple[dict[str, WrittenFile], dict[str, str]]:
    """Files and keys of all shards, each of which has to be there."""
    files: dict[str, WrittenFile] = {}
    keys: dict[str, str] = {}
    missing: list[str] = []
    for task in plan.tasks():
        _, group = plan.of(task)
        marker = work.read_marker(task, group.keys[task.shard])
        if marker is None:
            missing.append(task.path)
            continue
        files |= marker.files
        keys[task.path] = group.keys[task.shard]
    if missing:
        shown = ", ".join(missing[:5])
        raise IncompleteStoreError(
            f"{len(missing)} of {len(plan.tasks())} shards are not done: {shown}"
            f"{' …' if len(missing) > 5 else ''}. Run 'fs build' again: it computes these and no other."
        )
    return files, keys


def _drop_empty_folders(root: Path) -> None:
    for folder in sorted((p for p in root.rglob("*") if p.is_dir()), key=lambda p: -len(p.parts)):
        if not any(folder.iterdir()):
            folder.rmdir()


def sync_tree(root: Path) -> None:
    """Flush every file and folder: a power cut after the swap loses nothing."""
    for path in [root, *root.rglob("*")]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def swap(work: WorkArea, store: Path, digest: str) -> None:
    """Put the sealed tree in the place of the store, atomically where the kernel can exchange.

    A note of the digest goes before, so that after a kill :func:`recover` knows on which side of
    the exchange it happened. The tree that was there stays beside the store while it is read.
    """
    built = work.store
    forget()  # or this process would seem to be reading the store that goes
    gc.collect()
    sync_tree(built)
    commit_file(work.sealed, [digest.encode()])
    if not store.exists():
        built.rename(store)
    elif _exchange(built, store):
        retire(built, store)
    else:
        aside = between(store)
        aside.parent.mkdir(exist_ok=True)
        store.rename(aside)
        built.rename(store)
        retire(aside, store)
    descriptor = os.open(store.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths by ``renameat2``; False where kernel or file system cannot."""
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    result = call(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    return int(result) == 0


def recover(store: Path, work: WorkArea) -> None:
    """Finish what a kill during a swap left: between two renames, or before the cleaning up."""
    aside = between(store)
    if aside.exists() and not store.exists():
        aside.rename(store)
    elif aside.exists():
        retire(aside, store)
    sweep(store)
    work.clear_removed()
    if work.sealed.exists():
        try:
            swapped = read_manifest(store).digest == work.sealed.read_text()
        except StoreError:
            swapped = False
        if swapped:
            # What lies in the work area now is the old store, under markers of the new one.
            shutil.rmtree(work.root / "done", ignore_errors=True)
            if work.store.exists():
                retire(work.store, store)
        work.sealed.unlink()
