"""Groups and arrays of an opened store, their metadata held against the manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, SchemaVersionError, unknown_name
from featurestore.schema import SCALE, SCHEMA_VERSION
from featurestore.store.arrays import StoredArray
from featurestore.store.files import StoreFiles
from featurestore.store.manifest import hash_bytes
from featurestore.store.places import files_of, manifest_at, shown
from featurestore.store.quantised import QuantisedArray, is_quantised
from featurestore.store.root import check_same, root_of
from featurestore.store.rows import VERIFY, Verify
from featurestore.store.shard import damaged
from featurestore.store.views import Text

if TYPE_CHECKING:
    from featurestore.store.remote_backends import BackendName


class StoreNodes:
    """What :class:`featurestore.store.reader.Store` opens, by paths below its species."""

    def __init__(
        self, path: Path | str, *, backend: BackendName | None = None, verify: Verify = "first"
    ) -> None:
        if verify not in VERIFY:
            raise InputError(f"verify={verify!r}: choose {', '.join(VERIFY)}")
        self.verify: Verify = verify
        self.path = shown(path)
        self.files: StoreFiles = files_of(path, backend)
        self.manifest = manifest_at(self.files)
        self.attrs, self._metadata = root_of(
            self._sound_file("zarr.json"), f"{self.path}/zarr.json"
        )
        self._check_version()
        self._sound: set[str] = set()

    def _sound_file(self, name: str) -> bytes:
        """A metadata file, held against the manifest."""
        try:
            data = self.files.read(name)
        except FileNotFoundError as error:
            raise damaged(f"{self.path}/{name}", "it is missing") from error
        if hash_bytes(data) != self.manifest.files.get(name):
            raise damaged(f"{self.path}/{name}", "its bytes are not those that were written")
        return data

    def _check_version(self) -> None:
        found = str(self.attrs.get("meristem", {}).get("schema_version", "unknown"))
        if found.split(".")[0] != SCHEMA_VERSION.split(".")[0]:
            newer = found.split(".")[0].zfill(9) > SCHEMA_VERSION.split(".")[0].zfill(9)
            mend = (
                "pip install --upgrade meristem"
                if newer
                else "build it again, into another folder, with this version: fs build DATASET"
            )
            raise SchemaVersionError(
                f"{self.path}: schema version {found}, this version reads {SCHEMA_VERSION}. Mend: {mend}"
            )

    @property
    def species(self) -> list[str]:
        """Species, in the order of the data set."""
        return list(self.attrs["meristem"]["species"])

    def _known(self, species: str) -> str:
        if species not in self.species:
            raise unknown_name("species", species, self.species)
        return species

    def meta(self, species: str, path: str) -> Mapping[str, Any]:
        """``zarr.json`` of a group or array below a species."""
        full = f"{self._known(species)}/{path}" if path else species
        if full not in self._metadata:
            raise unknown_name(f"array of {species}", path, self._paths(species))
        self._check_metadata(full)
        found: Mapping[str, Any] = self._metadata[full]
        return found

    def _check_metadata(self, path: str) -> None:
        """Hold one node's own ``zarr.json`` against the manifest, once.

        We read the root's consolidated copy; readers that do not know of it read this file, and
        what one reader takes from a store another must take too.
        """
        # Over a network every such file is a request, and the root's copy is held against the manifest.
        if path not in self._sound and not self.files.is_remote:
            own = self._sound_file(f"{path}/zarr.json")
            check_same(own, self._metadata[path], f"{self.path}/{path}/zarr.json")
            self._sound.add(path)

    def check_group(self, species: str, group: str) -> None:
        """Hold the metadata of a group and its arrays against the manifest."""
        base = f"{species}/{group}" if group else species
        for path, body in self._metadata.items():
            own = path == base or (path.rpartition("/")[0] == base and body["node_type"] == "array")
            if own:
                self._check_metadata(path)

    def _paths(self, species: str) -> list[str]:
        start = f"{species}/"
        return [p.removeprefix(start) for p in self._metadata if p.startswith(start)]

    def has(self, species: str, path: str) -> bool:
        """Whether a group or array is there."""
        return f"{species}/{path}" in self._metadata

    def groups(self, species: str) -> list[str]:
        """Groups of a species."""
        self._known(species)
        return sorted(
            p
            for p in self._paths(species)
            if "/" not in p and self._metadata[f"{species}/{p}"]["node_type"] == "group"
        )

    def stored(self, species: str, path: str) -> StoredArray:
        """One array, nothing read; one of codes (see ``quantised.py``) reads as values."""
        metadata = self.meta(species, path)
        if metadata.get("data_type") == "int8" and is_quantised(metadata):
            scale = self.array(species, f"{path}{SCALE}")
            return QuantisedArray(
                self.files, f"{species}/{path}", metadata, self.manifest, self.verify, scale
            )
        return StoredArray(self.files, f"{species}/{path}", metadata, self.manifest, self.verify)

    def array(self, species: str, path: str) -> NDArray[Any]:
        """One array, read whole and verified."""
        return self.stored(species, path).read()

    def text(self, species: str, path: str) -> Text:
        """One string array."""
        return np.array(self.array(species, path).tolist(), np.str_)

    def optional_text(self, species: str, path: str) -> Text | None:
        """One string array, or None where it is not there."""
        return self.text(species, path) if self.has(species, path) else None
