"""From what a user names, a path or an address, to the files of a store."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Final

from featurestore.errors import DamagedStoreError, StoreNotFoundError
from featurestore.store.files import LocalFiles, StoreFiles
from featurestore.store.manifest import MANIFEST, Manifest, manifest_of
from featurestore.store.remote_url import is_url, parse_address

if TYPE_CHECKING:
    from featurestore.store.remote_backends import BackendName

_MANIFEST_ATTEMPTS: Final = 3


def files_of(place: Path | str, backend: BackendName | None = None) -> StoreFiles:
    """The files at a place, nothing read.

    Raises
    ------
    StoreNotFoundError
        If there is no folder at a path.
    InputError, MissingDependencyError, RemoteStoreError
        For an address.
    """
    if not is_url(place):
        return LocalFiles(Path(place))
    from featurestore.store.remote import RemoteFiles

    return RemoteFiles(str(place), backend=backend)


def shown(place: Path | str) -> Path | str:
    """A place as messages name it: an address without what may be secret."""
    return parse_address(str(place)).label if is_url(place) else Path(place)


def manifest_at(files: StoreFiles) -> Manifest:
    """The manifest of the store that lies there; its sizes are known to remote files afterwards.

    Raises
    ------
    StoreNotFoundError
        If there is neither a manifest nor a root.
    DamagedStoreError
    """
    if not files.is_remote:
        if not (_is_there(files, "zarr.json") or _is_there(files, MANIFEST)):
            raise StoreNotFoundError(
                f"{files.label}: no store here. Build one with: fs build DATASET --store {files.label}"
            )
        return manifest_of(files)
    from featurestore.store.remote import RemoteFiles

    assert isinstance(files, RemoteFiles)  # noqa: S101 - the only remote files there are
    if not files.begin(MANIFEST, "zarr.json"):
        raise StoreNotFoundError(
            f"{files.label}: no store here (neither manifest.json nor zarr.json under this address). A store is put "
            "there with: fs export STORE --to zarr --out ADDRESS"
        )
    for _ in range(_MANIFEST_ATTEMPTS):
        try:
            manifest = manifest_of(files)
        except DamagedStoreError:
            files.forget(MANIFEST)  # nothing says how long it is: it may have come in part
        else:
            files.know(manifest)
            return manifest
    raise files.damage(MANIFEST, "it is missing, or its bytes are not those that were written")


def prefetch(files: StoreFiles, keys: Iterable[str]) -> None:
    """Fetch small files side by side where each would else be waited for; nothing on a disk."""
    if files.is_remote:
        from featurestore.store.remote import RemoteFiles

        assert isinstance(files, RemoteFiles)  # noqa: S101 - the only remote files there are
        files.prefetch(keys)


def _is_there(files: StoreFiles, key: str) -> bool:
    try:
        files.size(key)
    except FileNotFoundError:
        return False
    return True
