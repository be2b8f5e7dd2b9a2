"""Opens a store: genes, expression, features. Nothing is read until it is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import (
    DamagedStoreError,
    InputError,
    SchemaVersionError,
    unknown_name,
)
from featurestore.schema import SCALE, SCHEMA_VERSION, SPECIES, Status
from featurestore.store.arrays import StoredArray
from featurestore.store.files import StoreFiles
from featurestore.store.manifest import hash_bytes
from featurestore.store.places import files_of, manifest_at, prefetch, shown
from featurestore.store.quantised import QuantisedArray, is_quantised
from featurestore.store.root import check_same, root_of
from featurestore.store.rows import VERIFY, Verify
from featurestore.store.shard import damaged
from featurestore.store.source import StoreSource
from featurestore.store.variants import VariantView
from featurestore.store.views import ExpressionView, GeneTable, SpeciesView, Text

if TYPE_CHECKING:
    import xarray as xr

    from featurestore.store.remote_backends import BackendName

__all__ = ["ExpressionView", "GeneTable", "SpeciesView", "Store", "open_store"]

_FEW = 16
"""Genes that are looked up one by one."""
_GENE_ARRAYS = frozenset(spec.name for spec in SPECIES)


class Store:
    """A store on disk or on the network, opened for reading.

    Parameters
    ----------
    path : Path or str
        Folder, or address (``s3://…``, ``gs://…``, ``https://…``).
    backend : {"obstore", "fsspec"}, optional
        What reads an address.
    verify : {"first", "always", "never"}
        When the checksum of a gene's values is computed: when this store first reads them, each
        time, or never. Status, coordinates and metadata are verified whenever they are read.

    Raises
    ------
    StoreNotFoundError, DamagedStoreError, SchemaVersionError, RemoteStoreError
    """

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
    def digest(self) -> str:
        """Sha256 of the manifest: the identity of everything in the store."""
        return self.manifest.digest

    def content_digest(self, species: Sequence[str], features: Sequence[str]) -> str:
        """Sha256 over the bytes of genes, expression and the named features, nothing else.

        What a result depends on: it stays when another embedder or species joins the store.
        """
        groups = {"expression", *(f.partition(".")[0] for f in features)}
        groups = {"sequence" if g == "onehot" else g for g in groups}
        lines = []
        for path, file in sorted(self.manifest.files.items()):
            owner, _, rest = path.partition("/")
            group, _, deeper = rest.partition("/")
            read = group in _GENE_ARRAYS or group in groups
            if owner in species and read and "c" in deeper.split("/"):  # values, not metadata
                lines.append(f"{path} {file.digest}")
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    @property
    def dataset_digest(self) -> str:
        """Digest of the inputs and regions it was built from, whatever was embedded."""
        return str(self.attrs["meristem"]["dataset_digest"])

    @property
    def species(self) -> list[str]:
        """Species, in the order of the data set."""
        return list(self.attrs["meristem"]["species"])

    @cached_property
    def tree(self) -> xr.DataTree:
        """The whole store as xarray sees it, lazily read, every file held against the manifest."""
        import xarray as xr

        from featurestore.store.checked import CheckedStore

        checked = CheckedStore(self.files, self.manifest)
        return xr.open_datatree(checked, engine="zarr", chunks=None, consolidated=True)  # type: ignore[arg-type] # its hints lack Zarr stores

    def __getitem__(self, species: str) -> SpeciesView:
        return SpeciesView(self, self._known(species))

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

    def genes(self, species: str, rows: NDArray[np.int64] | None = None) -> GeneTable:
        """Genes of a species with their coordinates: all, or some by row, in that order."""
        prefetch(self.files, (f"{self._known(species)}/{name}/c/0" for name in _GENE_ARRAYS))

        def text(name: str) -> Text | None:
            if not self.has(species, name):
                return None
            if rows is None:
                return self.text(species, name)
            return np.array(self.stored(species, name).text().at(rows), np.str_)

        def number(name: str) -> NDArray[Any]:
            return (
                self.array(species, name) if rows is None else self.stored(species, name).take(rows)
            )

        gene, contig, family = text("gene"), text("contig"), text("family")
        assert gene is not None and contig is not None and family is not None  # noqa: S101, PT018 - every store has them
        locus = text("locus")
        return GeneTable(
            gene=gene, locus=gene if locus is None else locus, contig=contig,
            strand=number("strand"), tss=number("tss"), tts=number("tts"), family=family,
            fold=text("fold"),
        )  # fmt: skip

    def expression(self, species: str) -> ExpressionView | None:
        """Expression, or None where the data set has none."""
        return (
            ExpressionView(self, species)
            if self.has(self._known(species), "expression/value")
            else None
        )

    def embedders(self, species: str) -> list[str]:
        """Embedders of a species, ``onehot`` first where there is sequence."""
        known = [g for g in self.groups(species) if self.has(species, f"{g}/input_digest")]
        return (["onehot"] if self.has(species, "sequence/code") else []) + known

    def embedder_attrs(self, species: str, name: str) -> dict[str, Any]:
        """Everything that decides the values of an embedder: checkpoint, digest, licence, species seen."""
        if name == "onehot":
            return {"name": "onehot", "type": "onehot", "pretraining_species": [], "outputs": {}}
        self._embedder(species, name)
        found: dict[str, Any] = dict(self.meta(species, name)["attributes"]["meristem"]["embedder"])
        return found

    def _embedder(self, species: str, name: str) -> str:
        if name not in self.embedders(species):
            raise unknown_name(f"embedder of {species}", name, self.embedders(species))
        return name

    def _resolve(self, species: str, feature: str) -> tuple[str, str]:
        """Group and array of a feature ``group[.array]``."""
        group, _, array = feature.partition(".")
        if self._embedder(species, group) == "onehot":
            return "sequence", "code"
        outputs = list(self.embedder_attrs(species, group)["outputs"])
        name = array or ("embedding" if "embedding" in outputs else outputs[0])
        if name not in outputs:
            raise unknown_name(f"array of embedder {group!r}", name, outputs)
        return group, name

    def feature_source(self, species: str, feature: str) -> StoreSource:
        """Rows of one feature, readable by row number (a ``learners.batch.BlockSource``)."""
        group, name = self._resolve(species, feature)
        return StoreSource(self, species, group, name)

    def status(self, species: str, feature: str) -> NDArray[np.uint8]:
        """State of each region of each gene, shape (gene, region)."""
        return self.array(species, f"{self._resolve(species, feature)[0]}/status")

    def feature_status(self, species: str, feature: str) -> NDArray[np.bool_]:
        """Whether a gene may be used: every region ok or absent, one at least ok. Shape (gene,)."""
        status = self.status(species, feature)
        usable = (status == Status.OK) | (status == Status.ABSENT)
        result: NDArray[np.bool_] = usable.all(axis=1) & (status == Status.OK).any(axis=1)
        return result

    def feature_status_reason(self, species: str, feature: str) -> list[str]:
        """Why a gene may not be used, empty where it may."""
        status, names = (
            self.status(species, feature),
            self.text(species, "sequence/region").tolist(),
        )
        fine = self.feature_status(species, feature)
        return [
            ""
            if ok
            else "; ".join(
                f"{n}: {Status(int(s)).name.lower()}" for n, s in zip(names, row, strict=True) if s
            )
            for ok, row in zip(fine.tolist(), status, strict=True)
        ]

    def variant_sets(self, species: str) -> list[str]:
        """Names of the variant sets of a species."""
        start = "variants/"
        found = [
            p.removeprefix(start) for p in self._paths(self._known(species)) if p.startswith(start)
        ]
        return sorted(p for p in found if "/" not in p)

    def variants(self, species: str, name: str) -> VariantView:
        """One variant set: lines, haplotypes, who carries which, and the bins that each changes."""
        if name not in self.variant_sets(species):
            raise unknown_name(f"variant set of {species}", name, self.variant_sets(species))
        return VariantView(self, species, name)

    def variant_features(
        self,
        species: str,
        name: str,
        feature: str,
        gene: str,
        line: str,
        *,
        copy: int | None = None,
    ) -> NDArray[Any]:
        """Values of one feature of a gene in a line: the reference's, with the changed bins put in.

        Parameters
        ----------
        name : str
            Variant set.
        feature : str
            ``group[.array]``, as for :meth:`features`; ``onehot`` gives codes.
        copy : {1, 2}, optional
            Which copy of the line; needed where its two copies differ.

        Returns
        -------
        array, shape (region, bin[, channel]), or (region, position) for ``onehot``, stored dtype

        Raises
        ------
        InputError
            If the two copies differ and none was named.
        """
        view = self.variants(species, name)
        row = self.rows(species, [gene])
        haplotype = view.haplotype_of(int(row[0]), line, copy)
        found: NDArray[Any] = view.features(feature, row, np.array([haplotype], np.int64))[0]
        return found

    def resolve_feature(self, species: str, feature: str) -> tuple[str, str]:
        """Group and array that a feature ``group[.array]`` names."""
        return self._resolve(species, feature)

    def absent_regions(self, species: str, feature: str) -> dict[str, int]:
        """How many genes lack a region, by region; what is absent reads zeros in features."""
        absent = (self.status(species, feature) == Status.ABSENT).sum(axis=0).tolist()
        names = self.text(species, "sequence/region").tolist()
        return {name: int(n) for name, n in zip(names, absent, strict=True) if n}

    def __repr__(self) -> str:
        told = "; ".join(
            f"{s}: {', '.join(self.embedders(s)) or 'no features'}" for s in self.species
        )
        return f"<Store {self.path} ({told})>"

    def funnel(self, species: str) -> list[dict[str, Any]]:
        """Genes by stage: annotated, windowed, embedded, labelled, each with what was lost and why."""
        found: list[dict[str, Any]] = self.meta(species, "")["attributes"]["meristem"]["funnel"]
        return found

    def notes(self, species: str) -> list[str]:
        """What the data set's readers had to say."""
        found: list[str] = self.meta(species, "")["attributes"]["meristem"]["notes"]
        return found

    def rows(self, species: str, genes: Sequence[str]) -> NDArray[np.int64]:
        """Row of each gene, in the order asked for."""
        ids = self.stored(species, "gene").text()
        if len(genes) < _FEW:  # looked up in the bytes; a table of a million ids takes longer
            found = [ids.rows_of([g]) for g in genes]
            if all(len(rows) for rows in found):
                return np.array([rows[0] for rows in found], np.int64)
        names = ids.all().tolist()
        place = {g: i for i, g in enumerate(names)}
        missing = [g for g in genes if g not in place]
        if missing:
            raise unknown_name(f"gene of {species}", missing[0], names)
        return np.array([place[g] for g in genes], np.int64)

    def features(
        self, species: str, feature: str, genes: Sequence[str] | None = None
    ) -> NDArray[Any]:
        """Values of one feature: the fast path.

        Parameters
        ----------
        feature : str
            ``group[.array]``, e.g. ``kmer``, ``a2z.accessibility``; ``onehot`` gives the codes.
        genes : sequence of str, optional
            In the order wanted; default all, in store order.

        Returns
        -------
        array, shape (gene, region, bin[, channel]), stored dtype, C-contiguous, always a new one
        """
        stored = self.stored(species, "/".join(self._resolve(species, feature)))
        return stored.read() if genes is None else stored.take(self.rows(species, genes))


def open_store(
    path: str | Path, *, backend: BackendName | None = None, verify: Verify = "first"
) -> Store:
    """Open a store; no array is read."""
    store = Store(path, backend=backend, verify=verify)
    if not isinstance(store.attrs.get("meristem"), dict):
        raise DamagedStoreError(f"{store.path}: a Zarr hierarchy, but not one of this project")
    return store
