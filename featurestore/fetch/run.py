"""Fetches everything that names stand for, and says how a data set uses it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurestore.errors import FetchError, MeristemError, MissingDependencyError, StorageError
from featurestore.fetch.download import OnBytes, RemoteFile, State, download, unheard
from featurestore.fetch.sources import Listing, list_files
from featurestore.fetch.web import Web


@dataclass(frozen=True)
class FetchOptions:
    """What ``fs fetch`` is asked for.

    Parameters
    ----------
    out : Path
        Folder; each name has one of its own below it.
    release : int or None
        Of Ensembl Plants; None takes that of the registry.
    only : sequence of str
        Patterns of names of files.
    jobs : int
        Files at once.
    """

    out: Path
    release: int | None = None
    only: Sequence[str] = ()
    jobs: int = 2


@dataclass
class Fetched:
    """What became of one file; ``state`` is ``failed`` where ``error`` says why."""

    source: str
    path: Path
    size: int
    state: State | str
    checksum: str = ""
    error: str = ""


@dataclass
class Outcome:
    """What became of all of them, and the lines for dataset.toml."""

    files: list[Fetched] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def failed(self) -> list[Fetched]:
        """Files that could not be had."""
        return [file for file in self.files if file.state == "failed"]


def listings(web: Web, names: Sequence[str], options: FetchOptions) -> list[Listing]:
    """The files of every name; each name once."""
    return [
        list_files(web, name, release=_release(name, options), only=options.only)
        for name in dict.fromkeys(names)
    ]


def _release(name: str, options: FetchOptions) -> int | None:
    return options.release if name.startswith("ensembl-plants") else None


def fetch(
    web: Web, found: Sequence[Listing], options: FetchOptions, on_bytes: OnBytes = unheard
) -> Outcome:
    """Fetch the files of listings, a few at a time; one that fails leaves the others alone.

    Raises
    ------
    StorageError
        If the disk has not the room that the files need.
    """
    _room(found, options.out)
    wanted = [(listing, file) for listing in found for file in listing.files]

    def one(job: tuple[Listing, RemoteFile]) -> Fetched:
        listing, file = job
        folder = options.out / listing.folder
        told = str(file.checksum or "")
        try:
            state = download(web, file, folder, on_bytes)
        except MeristemError as error:
            return Fetched(listing.source.name, folder / file.name, 0, "failed", told, str(error))
        path = folder / file.name
        return Fetched(listing.source.name, path, path.stat().st_size, state, told)

    with ThreadPoolExecutor(options.jobs) as pool:
        try:
            outcome = Outcome(list(pool.map(one, wanted)))
        except BaseException:  # Ctrl-C: the threads end at their next piece
            web.stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    outcome.files += [_snapshot(listing, options) for listing in found if listing.repository]
    bad = {file.path for file in outcome.failed}
    for listing in found:
        outcome.lines += dataset_lines(listing, options.out, bad)
    return outcome


def _room(found: Sequence[Listing], out: Path) -> None:
    """Refuse before the first byte what cannot fit."""
    missing = 0
    for listing in found:
        for file in listing.files:
            target = out / listing.folder / file.name
            if not target.exists():
                part = target.with_name(f".{file.name}.part")
                here = part.stat().st_size if part.exists() else 0
                missing += max((file.about or 0) - here, 0)
    place = next(p for p in [out.absolute(), *out.absolute().parents] if p.exists())
    free = shutil.disk_usage(place).free
    if missing > free:
        raise StorageError(
            f"{out}: {missing / 1e9:,.1f} GB are to come and {free / 1e9:,.1f} GB are free; give "
            "another --out, or fewer files with --only"
        )


def _snapshot(listing: Listing, options: FetchOptions) -> Fetched:
    """A checkpoint of the hub, by the hub's own client: it resumes and checks by itself."""
    from featurestore.embedders.checkpoint import PATTERNS, PICKLES, WEIGHT_FILES

    folder = options.out / listing.folder
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
    except ImportError as error:
        raise MissingDependencyError(
            "checkpoints need huggingface_hub: pip install 'meristem[models]'"
        ) from error
    try:
        for patterns in (PATTERNS, PATTERNS + PICKLES):
            snapshot_download(listing.repository, local_dir=folder, allow_patterns=patterns)
            if any((folder / name).exists() for name in WEIGHT_FILES):
                break
        else:
            raise FetchError(f"{listing.repository}: holds none of {', '.join(WEIGHT_FILES)}")
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError, ValueError) as error:
        why = f"{listing.repository}: {(str(error).splitlines() or [type(error).__name__])[0]}"
        return Fetched(listing.source.name, folder, 0, "failed", "", why)
    size = sum(p.stat().st_size for p in folder.glob("*") if p.is_file())
    return Fetched(listing.source.name, folder, size, "fetched", "sha256, by the hub's client")


def dataset_lines(listing: Listing, out: Path, bad: set[Path]) -> list[str]:
    """Lines of a dataset.toml that use what was fetched; paths as from the current folder."""
    folder = out / listing.folder
    if any(folder / file.name in bad for file in listing.files) or folder in bad:
        return []
    source = listing.source
    head = [f"# {source.citation}; {source.licence}; {source.page}"]
    if source.kind == "ensembl":
        roles = [f"{role} = {_text(folder / file)}" for role, file in listing.roles.items()]
        return [*head, f"[species.{listing.part}]", *roles]
    if source.name == "a2z":
        names = [p for p in listing.roles if not listing.part or p == listing.part]
        here = {file.name for file in listing.files}
        return head + [
            line
            for name in names
            if listing.roles[name] in here
            for line in (
                f"[embedders.a2z{'' if name == 'accessibility' else f'-{name}'}]",
                'type = "a2z"',
                f"checkpoint = {_text(folder / listing.roles[name])}",
            )
        ]
    if listing.repository:
        rows = [f"[embedders.{source.name}]", f'type = "{source.name}"']
        return [*head, *rows, f"checkpoint = {_text(folder)}"]
    return [*head, f"# next: {source.facts['next']}"]


def _text(path: Path) -> str:
    """A path as a TOML string."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def told(listing: Listing) -> list[dict[str, Any]]:
    """The files of a listing as plain facts."""
    if listing.repository:
        return [{"source": listing.source.name, "name": listing.repository, "bytes": None,
                 "checksum": "sha256, by the hub's client", "url": listing.source.facts["server"]}]  # fmt: skip
    return [
        {"source": listing.source.name, "name": f"{listing.folder}/{file.name}", "bytes": file.about,
         "checksum": str(file.checksum or "none published"), "url": file.url}
        for file in listing.files
    ]  # fmt: skip
