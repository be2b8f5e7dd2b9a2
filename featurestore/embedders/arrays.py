"""``arrays``: vectors that somebody else computed, read by gene from ``.npy`` files.

Nothing is embedded: the build reads the rows of its genes, so that a published table of vectors
becomes an ordinary group of a store. An index names the files, written by ``fs import``:

    {"source", "checkpoint", "pretraining_species",
     "rows": {species: file},                     gene, transcript, row; tab-separated
     "outputs": {output: {region: file.npy}}}     (N, channels, bins), or (N, 1, bins) for one number

Paths are relative to the index.
"""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.base import EmbedderSpec
from featurestore.embedders.checkpoint import file_digest
from featurestore.errors import InputError, MeristemError
from featurestore.untrusted import open_file, read_json

UNPICKLE: Final = (
    'Where you trust its origin, write it anew as text: python -c "import numpy as np; '
    "np.save('{path}', np.load('{path}', allow_pickle=True).astype(str))\""
)
_MAGIC: Final = b"\x93NUMPY"
UNKNOWN: Final = "as imported: not known here"


def mapped_array(path: Path) -> NDArray[Any]:
    """An array of a ``.npy`` file, memory-mapped; nothing is ever unpickled.

    Raises
    ------
    InputError
        If it is none, is cut short, or holds Python objects; the message says what to do.
    """
    try:
        with open_file(path) as stream:
            magic = stream.read(len(_MAGIC))
        if magic != _MAGIC:
            raise InputError(f"{path}: is no .npy file")
        return np.lib.format.open_memmap(path, mode="r")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        if "Python objects" in str(error) or "Object arrays" in str(error):
            raise InputError(
                f"{path}: holds Python objects, and what is pickled runs code when it is read. "
                f"{UNPICKLE.format(path=path)}"
            ) from error
        raise InputError(f"{path}: is no whole .npy file ({error}); fetch it again") from error


@dataclass(frozen=True)
class _Index:
    source: str
    checkpoint: str
    species: tuple[str, ...]
    rows: Mapping[str, Path]
    outputs: Mapping[str, Mapping[str, Path]]


