"""a2z: windows per second, ours against torch's plain layers and against TensorFlow in the same run.

``python -m benchmarks.perf.a2z`` alone, or ``python -m benchmarks.perf a2z``. TensorFlow is no
dependency: it is taken from this Python if it can be imported there, else from the Python that
``MERISTEM_TF_PYTHON`` names (``python3 -m venv tf && tf/bin/pip install tensorflow-cpu==2.15.1``).
It runs in a process of its own and is asked in turn with ours, so that both see the same machine.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

THREADS, BATCH, BATCHES = 2, 128, 4
SERVER = Path(__file__).with_name("a2z_tensorflow.py")
Seconds = tuple[float, float]
"""Wall and processor time of one round."""


class TensorFlow:
    """TensorFlow in another process: makes and saves a model of random weights, and runs it."""

    def __init__(self, python: str, folder: Path) -> None:
        words = [python, str(SERVER), str(folder), str(THREADS), str(BATCH), str(BATCHES)]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )  # fmt: skip
        self.version = self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if not line:
            raise RuntimeError(f"{SERVER.name} ended with status {self._process.wait()}")
        return line

    def round(self, how: str) -> Seconds:
        """Time of all batches by ``predict`` or by the compiled ``graph``."""
        assert self._process.stdin is not None
        self._process.stdin.write(how + "\n")
        self._process.stdin.flush()
        wall, cpu = self._answer().split()
        return float(wall), float(cpu)

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def tensorflow_python() -> str | None:
    """The Python that has TensorFlow, or None."""
    if given := os.environ.get("MERISTEM_TF_PYTHON"):
        return given
    return sys.executable if importlib.util.find_spec("tensorflow") else None


def timed(action: Callable[[], object]) -> Seconds:
    """Time of one call."""
    wall, cpu = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - cpu


def measure(_data: Path, repeats: int) -> dict[str, float]:
    """Rates and ratios of whole models, 600-bp windows → embedding and probability; needs no data.

    A ratio is the median over rounds of two times taken one after the other. On a machine with other
    work on it the ratio of processor times is the steadier one.
    """
    with tempfile.TemporaryDirectory() as folder:
        python = tensorflow_python()
        other = TensorFlow(python, Path(folder)) if python else None
        try:
            return _measure(repeats, Path(folder), other)
        finally:
            if other:
                other.close()


def _measure(repeats: int, folder: Path, other: TensorFlow | None) -> dict[str, float]:
    codes = np.random.default_rng(0).integers(0, 4, (BATCHES * BATCH, 600)).astype(np.uint8)
    rounds, difference = _ours(folder, codes, other is not None)
    if other is None:
        print("TensorFlow is not here (MERISTEM_TF_PYTHON): ratios to torch's plain layers alone")
    else:
        print(f"a2z beside TensorFlow {other.version}; largest difference {difference:.1e}")
        for how in ("predict", "graph"):
            rounds[f"TensorFlow {how}"] = lambda how=how: other.round(how)  # type: ignore[misc] # bound now
    for action in rounds.values():
        action()
    taken: dict[str, list[Seconds]] = {name: [] for name in rounds}
    for _ in range(max(repeats, 5)):
        for name, action in rounds.items():
            taken[name].append(action())
    return _figures(taken)


def _ours(
    folder: Path, codes: NDArray[np.uint8], saved: bool
) -> tuple[dict[str, Callable[[], Seconds]], float]:
    """Rounds of our forms by name, and how far ours is from TensorFlow's numbers."""
    import torch

    from featurestore.embedders.a2z import A2Z, A2ZEmbedder
    from featurestore.sequence.iupac import one_hot

    torch.set_num_threads(THREADS)
    path = folder / ("model.h5" if saved else "model.safetensors")
    if not saved:
        torch.manual_seed(0)
        A2Z().save_safetensors(path)
    model, low = A2Z.from_checkpoint(path), A2Z.from_checkpoint(path, dtype="bf16")
    embedder = A2ZEmbedder(str(path))
    embedder.load("cpu")
    x = torch.from_numpy(one_hot(codes))

    def every(run: Callable[[torch.Tensor], object]) -> Callable[[], Seconds]:
        def action() -> None:
            with torch.no_grad():
                for start in range(0, len(x), BATCH):
                    run(x[start : start + BATCH])

        return lambda: timed(action)

    difference = 0.0
    if saved:
        io = np.load(folder / "io.npz")
        with torch.no_grad():
            found = model(torch.from_numpy(io["x"]))[0].numpy()
        difference = float(np.abs(found - io["embedding"]).max())
    rounds = {
        "ours": every(model),
        "ours, bf16": every(low),
        "ours, embedder": lambda: timed(lambda: [embedder.embed(c) for c in codes.reshape(BATCHES, BATCH, -1)]),
        "plain torch": every(model.plain_outputs),
    }  # fmt: skip
    return rounds, difference


def _figures(taken: dict[str, list[Seconds]]) -> dict[str, float]:
    count = BATCH * BATCHES
    figures = {}
    for name, rounds in taken.items():
        figures[f"a2z, {name}, windows/s"] = count / statistics.median(w for w, _ in rounds)
        figures[f"a2z, {name}, CPU ms a window"] = 1e3 * min(c for _, c in rounds) / count
    for reference in ("plain torch", "TensorFlow predict", "TensorFlow graph"):
        for name in ("ours", "ours, bf16"):
            if reference in taken:
                for clock, words in enumerate(("", ", CPU time")):
                    pairs = zip(taken[reference], taken[name], strict=True)
                    figures[f"a2z, {name}, of {reference}{words}"] = statistics.median(
                        theirs[clock] / own[clock] for theirs, own in pairs
                    )
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.perf.a2z", description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    for name, value in measure(Path(), parser.parse_args().repeats).items():
        print(f"{name:<72} {value:>10.3f}")


if __name__ == "__main__":
    main()
