"""Builds by the real command in real processes, and what must hold of a store whatever broke."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from tests.builders.dataset import write_dataset
from tests.builders.species import random_species

ROOT = Path(__file__).resolve().parents[2]
PLUGIN = ROOT / "tests" / "faults" / "plugin"
SHARD_GENES = 8
RUN = "MERISTEM_FAULTS_RUN"
"""In the environment of every process of a test, so that none outlives it."""


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def told(self) -> str:
        """Everything that the user saw."""
        return self.out + self.err

    @property
    def error(self) -> str:
        """The error, from its first line on."""
        return self.err[self.err.find("Error: ") :] if "Error: " in self.err else ""


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def tree(root: Path) -> dict[str, str]:
    """Digest of every file below a folder."""
    return {
        p.relative_to(root).as_posix(): sha256(p) for p in sorted(root.rglob("*")) if p.is_file()
    }


class Forks:
    """Commands in forks of one warm process, see :mod:`tests.faults.forks`."""

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forks"], env=environment, cwd=folder, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def __call__(
        self, *arguments: str | Path, environment: Mapping[str, str] | None = None, **faults: Any
    ) -> Ended:
        """Run ``fs`` with these arguments in a process of its own that goes wrong as told."""
        write, read = self.process.stdin, self.process.stdout
        assert write is not None
        assert read is not None
        line = {
            "arguments": list(map(str, arguments)), "environment": dict(environment or {}),
            "faults": {"shard_genes": SHARD_GENES, **faults},
        }  # fmt: skip
        write.write(json.dumps(line) + "\n")
        write.flush()
        return Ended(*json.loads(read.readline()))

    def close(self) -> None:
        self.process.communicate()


@dataclass
class Bench:
    """A data set, its store as an undisturbed build made it, and means to disturb others.

    Parameters
    ----------
    folder : Path
        For everything that is made.
    """

    folder: Path
    dataset: Path
    truth: dict[str, str] = field(default_factory=dict)
    fs: Forks = None  # type: ignore[assignment]
    token: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: list[subprocess.Popen[Any]] = field(default_factory=list)

    @classmethod
    def make(cls, folder: Path, genes: int = 48, embedders: str = '["onehot", "slow"]') -> Bench:
        """Write the data set and build its store once, without any fault."""
        dataset = write_dataset(
            folder / "in",
            random_species("plant_a", genes=genes, duplicate=True),
            random_species("plant_b", genes=genes // 2, contigs=2, seed=1),
            embedders=embedders,
        )
        bench = cls(folder, dataset)
        bench.fs = Forks(bench.environment(), folder)
        ended = end(bench.start_build(bench.undisturbed))
        assert ended.code == 0, ended.told
        bench.truth = tree(bench.undisturbed)
        return bench

    @property
    def undisturbed(self) -> Path:
        return self.folder / "undisturbed" / "store.zarr"

    def environment(
        self, *, seconds: float = 0.0, faults: Mapping[str, Any] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> dict[str, str]:  # fmt: skip
        """Environment of a process: the slow embedder, and what is to go wrong."""
        told = {"shard_genes": SHARD_GENES, **(faults or {})}
        own = {
            "PYTHONPATH": f"{PLUGIN}{os.pathsep}{ROOT}", "MERISTEM_FAULTS": json.dumps(told),
            "SLOW_SECONDS": str(seconds), RUN: self.token, "PYTHONDONTWRITEBYTECODE": "1",
            # Many processes side by side: none starts threads of its own for matrices.
            "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **(more or {}),
        }  # fmt: skip
        return {**os.environ, **own}

    def start(
        self, *arguments: str | Path, module: str = "featurestore", stdin: int | None = None,
        before: Sequence[str] = (), **environment: Any,
    ) -> subprocess.Popen[str]:  # fmt: skip
        """Start a command in a process group of its own."""
        process = subprocess.Popen(
            [*before, sys.executable, "-m", module, *map(str, arguments)],
            env=self.environment(**environment), cwd=self.folder, text=True,
            stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        self.started.append(process)
        return process

    def start_build(self, store: Path, *options: str, **environment: Any) -> subprocess.Popen[str]:
        store.parent.mkdir(parents=True, exist_ok=True)
        return self.start("build", self.dataset, "--store", store, *options, **environment)

    def build(
        self, store: Path, *options: str, timeout: float = 120,
        faults: Mapping[str, Any] | None = None, **environment: Any,
    ) -> Ended:  # fmt: skip
        """``fs build`` to its end: in a fork of a warm process, or by ``python -m featurestore``.

        The latter where it has options that start further processes, or an environment.
        """
        if options[:1] in {(), ("--species",), ("--plan-only",)} and not environment:
            return self.fs("build", self.dataset, "--store", store, *options, **(faults or {}))
        return end(self.start_build(store, *options, faults=faults, **environment), timeout)

    def resume(self, store: Path) -> Ended:
        """Build once more, undisturbed, and check all that must hold then."""
        ended = self.build(store)
        assert ended.code == 0, ended.told
        self.check_store(store)
        self.check_nothing_left(store)
        return ended

    def check_markers(self, store: Path) -> int:
        """Compare every shard that is marked done to its marker and to the undisturbed build.

        Returns
        -------
        int
            Shards that are marked done.
        """
        work = store.with_name(store.name + ".build")
        count = 0
        for marker in sorted((work / "done").rglob("[!.]*.json")):
            try:
                body = json.loads(marker.read_bytes())
                found = {p: (work / "store" / p).read_bytes() for p in body["files"]}
            except FileNotFoundError:
                if (work / "sealed").exists() or not marker.exists():
                    continue  # it is being put in the place of the store
                raise
            for path, data in found.items():
                size, _ = body["files"][path]
                assert len(data) == size, f"{path} has {len(data)} bytes, marked as {size}"
                wrong = hashlib.sha256(data).hexdigest() != self.truth[path]
                assert not wrong, f"{path} is marked done and wrong"
            count += 1
        return count

    def check_store(self, store: Path) -> None:
        """The store is the undisturbed one, byte for byte."""
        found = tree(store)
        assert found.keys() == self.truth.keys(), sorted(found.keys() ^ self.truth.keys())[:10]
        wrong = [p for p in found if found[p] != self.truth[p]]
        assert not wrong, wrong[:10]

    def check_nothing_left(self, store: Path) -> None:
        """Beside the store lies its log, and nothing else."""
        names = sorted(p.name for p in store.parent.iterdir())
        assert names == [store.name, f"{store.name}.log.jsonl"], names

    def processes(self) -> list[psutil.Process]:
        """Processes that a test started and that are still there."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid == self.fs.process.pid or process.status() == "zombie":
                    continue
                if process.environ().get(RUN) == self.token:
                    found.append(process)
            except (psutil.Error, OSError):
                continue
        return found

    def end_all(self) -> None:
        """End what a test left running."""
        trackers = []
        for process in self.processes():
            try:
                if "resource_tracker" in " ".join(process.cmdline()):
                    trackers.append(process)  # cleans up behind the others, then ends
                else:
                    process.kill()
            except psutil.NoSuchProcess:
                continue
        for process in psutil.wait_procs(trackers, timeout=5)[1]:
            process.kill()
        for ended in self.started:
            ended.wait()
            for pipe in (ended.stdin, ended.stdout, ended.stderr):
                if pipe is not None:
                    pipe.close()
        self.started.clear()


def end(process: subprocess.Popen[str], timeout: float = 120) -> Ended:
    """Wait for a command, and what it said."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        kill(process)
        out, err = process.communicate()
        raise AssertionError(f"still running after {timeout} s:\n{out}{err}") from None
    return Ended(process.returncode, out, err)


def kill(process: subprocess.Popen[str]) -> Ended:
    """SIGKILL to the process alone."""
    process.send_signal(signal.SIGKILL)
    out, err = process.communicate()
    return Ended(process.returncode, out, err)


def wait_for(condition: Any, seconds: float = 60.0, every: float = 0.01) -> None:
    """Wait until something holds."""
    last = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < last, "waited in vain"
        time.sleep(every)


def marked(store: Path) -> int:
    """Shards that are marked done."""
    return len(list((store.with_name(store.name + ".build") / "done").rglob("[!.]*.json")))


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A file system of its own of a few megabytes, in memory.

    Raises
    ------
    PermissionError
        If this user may not mount.
    """
    folder.mkdir(parents=True)
    told = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if told.returncode:
        raise PermissionError(told.stderr)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)
