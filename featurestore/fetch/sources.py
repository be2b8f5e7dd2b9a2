"""The registry of public sources, and what files a name of one stands for."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from featurestore.errors import FetchError, InputError, unknown_name
from featurestore.fetch.checksums import Checksum, parse_checksum, parse_sums
from featurestore.fetch.download import RemoteFile, safe_name
from featurestore.fetch.web import Web
from featurestore.untrusted import parse_json

_REGISTRY: Final = Path(__file__).with_name("sources.toml")
_SPECIES: Final = re.compile(r"[a-z][a-z0-9_]{2,99}")
_LARGEST: Final = 1 << 50


@dataclass(frozen=True)
class Source:
    """An entry of the registry; ``facts`` holds what its kind needs."""

    name: str
    kind: str
    what: str
    write: str
    page: str
    licence: str
    citation: str
    checksums: str
    facts: Mapping[str, Any]

    def told(self) -> dict[str, Any]:
        """As plain JSON types."""
        keys = ("name", "what", "write", "page", "licence", "citation", "checksums")
        return {key: getattr(self, key) for key in keys}


@dataclass(frozen=True)
class Listing:
    """What is to be fetched for one name.

    Parameters
    ----------
    source : Source
    part : str
        What stood after the colon.
    folder : str
        Below ``--out``.
    files : tuple of RemoteFile
        Empty for a checkpoint of the hub.
    roles : mapping of role to name of a file
        What the lines for dataset.toml call them.
    repository : str
        Of the hub.
    """

    source: Source
    part: str
    folder: str
    files: tuple[RemoteFile, ...] = ()
    roles: Mapping[str, str] = field(default_factory=dict)
    repository: str = ""


@lru_cache(maxsize=1)
def sources() -> dict[str, Source]:
    """All sources by name."""
    raw = tomllib.loads(_REGISTRY.read_text())
    common = ("kind", "what", "write", "page", "licence", "citation", "checksums")
    return {
        name: Source(name, **{k: entry[k] for k in common}, facts=entry)
        for name, entry in raw.items()
    }


def list_files(
    web: Web, text: str, *, release: int | None = None, only: Sequence[str] = ()
) -> Listing:
    """The files that a name stands for, as its server lists them now.

    Parameters
    ----------
    text : str
        ``SOURCE`` or ``SOURCE:PART``, as ``fs fetch --list`` shows them.
    release : int, optional
        Of Ensembl Plants.
    only : sequence of str
        Patterns (``*``, ``?``) of names of files; empty for all.

    Raises
    ------
    UnknownNameError, InputError
        For a name that is not in the registry.
    FetchError
        If the server cannot be asked, or lists nothing that would do.
    """
    name, _, part = text.partition(":")
    if name not in sources():
        raise unknown_name("source", name, sources())
    source = sources()[name]
    if release is not None and source.kind != "ensembl":
        raise InputError(f"{text}: --release belongs to ensembl-plants")
    found = _KINDS[source.kind](web, source, part, release)
    if only and found.files:
        files = tuple(f for f in found.files if any(fnmatchcase(f.name, p) for p in only))
        if not files:
            known = ", ".join(f.name for f in found.files[:20])
            raise InputError(f"{text}: no file is like {' or '.join(only)}; there are {known}")
        kept = {f.name for f in files}
        roles = {role: file for role, file in found.roles.items() if file in kept}
        found = Listing(found.source, found.part, found.folder, files, roles)
    return found


def _ensembl(web: Web, source: Source, part: str, release: int | None) -> Listing:
    if not _SPECIES.fullmatch(part):
        raise InputError(
            f"{source.name}:{part}: write {source.write} with the species in small letters, as "
            "Ensembl Plants has it in its addresses, e.g. arabidopsis_thaliana"
        )
    number = int(source.facts["release"] if release is None else release)
    patterns = {
        "genome": ("genome", r"{}\..+\.dna\.toplevel\.fa\.gz"),
        "annotation": ("genes", r"{}\..+\." + str(number) + r"\.gff3\.gz"),
    }
    files, roles = [], {}
    for role, (key, pattern) in patterns.items():
        folder = source.facts["server"] + source.facts[key].format(release=number, species=part)
        sums = _sums(web, folder)
        like = re.compile(pattern.format(re.escape(part.capitalize())))
        # …chr.gff3.gz and …abinitio.gff3.gz end in another way than RELEASE.gff3.gz.
        fitting = [name for name in sums if like.fullmatch(name)]
        if len(fitting) != 1:
            raise FetchError(
                f"{folder}CHECKSUMS lists {len(fitting)} files like {pattern.format(part.capitalize())}"
                f"{': ' + ', '.join(fitting[:5]) if fitting else ''}; it has {', '.join(list(sums)[:8])}"
            )
        file = safe_name(fitting[0], folder)
        files.append(RemoteFile(folder + quote(file), file, None, sums[file]))
        roles[role] = file
    return Listing(source, part, part, tuple(files), roles)


def _sums(web: Web, folder: str) -> dict[str, Checksum]:
    try:
        return parse_sums(web.read(folder + "CHECKSUMS").decode("utf-8", "replace"))
    except FetchError as error:
        raise FetchError(f"{folder}CHECKSUMS: {str(error).removeprefix(folder)}") from error


def _zenodo(web: Web, source: Source, part: str, _release: int | None) -> Listing:
    server, record = source.facts["server"], source.facts["record"]
    pinned = source.facts.get("parts", {})
    _known_part(source, part, pinned)
    address = f"{server}/api/records/{record}"
    body = _json(web, address)
    entries = body.get("files") if isinstance(body, dict) else None
    if not isinstance(entries, list) or not entries:
        raise FetchError(f"{address}: lists no files; is the record open? {source.page}")
    files = [_zenodo_file(entry, address) for entry in entries]
    if pinned:
        wanted = [pinned[part]] if part else list(pinned.values())
        files = [_pinned(files, one["file"], one["md5"], address) for one in wanted]
    roles = {name: one["file"] for name, one in pinned.items()}
    return Listing(source, part, source.name, tuple(files), roles)


def _zenodo_file(entry: Any, address: str) -> RemoteFile:
    if not isinstance(entry, dict) or not isinstance(entry.get("key"), str):
        raise FetchError(f"{address}: an entry of its list of files has no name")
    name = safe_name(entry["key"], address)
    # The address is made here and not taken from the list: nothing else is asked for.
    url = f"{address}/files/{quote(name)}/content"
    return RemoteFile(
        url, name, _size(entry.get("size"), address), parse_checksum(str(entry.get("checksum")))
    )


def _pinned(files: Sequence[RemoteFile], name: str, md5: str, address: str) -> RemoteFile:
    found = next((f for f in files if f.name == name), None)
    if found is None:
        raise FetchError(
            f"{address}: has no {name}; it has {', '.join(f.name for f in files[:20])}"
        )
    checksum = Checksum("md5", md5)
    if found.checksum is not None and found.checksum != checksum:
        raise FetchError(
            f"{address}: lists {name} with {found.checksum}, and {checksum} was published for it"
        )
    return RemoteFile(found.url, name, found.size, checksum)


def _figshare(web: Web, source: Source, part: str, _release: int | None) -> Listing:
    _known_part(source, part, {})
    address = f"{source.facts['server']}/v2/articles/{source.facts['article']}/files?page_size=500"
    body = _json(web, address)
    wanted = source.facts["files"]
    entries = (
        {e.get("id"): e for e in body if isinstance(e, dict)} if isinstance(body, list) else {}
    )
    files = []
    for number in wanted:
        if number not in entries:
            raise FetchError(f"{address}: does not list file {number}; see {source.page}")
        entry = entries[number]
        name = safe_name(str(entry.get("name")), address)
        md5 = entry.get("computed_md5") or entry.get("supplied_md5")
        files.append(
            RemoteFile(
                f"{source.facts['downloads']}/files/{number}", name,
                _size(entry.get("size"), address), parse_checksum(f"md5:{md5}"),
            )
        )  # fmt: skip
    return Listing(source, part, source.name, tuple(files))


def _hub(_web: Web, source: Source, part: str, _release: int | None) -> Listing:
    parts = source.facts["parts"]
    if not part:
        raise InputError(f"{source.name}: which? Write one of {source.write}")
    _known_part(source, part, parts)
    return Listing(source, part, parts[part].rpartition("/")[2], repository=parts[part])


def _known_part(source: Source, part: str, parts: Mapping[str, Any]) -> None:
    if part and not parts:
        raise InputError(f"{source.name}:{part}: it has no parts; write {source.write}")
    if part and part not in parts:
        raise unknown_name(f"part of {source.name}", part, parts)


def _json(web: Web, address: str) -> Any:
    try:
        return parse_json(web.read(address))
    except ValueError as error:
        raise FetchError(f"{address}: what it says is no JSON ({error})") from error


def _size(value: Any, address: str) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST:
        raise FetchError(f"{address}: lists a size of {str(value)[:40]!r}")
    return value


_KINDS: Final[Mapping[str, Callable[[Web, Source, str, int | None], Listing]]] = {
    "ensembl": _ensembl,
    "zenodo": _zenodo,
    "figshare": _figshare,
    "hub": _hub,
}
