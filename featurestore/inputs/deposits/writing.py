"""Writes the data set that a deposit becomes: a table a species, and a dataset.toml that names them.

FOLDER/dataset.toml            written last: where it is, all the rest is whole
       tables/<species>.tsv.gz  gene, transcript, one column a region, family, fold, median_TPM
       tables/<species>.value.tsv.gz  gene and value, where the unit is not TPM
       dropped.tsv             line, species, gene, reason
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

from featurestore.errors import InputError
from featurestore.inputs.ids import clean
from featurestore.inputs.model import Region
from featurestore.inputs.problems import shown
from featurestore.store.commit import commit_file

LEVEL: Final = 1
"""Of gzip: DNA packs to a third at 100 MB/s; higher levels take five times as long for a tenth less."""
_EXAMPLES: Final = 3


@dataclass(frozen=True)
class Row:
    """One gene of a deposit, as it goes into the tables; sequences by region, in transcript direction."""

    gene: str
    transcript: str
    sequence: Sequence[str]
    family: str
    fold: str
    tpm: str


@dataclass
class Dropped:
    """Rows that a deposit has and the data set has not, by reason."""

    count: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, gene: str, reason: str) -> None:
        """Note one."""
        self.count[reason] = self.count.get(reason, 0) + 1
        listed = self.examples.setdefault(reason, [])
        if len(listed) < _EXAMPLES:
            listed.append(shown(gene, 60))

    @property
    def total(self) -> int:
        """How many in all."""
        return sum(self.count.values())

    def told(self) -> list[str]:
        """A sentence for each reason."""
        return [
            f"{count:,} rows dropped, {reason}: {', '.join(self.examples[reason])}"
            f"{' …' if count > _EXAMPLES else ''}"
            for reason, count in sorted(self.count.items())
        ]


@dataclass(frozen=True)
class Imported:
    """What an import wrote.

    Parameters
    ----------
    dataset : Path
        The dataset.toml.
    genes : mapping of species to rows kept
    dropped : Dropped
    notes : list of str
    """

    dataset: Path
    genes: dict[str, int]
    dropped: Dropped
    notes: list[str]


class SpeciesTables:
    """Tables of all species, open at once; whole rows are written as they come, and none is kept.

    Used as a context manager: at its end the tables have their names, after an error none is left.
    """

    def __init__(self, folder: Path, regions: Sequence[Region], unit: str = "TPM") -> None:
        self.folder, self.regions, self.unit = folder, tuple(regions), unit
        self.genes: dict[str, int] = {}
        self.dropped = Dropped()
        self._stack = ExitStack()
        self._writers: dict[str, tuple[Any, Any]] = {}
        self._in_table = unit == "TPM"
        self._fresh = folder / f".tables.{os.getpid()}.partial"

    def __enter__(self) -> SpeciesTables:
        if (self.folder / "dataset.toml").exists() or (self.folder / "tables").exists():
            raise InputError(
                f"{self.folder}: holds a data set already, which is not overwritten; give another --out"
            )
        self._fresh.mkdir(parents=True)
        self._losses = self._table(self._fresh / "dropped.tsv", packed=False)
        self._losses.writerow(["line", "species", "gene", "reason"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self._stack.close()
        if kind is None:
            (self._fresh / "dropped.tsv").replace(self.folder / "dropped.tsv")
            self._fresh.rename(self.folder / "tables")
        else:
            shutil.rmtree(self._fresh, ignore_errors=True)

    def _table(self, path: Path, *, packed: bool = True) -> Any:
        raw: IO[bytes] = self._stack.enter_context(path.open("wb"))
        if packed:
            # No name and no time in the header: the same rows give the same bytes.
            raw = self._stack.enter_context(
                gzip.GzipFile("", "wb", LEVEL, raw, mtime=0)  # type: ignore[arg-type]
            )
        text = io.TextIOWrapper(raw, "utf-8", newline="", write_through=False)
        self._stack.push(lambda *_: text.close())
        return csv.writer(text, "excel-tab", lineterminator="\n")

    def _open(self, species: str) -> tuple[Any, Any]:
        if species not in self._writers:
            regions = [region.name for region in self.regions]
            table = self._table(self._fresh / f"{species}.tsv.gz")
            named = ["median_TPM"] if self._in_table else []
            table.writerow(["gene", "transcript", *regions, "family", "fold", *named])
            values = None
            if not self._in_table:
                values = self._table(self._fresh / f"{species}.value.tsv.gz")
                values.writerow(["gene", "value"])
            self._writers[species] = table, values
            self.genes[species] = 0
        return self._writers[species]

    def add(self, species: str, row: Row) -> None:
        """Write a row to the table of its species."""
        table, values = self._open(species)
        value = [row.tpm] if self._in_table else []
        gene, transcript = clean(row.gene), clean(row.transcript)
        table.writerow([gene, transcript, *row.sequence, row.family, row.fold, *value])
        if values is not None:
            values.writerow([gene, row.tpm])
        self.genes[species] += 1

    def drop(self, line: int, species: str, gene: str, reason: str) -> None:
        """Write down a row that is left out."""
        self._losses.writerow([line, species, gene, reason])
        self.dropped.add(gene, reason)


def write_dataset(
    folder: Path,
    tables: SpeciesTables,
    *,
    comments: Sequence[str],
    origin: dict[str, str],
    embedders: Sequence[tuple[str, str]] = (),
    bin_bp: int = 250,
) -> Path:
    """Write dataset.toml over tables that are whole.

    Parameters
    ----------
    comments : sequence of str
        Go to its head.
    origin : mapping of species to where its name comes from
    embedders : sequence of (name, path of its index below ``folder``)
    """
    names = ["onehot", "kmer", *(name for name, _ in embedders)]
    lines = [f"# {line}" for comment in comments for line in comment.splitlines()]
    lines += ["", f"embedders = {json.dumps(names)}", "", "[regions]"]
    lines += [
        f'{r.name} = {{ anchor = "{r.anchor}", upstream = {r.upstream}, downstream = {r.downstream} }}'
        for r in tables.regions
    ]
    lines += [f"bin = {bin_bp}"]
    for name, index in embedders:
        lines += ["", f"[embedders.{name}]", 'type = "arrays"', f"checkpoint = {json.dumps(index)}"]
    for species in sorted(tables.genes):
        lines += ["", f"[species.{json.dumps(species)}]  # {origin[species]}"]
        lines += [f"sequences = {json.dumps(f'tables/{species}.tsv.gz')}"]
        if tables.unit != "TPM":
            values = json.dumps(f"tables/{species}.value.tsv.gz")
            lines += [f"expression = {{ file = {values}, unit = {json.dumps(tables.unit)} }}"]
    path = folder / "dataset.toml"
    commit_file(path, [("\n".join(lines) + "\n").encode()])
    return path
