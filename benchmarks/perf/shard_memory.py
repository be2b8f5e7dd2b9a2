"""``python -m benchmarks.perf.shard_memory ROWS FOLDER ours|zarr``: peak memory of writing one shard."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from benchmarks.perf.formats import Ours, zarr_python
from featurestore.store.kernels import kernels


def peak() -> int:
    """Peak bytes of this process; not of getrusage, which inherits that of its parent."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main(rows: int, folder: Path, who: str) -> None:
    """Print the peak beyond what there is before, by the bytes of the shard."""
    kernels(1 << 40)
    values = np.ones((rows, 48, 768), np.float16)
    for shard, place in ((values[:2], folder / "first"), (values, folder / "second")):
        ours = Ours(place, shard.shape, len(shard))
        writer = ours if who == "ours" else zarr_python(place / "zarr", ours, shard.shape)
        before = peak()
        writer.write(shard)
        extra = peak() - before  # of the second: the first loads what is loaded once
    print(extra / values.nbytes)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
