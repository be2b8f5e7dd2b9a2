"""``fs export --to zarr``: a whole new store from one that is there, verified on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from featurestore.export.plan import ROOT, Item, plan_export
from featurestore.export.profiles import Profile
from featurestore.export.targets import BucketTarget, FolderTarget, Target, closing
from featurestore.store.commit import WrittenFile
from featurestore.store.manifest import Manifest
from featurestore.store.places import shown
from featurestore.store.reader import Store
from featurestore.store.remote_url import is_url

WORKERS: Final = 4
"""Files under way at a time, and so the most that are in memory."""


@dataclass(frozen=True)
class Exported:
    """Outcome of :func:`export_store`.

    ``written`` files of ``files`` were written now; the others were there from an earlier attempt.
    """

    target: str
    digest: str
    files: int
    bytes: int
    written: int
    profile: str


def export_store(
    store: Store,
    out: Path | str,
    *,
    species: Sequence[str] = (),
    embedders: Sequence[str] = (),
    profile: Profile | None = None,
    on_file: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write a store anew, to a folder or to object storage.

    What is read is held against the manifest of ``store``. A run that was stopped goes on where it
    was. Until the end there is nothing to open at ``out``: a folder takes its name last, a bucket
    gets its manifest last.

    Parameters
    ----------
    out : Path or str
        A folder that does not exist, or ``s3://…``, ``gs://…``.
    species, embedders : sequence of str
        Default all.
    profile : {"local", "remote", "int8"}, optional
        See :mod:`featurestore.export.profiles`. Default: as the store is.
    on_file : callable
        Called with the number of files done and of all.

    Raises
    ------
    InputError, DamagedStoreError, RemoteStoreError
    """
    plan = plan_export(store, species=species, embedders=embedders, profile=profile)
    target: Target = (
        BucketTarget(str(out)) if is_url(out) else FolderTarget(Path(out), plan.identity)
    )
    with closing(target):
        files, written = _write(plan.items, target, on_file or (lambda done, total: None))
        manifest = Manifest(files, plan.keys)
        target.finish(manifest.text())
    size = sum(f.size for f in files.values())
    return Exported(str(shown(out)), manifest.digest, len(files) + 1, size, written, plan.profile)


def _write(
    items: Sequence[Item], target: Target, on_file: Callable[[int, int], None]
) -> tuple[dict[str, WrittenFile], int]:
    """Write every file that is not there; the root's metadata after all others."""
    files: dict[str, WrittenFile] = {}
    written = 0
    under_way: dict[Future[tuple[WrittenFile, bool]], str] = {}

    def one(item: Item) -> tuple[WrittenFile, bool]:
        there = target.held(item.key, item.recipe)
        file = there or target.put(item.key, item.make(), item.recipe)
        return item.known or file, there is None

    def collect(done: set[Future[tuple[WrittenFile, bool]]]) -> None:
        nonlocal written
        for future in done:
            key = under_way.pop(future)
            files[key], fresh = future.result()
            written += fresh
            on_file(len(files), len(items))

    with ThreadPoolExecutor(WORKERS, thread_name_prefix="meristem-export") as pool:
        try:
            for item in sorted(items, key=lambda i: i.key == ROOT):
                if len(under_way) >= WORKERS or item.key == ROOT:
                    every = item.key == ROOT
                    while under_way:
                        collect(wait(under_way, return_when=FIRST_COMPLETED).done)
                        if not every:
                            break
                under_way[pool.submit(one, item)] = item.key
            while under_way:
                collect(wait(under_way, return_when=FIRST_COMPLETED).done)
        finally:
            pool.shutdown(cancel_futures=True)
    return files, written
