"""Measures on this machine what a simulation needs to know, with the code that a build runs."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numcodecs
import numpy as np
from numpy.typing import NDArray

from featurestore.build.reuse.digests import input_digests
from featurestore.build.shards.compute import embed_range, in_batches
from featurestore.build.shards.slots import go_on, set_slots
from featurestore.build.shards.tasks import limited_threads
from featurestore.build.windows.window_source import WindowSource
from featurestore.embedders.base import Embedder, EmbedderSpec
from featurestore.schema import BASES_CHUNK
from featurestore.sequence.iupac import N
from featurestore.store.commit import WrittenFile
from featurestore.store.manifest import hash_file
from featurestore.store.shard import write_block, write_rows
from featurestore.store.templates import ZSTD_LEVEL

SECONDS: Final = 2.0
"""How long a model is tried."""
FIRST: Final = 8
"""Windows of the first try of a model; at a second each, more would keep people waiting."""
GENES: Final = 128
"""Genes whose windows are cut on trial."""
CHUNKS: Final = 16
"""Chunks of a genome that are compressed on trial; a smaller genome is compressed whole."""
_ROW: Final = 64 * 1024
_ROWS: Final = 512
_WIDE: Final = 1024


def seconds_of(work: Callable[[], Any], repeats: int = 3) -> float:
    """Median seconds of a call."""
    found = []
    for _ in range(repeats):
        started = time.perf_counter()
        work()
        found.append(time.perf_counter() - started)
    return statistics.median(found)


def resident() -> float:
    """Peak memory of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


@dataclass(frozen=True)
class ModelFigures:
    """What a trial of an embedder gave.

    ``windows_per_s`` of all slots together; ``prepare_s`` what a build does about a window beside the
    model, and ``byte_s`` about a stored byte.
    """

    windows_per_s: float
    prepare_s: float
    byte_s: float
    distinct: float


class _Free:
    """The same outputs without computing anything."""

    pads_itself = True

    def __init__(self, spec: EmbedderSpec) -> None:
        self.spec = spec

    def load(self, device: str | None) -> None:
        """Nothing to load."""

    def embed(self, codes: NDArray[np.uint8]) -> dict[str, NDArray[np.floating[Any]]]:
        """Zeros."""
        shapes = self.spec.shapes()
        return {n: np.zeros((len(codes), *shape), np.float32) for n, shape in shapes.items()}


@dataclass(frozen=True)
class Loaded:
    """What it took to load an embedder."""

    load_s: float
    memory_bytes: float
    worker_load_s: float = 0.0


def load_model(embedder: Embedder, device: str | None, device_s: float) -> Loaded:
    """Load an embedder; importing torch, should that be the first to do so, is not counted.

    Parameters
    ----------
    device_s : float
        What the import takes, see :func:`device_seconds`.
    """
    there, before = "torch" in sys.modules, resident()
    started = time.perf_counter()
    embedder.load(device)
    took = time.perf_counter() - started
    if not there and "torch" in sys.modules:
        took = max(took - device_s, took / 10)
    return Loaded(max(took, 1e-6), max(resident() - before, 0.0))


def load_in_worker(name: str, config: Mapping[str, Any], device: str | None) -> float:
    """Seconds to make and load an embedder in a process that has imported no more than a worker."""
    code = (
        "import json, sys, time\n"
        "from featurestore.build.shards import tasks\n"
        "name, config, device = json.loads(sys.argv[1])\n"
        "started = time.perf_counter()\n"
        "tasks.make_embedder(name, config).load(device)\n"
        "print(time.perf_counter() - started)\n"
    )
    command = [sys.executable, "-c", code, json.dumps([name, dict(config), device])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])


def try_model(embedder: Embedder, source: WindowSource, slots: int, threads: int) -> ModelFigures:
    """Embed windows of a species with an embedder that is loaded, as many at a time as a build would.

    Parameters
    ----------
    slots, threads : int
        Models at once, and threads of each.
    """
    genes, width = min(source.genes, GENES), embedder.spec.input_bp
    codes = source.bin_inputs(0, genes, width)
    flat = codes.reshape(-1, codes.shape[-1])
    countable = flat[flat.min(axis=1, initial=N) < N]
    rate = model_rate(embedder, countable, slots, threads)
    digest = input_digests(codes, np.ones(codes.shape[:-1], bool)).reshape(len(flat), -1)
    distinct = len(np.unique(digest, axis=0)) / max(len(flat), 1)
    share = min(1.0, len(countable) / max(len(flat), 1))
    return ModelFigures(rate, *_around(embedder.spec, source, genes), min(distinct, share))


def _around(spec: EmbedderSpec, source: WindowSource, genes: int) -> tuple[float, float]:
    """What a build does about its windows beside the model.

    Returns
    -------
    seconds of a window; seconds of a stored byte, which wide vectors tell from narrow ones
    """
    windows = genes * len(source.regions) * source.bins

    def seconds(channels: int) -> float:
        free = _Free(replace(spec, outputs={"x": channels}, positions=0, context="bin"))
        embed_range(free, source, 0, 1)
        return seconds_of(lambda: embed_range(free, source, 0, genes))

    narrow, wide = seconds(1), seconds(_WIDE)
    return narrow / windows, max(wide - narrow, wide / 100) / (2 * (_WIDE - 1) * windows)


