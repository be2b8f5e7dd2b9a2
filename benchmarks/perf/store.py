"""Writing and reading one array of a store beside other formats: the table of ``docs/storage.md``."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.perf.formats import (
    Format,
    Opened,
    Ours,
    drop_cached,
    files_below,
    memory_map,
    others,
    remove,
)
from benchmarks.perf.interleaved import in_turn, ratios
from featurestore.store import opened
from featurestore.store.kernels import kernels

ROW: Final = (48, 768)
SIZES: Final = {"full": (3072, 512, 30_720), "quick": (512, 128, 4096)}
"""Genes, genes of a shard, rows of the pooled matrix of 3,072 columns."""
OURS, VERIFIED, MEMMAP = "meristem", "meristem, verified", "np.memmap"
BATCH, SEQUENTIAL = 64, 256


@dataclass
class Table:
    """Ratios by operation and format; 1 is as fast as the reference of the operation."""

    cells: dict[str, dict[str, float]] = field(default_factory=dict)
    references: dict[str, str] = field(default_factory=dict)

    def add(self, operation: str, times: dict[str, list[float]], reference: str) -> None:
        """Take up one operation."""
        self.cells[operation] = ratios(times, reference)
        median = sorted(times[reference])[len(times[reference]) // 2]
        self.references[operation] = f"{reference}, {median * 1e3:.3g} ms"

    def lines(self) -> Iterator[str]:
        """As Markdown: a row for each format."""
        names = list(dict.fromkeys(n for cells in self.cells.values() for n in cells))
        yield "| | " + " | ".join(self.cells) + " |"
        yield "|---|" + "---|" * len(self.cells)
        told = (f"{r}" for r in self.references.values())
        yield "| *1.00 is* | " + " | ".join(f"*{r}*" for r in told) + " |"
        for name in names:
            held = (self.cells[o].get(name) for o in self.cells)
            yield f"| {name} | " + " | ".join("" if r is None else _short(r) for r in held) + " |"

    def figures(self) -> dict[str, float]:
        """Flat, by ``operation: format``."""
        return {f"{o}: {n}": r for o, cells in self.cells.items() for n, r in cells.items()}


def _short(ratio: float) -> str:
    return f"{ratio:.2f}" if ratio >= 0.095 else f"{ratio:.2g}"


def measure(_data: Path, repeats: int, size: str = "full") -> dict[str, float]:
    """Ratios for 3,072 genes × 48 bins × 768 channels in float16 (226 MB), or fewer genes (quick).

    Reads are of files in the page cache unless called cold; each gives a new array in memory.
    """
    genes, shard, pooled = SIZES[size]
    os.environ["MERISTEM_KERNELS"] = os.environ.get("MERISTEM_KERNELS", "auto")
    if kernels(1 << 40) is None:
        print("without compiled kernels: figures are those of plain Python")
    rng = np.random.default_rng(0)
    values = rng.standard_normal((genes, *ROW), np.float32).astype(np.float16)
    with tempfile.TemporaryDirectory(prefix="meristem-perf-", dir=".") as folder:
        root = Path(folder).resolve()
        run = _Run(root, values, shard, max(repeats, 3))
        tables = [run.writes(), run.reads()]
        figures = {k: v for table in tables for k, v in table.figures().items()}
        for table in tables:
            print("\n".join(table.lines()), flush=True)
        figures |= run.loader() | _pooled(root, pooled, shard, max(repeats, 3))
        figures |= _extra_memory(root, shard)
    return figures


class _Run:
    """One array in all formats."""

    def __init__(self, root: Path, values: NDArray[Any], shard: int, repeats: int) -> None:
        self.root, self.values, self.shard, self.repeats = root, values, shard, repeats
        self.rng = np.random.default_rng(1)
        self._drawn: dict[int, list[NDArray[np.int64]]] = {}
        self.ours = Ours(root / "ours", values.shape, shard)
        self.others, missing = others(root, self.ours, values.shape)
        if missing:
            print(f"not installed, so not measured: {', '.join(missing)}")
        self.flat = root / "flat"

    def _raw(self, *, durable: bool) -> None:
        """The same bytes in as many files, by plain ``write``."""
        for number in range(0, len(self.values), self.shard):
            part = self.values[number : number + self.shard].data.cast("B")
            path = self.root / "raw" / str(number)
            path.parent.mkdir(exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            while part:
                part = part[os.write(descriptor, part) :]
            if durable:
                os.fsync(descriptor)
            os.close(descriptor)

    def writes(self) -> Table:
        """Everybody writes the array; nobody finds files to overwrite."""
        raw, table = self.root / "raw", Table()
        mapped = memory_map(self.flat, self.values.shape)
        formats = [*self.others, mapped]
        ours: Callable[[], None] = lambda: self.ours.write(self.values)  # noqa: E731
        actions: dict[str, Any] = {"write()": lambda: self._raw(durable=False), OURS: ours}
        actions |= {f.name: (lambda f=f: f.write(self.values)) for f in formats}

        def clean(_: str) -> None:
            remove([*files_below(raw), self.flat, *files_below(self.ours.folder / "a" / "c")])
            for other in self.others:
                own = "zarr" not in other.name and "tensorstore" not in other.name
                remove(other.paths() if own else ())

        table.add("write", in_turn(actions, self.repeats, before=clean, budget=0), "write()")
        actions = {
            "write() + fsync": lambda: self._raw(durable=True),
            OURS: lambda: self.ours.write(self.values, durable=True),
        }
        times = in_turn(actions, self.repeats, before=clean, budget=0)
        table.add("durable write", times, "write() + fsync")
        clean("")
        for form in formats:
            form.write(self.values)
        self.ours.write(self.values, durable=True)
        remove(files_below(self.root / "zarr_python"))
        remove(files_below(self.root / "tensorstore"))
        os.sync()  # what is not flushed cannot be dropped from the page cache
        return table

    def _formats(self) -> list[Format]:
        return [
            memory_map(self.flat, self.values.shape),
            self.ours.format(OURS, "first"),
            self.ours.format(VERIFIED, "always"),
            *self.others,
        ]

    def _rows(self, count: int = BATCH) -> NDArray[np.int64]:
        """Genes to gather: others each time, drawn beforehand, since drawing takes time as well."""
        drawn = self._drawn.setdefault(count, [])
        if not drawn:
            drawn += [self.rng.permutation(len(self.values))[:count] for _ in range(999)]
        return drawn.pop()

    def reads(self) -> Table:
        """Everybody reads: in order, all, shuffled, one gene; from memory, then from the disk."""
        formats, table = self._formats(), Table()
        arrays = {form.name: form.open() for form in formats}
        for name, array in arrays.items():
            rows = self._rows(5)
            assert np.array_equal(array.take(rows), self.values[rows]), name
            assert np.array_equal(array.part(0, 7)[:7], self.values[:7]), name
            assert np.array_equal(array.everything(), self.values), name  # all is in memory now

        def in_order(array: Opened) -> None:
            for start in range(0, len(self.values), SEQUENTIAL):
                array.part(start, start + SEQUENTIAL)

        kinds: dict[str, Callable[[Opened], object]] = {
            "256 genes after 256": in_order,
            "all at once": lambda array: array.everything(),
            "64 shuffled genes": lambda array: array.take(self._rows()),
            "one gene": lambda array: array.take(self._rows(1)),
        }
        for operation, act in kinds.items():
            actions = {n: (lambda a=a, act=act: act(a)) for n, a in arrays.items()}
            repeats = self.repeats * (3 if "genes" in operation else 1)
            table.add(operation, in_turn(actions, repeats), MEMMAP)
        self._first_reading(table)
        del arrays, actions
        self._cold(table, formats)
        return table

    def _first_reading(self, table: Table) -> None:
        """The first gather of a process: shards are opened, mapped and verified."""
        cells = table.cells["64 shuffled genes"]
        array = self.ours.stored("first")
        held = memory_map(self.flat, self.values.shape).open()
        actions = {
            MEMMAP: lambda: held.take(self._rows()),
            "first": lambda: array.take(self._rows()),
        }
        times = in_turn(actions, 3 * self.repeats, before=lambda _: opened.tables.clear())
        cells[f"{OURS}, first reading"] = ratios(times, MEMMAP)["first"]

    def _cold(self, table: Table, formats: list[Format]) -> None:
        """A gather of files that are not in memory, opening them included, but not importing."""
        descriptor = os.open(self.flat, os.O_RDONLY)
        size = self.values[0].nbytes

        def pread() -> None:
            rows = self._rows()
            out = memoryview(np.empty(len(rows) * size, np.uint8))  # type: ignore[arg-type] # arrays are buffers
            for place, row in enumerate(rows.tolist()):
                os.preadv(descriptor, [out[place * size : (place + 1) * size]], row * size)

        by_name = {form.name: form for form in formats if form.name != VERIFIED}
        actions: dict[str, Any] = {"pread()": pread}
        actions |= {n: (lambda f=f: f.open().take(self._rows())) for n, f in by_name.items()}

        def drop(name: str) -> None:
            opened.tables.clear()
            gc.collect()  # nothing may be mapped: what is mapped is not dropped
            drop_cached([self.flat] if name == "pread()" else by_name[name].paths())

        times = in_turn(actions, 2 * self.repeats, before=drop, budget=0)
        table.add("64 shuffled genes, cold", times, "pread()")
        os.close(descriptor)

    def loader(self) -> dict[str, float]:
        """Epochs of shuffled batches, against an array in memory."""
        array = self.ours.stored("first")
        buffer = np.empty((BATCH, *ROW), np.float16)
        held = memory_map(self.flat, self.values.shape).open()

        def epoch(take: Callable[[NDArray[np.int64]], object], batches: int) -> Callable[[], None]:
            def run() -> None:
                order = self.rng.permutation(len(self.values))
                for batch in range(batches):
                    take(order[batch * BATCH : (batch + 1) * BATCH])

            return run

        every = len(self.values) // BATCH

        def ours(rows: NDArray[np.int64]) -> None:
            array.take_into(rows, buffer)

        actions = {
            "in memory": epoch(lambda rows: self.values[rows], every),
            OURS: epoch(ours, every),
            MEMMAP: epoch(held.take, every),
        }
        found = ratios(in_turn(actions, 2 * self.repeats), "in memory")
        figures = {f"shuffled batches, of an array in memory: {n}": r for n, r in found.items()}
        for other in self.others:
            if other.name.startswith("zarr-python"):
                actions = {"zarr": epoch(other.open().take, 2), OURS: epoch(ours, 2)}
                times = in_turn(actions, self.repeats)
                figures["shuffled batches, of zarr-python's oindex"] = ratios(times, "zarr")[OURS]
        return figures


def _pooled(root: Path, rows: int, shard: int, repeats: int) -> dict[str, float]:
    """A matrix of 3,072 columns, in inner chunks of 64 rows and of one, whole into memory."""
    values = np.random.default_rng(2).standard_normal((rows, 3072), np.float32).astype(np.float16)
    flat = memory_map(root / "pooled", values.shape)
    flat.write(values)
    packed = Ours(root / "packed", values.shape, shard * 8, packed=True)
    single = Ours(root / "single", values.shape, 1024)
    packed.write(values)
    single.write(values)
    arrays = {
        MEMMAP: flat.open(),
        "inner chunks of 64 rows": packed.format("", "first").open(),
        "inner chunks of 64 rows, verified": packed.format("", "always").open(),
        "inner chunks of one row": single.format("", "first").open(),
    }
    for array in arrays.values():
        assert np.array_equal(array.everything(), values)
    actions = {name: array.everything for name, array in arrays.items()}
    found = ratios(in_turn(actions, 2 * repeats), MEMMAP)
    return {f"pooled matrix into memory, of a memory map: {n}": r for n, r in found.items()}


def _extra_memory(root: Path, shard: int) -> dict[str, float]:
    """Peak memory of a process that writes one shard, beyond the shard itself, by its size."""
    figures = {}
    for who, name in (("ours", OURS), ("zarr", "zarr-python")):
        folder = str(root / f"memory_{who}")
        words = [sys.executable, "-m", "benchmarks.perf.shard_memory", str(shard), folder, who]
        done = subprocess.run(words, check=True, capture_output=True, text=True)
        figures[f"extra memory of writing a shard, of its bytes: {name}"] = float(done.stdout)
    return figures
