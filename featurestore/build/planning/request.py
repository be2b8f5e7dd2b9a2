"""What is asked for: species and embedders by name, resolved against data set and present store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from featurestore.build.planning.held import held_species
from featurestore.build.planning.plan import check_spec
from featurestore.build.planning.present import refuse_to_bury, what_is_there
from featurestore.embedders.registry import make_embedder
from featurestore.errors import InputError, StoreError, unknown_name
from featurestore.inputs.dataset import DatasetConfig, require_files
from featurestore.inputs.load import dataset_digest
from featurestore.store.reader import Store


@dataclass(frozen=True)
class Request:
    """What is to be built: what was asked for, and what the store holds already."""

    config: DatasetConfig
    species: tuple[str, ...]
    embedders: Mapping[str, Mapping[str, Any]]
    digest: str
    held: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Species that are taken from the store, their files not being there; digests of these by role."""

    def selected(self) -> DatasetConfig:
        """The data set, cut to the species that are to be in the store."""
        return self.config.model_copy(
            update={"species": {name: self.config.species[name] for name in self.species}}
        )


def embedder_config(config: DatasetConfig, name: str) -> dict[str, Any]:
    """Settings of an embedder by its name in the store."""
    return dict(config.embedder_options.get(name, {"type": name}))


def resolve(
    config: DatasetConfig, store: Path, embedders: Sequence[str], species: Sequence[str]
) -> Request:
    """Species and embedders of the store that is to come: what was asked for and what is there.

    Raises
    ------
    InputError
        For an unknown name or setting, if the path is not a store's, or if the store holds what
        the data set no longer names.
    DataSetError
        If a file is missing of a species that was asked for, or that the store does not hold as
        the data set has it.
    """
    for name in species:
        if name not in config.species:
            raise unknown_name("species", name, config.species)
    inputs = {role: f for s in config.species.values() for role, f in s.files().items()}
    refuse_to_bury(store, {"data set": config.path, **inputs})
    there = what_is_there(store)
    asked = list(species) or list(config.species)
    chosen = {n: embedder_config(config, n) for n in (embedders or config.embedders)}
    if there is not None:
        if gone := [s for s in there.species if s not in config.species]:
            raise InputError(
                f"{store} holds species that {config.path} no longer names: {', '.join(gone)}. Put them back, or "
                "build into another store: nothing is dropped silently."
            )
        asked = [s for s in config.species if s in asked or s in there.species]
        for name, settings in there.embedders.items():
            declared = name in config.embedder_options or not settings
            chosen.setdefault(name, embedder_config(config, name) if declared else dict(settings))
    for name, settings in chosen.items():
        check_spec(name, make_embedder(name, settings).spec, config.bin)
    held = held_species(config, there, species) if species else {}
    request = Request(config, tuple(asked), chosen, "", held)
    wanted = {n: s for n, s in request.selected().species.items() if n not in held}
    require_files(config.model_copy(update={"species": wanted}))
    return replace(request, digest=dataset_digest(request.selected(), held))


def is_up_to_date(request: Request, store: Path) -> Store | None:
    """The store, if it already holds exactly what is asked for, every file in its place."""
    there = what_is_there(store)
    try:
        if there is None or there.store is None or not _same(request, there.store):
            return None
    except StoreError:
        return None  # damaged metadata: the build mends them
    return there.store


def _same(request: Request, there: Store) -> bool:
    if there.dataset_digest != request.digest or set(request.species) != set(there.species):
        return False
    for name, settings in request.embedders.items():
        wanted = make_embedder(name, settings).spec.identity()
        for species in there.species:
            if not there.has(species, "sequence/code"):
                continue
            if name not in there.embedders(species):
                return False
            found = {k: v for k, v in there.embedder_attrs(species, name).items() if k != "name"}
            if name != "onehot" and found != wanted:
                return False
    return _all_files_there(there)


def _all_files_there(there: Store) -> bool:
    for path, file in there.manifest.files.items():
        try:
            if there.files.size(path) != file.size:
                return False
        except FileNotFoundError:
            return False
    return True