def model_rate(embedder: Embedder, codes: NDArray[np.uint8], slots: int, threads: int) -> float:
    """Windows per second of an embedder that is loaded, all slots together."""
    go_on()
    set_slots(slots)
    if not len(codes):
        return float("inf")

    def run(count: int) -> float:
        batch = codes[np.arange(count) % len(codes)]
        started = time.perf_counter()
        with limited_threads(threads):
            in_batches(embedder, batch)
        return time.perf_counter() - started

    count, took = min(FIRST, len(codes)), 0.0
    run(count)  # compiles kernels, warms caches
    most = max(len(codes), embedder.spec.batch)
    while (took := run(count)) < SECONDS / 8 and count < most:
        count = min(2 * count, most)
    rounds = max(1, round(SECONDS / max(took, 1e-6)))
    with ThreadPoolExecutor(slots) as pool:
        started = time.perf_counter()
        list(pool.map(run, [count] * rounds * slots))
        return count * rounds * slots / (time.perf_counter() - started)


def try_disk(folder: Path, writers: int) -> dict[str, float]:
    """Writing, flushing and reading back of shards in ``folder``; figures of :class:`Machine`."""
    rows = np.random.default_rng(0).integers(0, 255, (_ROWS, _ROW), np.uint8)
    megabytes = rows.nbytes / 1e6
    files: dict[Path, WrittenFile] = {}

    def write(name: str) -> None:
        path = folder / name / "c" / "0"
        files[path] = write_rows(path, rows, _ROWS)

    def small() -> None:
        write_block(folder / "small", rows[:4, :16], 4, 0)

    write("warm")
    alone = seconds_of(lambda: write("alone"))
    file_s = seconds_of(small, 9)
    with ThreadPoolExecutor(writers) as pool:
        together = seconds_of(lambda: list(pool.map(write, map(str, range(writers)))))
    back = seconds_of(lambda: [hash_file(path, file) for path, file in files.items()])
    write_mb = megabytes / max(alone - file_s, alone / 10)
    return {
        "write_mb_per_s": write_mb,
        "disk_mb_per_s": max(write_mb, writers * megabytes / together),
        "file_s": file_s,
        "readback_mb_per_s": len(files) * megabytes / back,
        "sync_s": seconds_of(lambda: _flush(folder)) / len(list(folder.rglob("*"))),
    }


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def compressed_chunks(code: NDArray[np.uint8]) -> tuple[list[int], float, bool]:
    """Compress chunks of a genome.

    Returns
    -------
    bytes of each chunk tried; bases per second; whether that was all of the genome
    """
    codec = numcodecs.Zstd(level=ZSTD_LEVEL)
    chunks = -(-len(code) // BASES_CHUNK)
    chosen = np.unique(np.linspace(0, chunks - 1, min(chunks, CHUNKS)).astype(int)).tolist()
    sizes, started = [], time.perf_counter()
    for chunk in chosen:
        piece = np.full(BASES_CHUNK, N, np.uint8)
        own = code[chunk * BASES_CHUNK : (chunk + 1) * BASES_CHUNK]
        piece[: len(own)] = own
        sizes.append(len(bytes(codec.encode(piece.tobytes()))))
    rate = len(chosen) * BASES_CHUNK / max(time.perf_counter() - started, 1e-9)
    return sizes, rate, len(chosen) == chunks


def _fresh(code: str) -> float:
    """Seconds of Python code in a process of its own."""
    return seconds_of(lambda: subprocess.run([sys.executable, "-c", code], check=True))


def parallel_speed(cores: int) -> float:
    """What all cores give together over ``cores`` times what one gives alone, at most 1."""
    data = bytes(1 << 20)

    def work(_: int = 0) -> None:
        # Without the interpreter, and long enough for the system to spread threads over the cores.
        for _ in range(400):
            hashlib.sha256(data)

    found = []
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(5):
            alone = seconds_of(work, 1)
            together = seconds_of(lambda: list(pool.map(work, range(cores))), 1)
            found.append(alone / together)
    return min(1.0, max(statistics.median(found), 1 / cores))


def start_seconds() -> float:
    """Until ``fs build`` has imported what it needs."""
    return _fresh("import featurestore.cli.build, featurestore.build.engine")


def device_seconds() -> float:
    """To import torch and ask for a GPU, in a process that has numpy already; next to nothing without torch."""
    if importlib.util.find_spec("torch") is None:
        return 1e-3
    both = _fresh("import numpy, torch; torch.cuda.is_available()")
    return max(both - _fresh("import numpy"), both / 10)


def try_cluster() -> dict[str, float]:
    """Start a local Dask cluster of one worker, give it empty jobs, stop it; figures of :class:`Machine`."""
    # In a process of its own: what this one has imported would look like nothing to import.
    code = (
        "import time; t0 = time.perf_counter()\n"
        "from distributed import Client\n"
        "from featurestore.build.workers.cluster import local_cluster\n"
        "from featurestore.build.workers.jobs import own_version\n"
        "if __name__ == '__main__':\n"
        "    t1 = time.perf_counter()\n"
        "    with local_cluster(1, 'cpu', {}) as cluster, Client(cluster) as client:\n"
        "        client.wait_for_workers(1); client.run(own_version); t2 = time.perf_counter()\n"
        "        client.gather([client.submit(own_version, pure=False) for _ in range(50)])\n"
        "        t3 = time.perf_counter()\n"
        "    t4 = time.perf_counter()\n"
        "    print(t1 - t0 + t4 - t3, t2 - t1, (t3 - t2) / 50)\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe_cluster.py"
        path.write_text(code)  # worker processes import the main module, so it has to be a file
        done = subprocess.run(
            [sys.executable, str(path)], check=True, capture_output=True, text=True
        )
    cluster_s, worker_s, task_s = map(float, done.stdout.split()[-3:])
    return {"cluster_s": cluster_s, "worker_s": worker_s, "dask_task_s": task_s}


def median_of(found: Sequence[float], otherwise: float) -> float:
    """The median, or something else where there is none."""
    return statistics.median(found) if found else otherwise
