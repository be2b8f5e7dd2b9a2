"""What a training step of the scan for motifs costs, and of the network on top of it.

    python -m benchmarks.perf.motif_scan

CPU time on one thread, not wall time: other processes of the machine disturb it less.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import click
import torch
from torch import Tensor, nn

from learners.neural.motif_scan import MotifScan
from learners.neural.onehot_cnn import OneHotCNN
from learners.neural.s2e import S2E


def milliseconds(step: Callable[[], None], repeats: int) -> float:
    """CPU time of one call: the least of some, after one that is not counted."""
    step()
    times = []
    for _ in range(repeats):
        start = time.process_time()
        step()
        times.append(time.process_time() - start)
    return 1000 * min(times)


def _train(run: Callable[[], Tensor], half: bool) -> None:
    precision: AbstractContextManager[object] = (
        torch.autocast("cpu", torch.bfloat16) if half else nullcontext()
    )
    with precision:
        found = run()
    found.float().sum().backward()  # type: ignore[no-untyped-call] # torch has no types there


@click.command()
@click.option("--genes", default=32, show_default=True, help="Of a mini-batch.")
@click.option("--length", default=1500, show_default=True, help="Bases of a region; there are two.")
@click.option("--repeats", default=10, show_default=True)
def main(genes: int, length: int, repeats: int) -> None:
    """Print the CPU time of training steps on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    codes = torch.randint(0, 4, (genes, 2, length))
    bases = nn.functional.one_hot(codes[:, 0], 4).float()
    scan = MotifScan(96, 13, 4)
    layout = {"onehot": {"kind": "codes", "shape": [2, length]}}
    measured: dict[str, Callable[[], Tensor]] = {
        "scan of one region, one product": partial(scan.plain, bases),
        "scan of one region, by offsets": partial(scan, bases),
        "onehot_cnn": partial(OneHotCNN().build(layout, 1), {"onehot": codes}),
        "s2e": partial(S2E().build(layout, 1), {"onehot": codes}),
    }
    for name, run in measured.items():
        whole, half = (milliseconds(partial(_train, run, on), repeats) for on in (False, True))
        click.echo(f"{name:<34} float32 {whole:6.1f} ms   bfloat16 {half:6.1f} ms")


if __name__ == "__main__":
    main()