class Arrays:
    """Vectors that were computed elsewhere, read from .npy files by gene.

    Parameters
    ----------
    checkpoint : str
        The index, a JSON file; ``fs import`` writes it.
    source, files
        Recorded in a store; not to be given.
    """

    def __init__(
        self, checkpoint: str = "", source: str = "", files: Mapping[str, str] | None = None
    ) -> None:
        if not checkpoint:
            raise InputError(
                'type "arrays" reads files: declare it in dataset.toml with checkpoint = "INDEX.json", as fs '
                "import writes it"
            )
        self._index = _read_index(Path(checkpoint).expanduser())
        paths = {f"{o}/{r}": p for o, by in self._index.outputs.items() for r, p in by.items()}
        self._arrays = {name: mapped_array(path) for name, path in paths.items()}
        outputs = {o: self._channels(o, by) for o, by in self._index.outputs.items()}
        digests = {name: file_digest(path) for name, path in paths.items()}
        # Of which gene a row is decides the values as well.
        rows = {name: file_digest(path) for name, path in sorted(self._index.rows.items())}
        told = "".join(f"{k} {v}\n" for k, v in sorted({**digests, **rows}.items()))
        self.spec = EmbedderSpec(
            type="arrays",
            outputs=outputs,
            input_bp=None,
            dtype=f"{next(iter(self._arrays.values())).dtype} in the file",
            checkpoint=self._index.checkpoint,
            digest=hashlib.sha256(told.encode()).hexdigest(),
            rc_rule=UNKNOWN,
            iupac_rule=UNKNOWN,
            pooling=UNKNOWN,
            pretraining_species=self._index.species,
            parameters={"source": self._index.source, "files": digests},
            costly=False,
        )

    @classmethod
    def availability(cls) -> str:
        """Always there: it computes nothing."""
        return "reads .npy files"

    def load(self, device: str | None) -> None:
        """Nothing to load."""

    def embed(self, codes: NDArray[np.uint8]) -> dict[str, NDArray[np.floating[Any]]]:
        """Refuse: these vectors belong to genes, not to sequences.

        Raises
        ------
        MeristemError
        """
        raise MeristemError(
            f"the vectors of {self._index.source} were computed elsewhere; no others can be made here"
        )

    def rows(
        self, species: str, genes: Sequence[str], regions: Sequence[str], bins: int
    ) -> dict[str, NDArray[Any]]:
        """Vectors of genes by output, shape (gene, region, bin, channel) or (gene, region, bin).

        Raises
        ------
        InputError
            If a gene, a region or a bin is not in the files.
        """
        at = self._places(species, genes)
        order = np.argsort(at, kind="stable")  # the file is read from front to back
        found: dict[str, NDArray[Any]] = {}
        for output, channels in self.spec.outputs.items():
            parts = []
            for region in regions:
                values = self._of(output, region)
                if values.shape[2] != bins:
                    raise InputError(
                        f"{self._index.outputs[output][region]}: {values.shape[2]} bins, and [regions] of the "
                        f"data set make {bins}"
                    )
                part = np.empty((len(at), *values.shape[1:]), values.dtype)
                part[order] = values[at[order]]
                parts.append(np.swapaxes(part, 1, 2))
            whole = np.stack(parts, axis=1)
            found[output] = whole if channels else whole[..., 0]
        return found

    def _of(self, output: str, region: str) -> NDArray[Any]:
        if f"{output}/{region}" not in self._arrays:
            known = ", ".join(self._index.outputs[output])
            raise InputError(
                f"{self._index.source}: {output} of {known}, none of region {region!r}"
            )
        return self._arrays[f"{output}/{region}"]

    def _channels(self, output: str, by_region: Mapping[str, Path]) -> int:
        """Channels of an output, 0 for one number; every region must have as many."""
        shapes = []
        for region, path in by_region.items():
            array = self._arrays[f"{output}/{region}"]
            if array.ndim != 3 or array.dtype.kind not in "fiu":
                raise InputError(
                    f"{path}: shape {array.shape} of {array.dtype}; (genes, channels, bins) of numbers expected"
                )
            shapes.append(array.shape)
        if len(set(shapes)) > 1:
            raise InputError(f"{output}: its regions differ in shape: {shapes}")
        channels = int(shapes[0][1])
        return 0 if channels == 1 else channels

    def _places(self, species: str, genes: Sequence[str]) -> NDArray[np.int64]:
        if species not in self._index.rows:
            raise InputError(
                f"{self._index.source}: holds no {species}; it has {', '.join(self._index.rows)}"
            )
        known = self._rows_of[species]
        if unknown := [gene for gene in genes if gene not in known]:
            raise InputError(
                f"{self._index.source}: {len(unknown):,} genes of {species} have no row, e.g. {unknown[0]}"
            )
        return np.array([known[gene] for gene in genes], np.int64)

    @cached_property
    def _rows_of(self) -> dict[str, dict[str, int]]:
        """Row by gene, and by transcript, as records of a gene with several are called."""
        return {name: _read_rows(path) for name, path in self._index.rows.items()}


def _read_rows(path: Path) -> dict[str, int]:
    transcripts: dict[str, int] = {}
    genes: dict[str, int] = {}
    twice: set[str] = set()
    with open_file(path) as stream:
        text = stream.read().decode()
    for gene, transcript, row in csv.reader(text.splitlines(), "excel-tab"):
        if gene in genes:
            twice.add(gene)
        genes[gene] = int(row)
        if transcript:
            transcripts[transcript] = int(row)
    return transcripts | {gene: row for gene, row in genes.items() if gene not in twice}


def _read_index(path: Path) -> _Index:
    try:
        body = read_json(path)
        rows = {str(k): path.parent / str(v) for k, v in body["rows"].items()}
        outputs = {
            str(output): {str(region): path.parent / str(file) for region, file in by.items()}
            for output, by in body["outputs"].items()
        }
        species = tuple(str(name) for name in body["pretraining_species"])
        found = _Index(str(body["source"]), str(body["checkpoint"]), species, rows, outputs)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: no index of arrays ({error}); fs import writes one") from error
    if not (rows and outputs and all(outputs.values())):
        raise InputError(f"{path}: an index that names no arrays or no rows")
    return found
