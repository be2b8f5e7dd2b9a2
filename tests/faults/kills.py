"""Kills worker after worker through builds: ``python -m tests.faults.kills --kills 1000``.

After each kill every shard that is marked done is compared to the undisturbed build, and so is
every store at the end of its build.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from tests.faults.harness import Bench, end, marked

FORKED = {"DASK_DISTRIBUTED__WORKER__MULTIPROCESSING_METHOD": "forkserver"}
"""New workers are forked from a process that has imported Dask: they are there in no time."""
DAWDLE = 0.03
"""Seconds to wait before each change to the file system: many kills then fall between two of them."""
MARGIN = 0.3
"""A worker this young is not killed while there are older ones: it has not begun."""


@dataclass
class Tally:
    """What was done, and what came of it."""

    kills: int = 0
    while_writing: int = 0
    stores: int = 0
    commands: int = 0
    markers_checked: int = 0
    wrong: int = 0
    seconds: float = 0.0


def workers_of(build: subprocess.Popen[str]) -> list[psutil.Process]:
    """The worker processes of a build."""
    found = []
    try:
        children = psutil.Process(build.pid).children(recursive=True)
    except psutil.Error:
        return []
    for child in children:
        try:
            line, parent = " ".join(child.cmdline()), child.parent()
            forked = "forkserver" in line and parent is not None and parent.pid != build.pid
            if "spawn_main" in line or forked:
                found.append(child)
        except psutil.Error:
            continue
    return found


def kill_one(build: subprocess.Popen[str], rng: random.Random) -> bool | None:
    """Kill a worker; whether it was writing a file just then. None if there was none."""
    there = workers_of(build)
    now = time.time()
    try:
        old = [w for w in there if now - w.create_time() > MARGIN]
        if not (old or there):
            return None
        victim = rng.choice(old or there)
        victim.send_signal(signal.SIGSTOP)
        writing = any(f.path.endswith(".partial") for f in victim.open_files())
        victim.kill()
    except psutil.Error:
        return None
    return writing


def one_store(
    bench: Bench, store: Path, tally: Tally, rng: random.Random, *, every: float, workers: int,
    seconds: float, most: int, begin: bool, dawdle: float,
) -> None:  # fmt: skip
    """Build a store while its workers are killed, up to ``most`` times, until it is whole.

    ``begin``: already while they start; else when the first shard is done.
    """
    while True:
        faults = {"dawdle": dawdle, "within": str(store.parent)}
        build = bench.start_build(store, "--workers", str(workers), seconds=seconds, faults=faults, more=FORKED)  # fmt: skip
        tally.commands += 1
        killed_at = time.monotonic()
        while build.poll() is None:
            time.sleep(0.02)
            if time.monotonic() - killed_at < every or tally.kills >= most:
                continue
            if not (begin or marked(store)):
                continue
            if (writing := kill_one(build, rng)) is None:
                continue
            killed_at = time.monotonic()
            tally.kills += 1
            tally.while_writing += writing
            tally.markers_checked += bench.check_markers(store)
        ended = end(build)
        # 3: a shard whose workers were killed again and again was given up, for the next command.
        assert ended.code in {0, 3}, ended.told
        if ended.code == 0:
            break
        assert "each worker that ran it died" in ended.error or "died of something else" in ended.error, ended.told  # fmt: skip
        tally.markers_checked += bench.check_markers(store)
    bench.check_store(store)
    bench.check_nothing_left(store)
    tally.stores += 1


def run(
    bench: Bench, folder: Path, kills: int, *, every: float = 0.6, workers: int = 3,
    seconds: float = 0.005, dawdle: float = DAWDLE, seed: int = 0, on_store: Callable[[Tally], None] = lambda tally: None,
) -> Tally:  # fmt: skip
    """Build store after store until so many workers have been killed."""
    tally, rng, began = Tally(), random.Random(seed), time.monotonic()
    while tally.kills < kills:
        store = folder / "killed" / "store.zarr"
        one_store(bench, store, tally, rng, every=every, workers=workers, seconds=seconds, most=kills, begin=tally.stores % 4 == 3, dawdle=dawdle)  # fmt: skip
        shutil.rmtree(store.parent)
        tally.seconds = round(time.monotonic() - began, 1)
        on_store(tally)
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--every", type=float, default=0.6, help="seconds between two kills")
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()

    def say(tally: Tally) -> None:
        sys.stderr.write(json.dumps(asdict(tally)) + "\n")

    with tempfile.TemporaryDirectory() as folder:
        bench = Bench.make(Path(folder) / "bench")
        try:
            tally = run(bench, Path(folder), given.kills, every=given.every, workers=given.workers, seed=given.seed, on_store=say)  # fmt: skip
        finally:
            bench.end_all()
            bench.fs.close()
    sys.stdout.write(json.dumps(asdict(tally)) + "\n")


if __name__ == "__main__":
    main()
