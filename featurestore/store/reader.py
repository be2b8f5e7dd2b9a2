"""Opens a store: genes, expression, features. Nothing is read until it is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import DamagedStoreError, unknown_name
from featurestore.schema import SPECIES, Status
from featurestore.store.nodes import StoreNodes
from featurestore.store.places import prefetch
from featurestore.store.rows import Verify
from featurestore.store.source import StoreSource, region_names
from featurestore.store.variants import VariantView
from featurestore.store.views import ExpressionView, GeneTable, SpeciesView, Text

if TYPE_CHECKING:
    import xarray as xr

    from featurestore.store.remote_backends import BackendName

__all__ = ["ExpressionView", "GeneTable", "SpeciesView", "Store", "open_store"]

_FEW = 16
"""Genes that are looked up one by one."""
_GENE_ARRAYS = frozenset(spec.name for spec in SPECIES)


class Store(StoreNodes):
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

    @cached_property
    def tree(self) -> xr.DataTree:
        """The whole store as xarray sees it, lazily read, every file held against the manifest."""
        import xarray as xr

        from featurestore.store.checked import CheckedStore

        checked = CheckedStore(self.files, self.manifest)
        return xr.open_datatree(checked, engine="zarr", chunks=None, consolidated=True)  # type: ignore[arg-type] # its hints lack Zarr stores

    def __getitem__(self, species: str) -> SpeciesView:
        return SpeciesView(self, self._known(species))

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
        """State of each region of each gene, shape (gene, region); one column for one window a gene."""
        found = self.array(species, f"{self._resolve(species, feature)[0]}/status")
        return found.reshape(len(found), -1)

    def _region_names(self, species: str, feature: str) -> list[str]:
        """Names of the columns of :meth:`status`."""
        return region_names(self, species, self._resolve(species, feature)[0])

    def feature_status(self, species: str, feature: str) -> NDArray[np.bool_]:
        """Whether a gene may be used: every region ok or absent, one at least ok. Shape (gene,)."""
        status = self.status(species, feature)
        usable = (status == Status.OK) | (status == Status.ABSENT)
        result: NDArray[np.bool_] = usable.all(axis=1) & (status == Status.OK).any(axis=1)
        return result

    def feature_status_reason(self, species: str, feature: str) -> list[str]:
        """Why a gene may not be used, empty where it may."""
        status, names = self.status(species, feature), self._region_names(species, feature)
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
        array, shape (region, bin[, channel]), or (region, position) for ``onehot``, or (bin[, channel])
        for an embedder of one window a gene, stored dtype

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
        names = self._region_names(species, feature)
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
        array, stored dtype, C-contiguous, always a new one
            Shape (gene, region, bin[, channel]), or (gene, bin[, channel]) for an embedder of one window
            a gene.
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
