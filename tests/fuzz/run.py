"""``python -m tests.fuzz.run --seconds N [--target T]``: fuzz for as long as one likes.

With atheris installed (``pip install atheris``) the changes are guided by the lines of the parsers
that they reach; without it they are random. What is found is written to ``--out`` and told; the exit
code then is 1. The same input is read again with ``--input FILE --target T``.
"""

# ruff: noqa: T201, S108, BLE001 - a program of the command line; any exception is what it looks for

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import hashlib
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

HANG = 20
"""Seconds that one input may take."""
MEMORY = 12 << 30
"""Bytes of address space: what would take more raises."""


_OURS = ("featurestore", "benchmarks", "learners", "fuzz")


class HangError(Exception):
    """An input took longer than :data:`HANG`."""


def _too_long(_signal: int, _frame: FrameType | None) -> None:
    raise HangError(f"more than {HANG} s")


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """A hang raises; a warning is an error."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(HANG)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            yield
    finally:
        signal.alarm(0)


def fuzz_randomly(name: str, seconds: float, seed: int, out: Path) -> tuple[int, dict[str, str]]:
    """Random changes; runs made, and each distinct thing found with the file that shows it."""
    from tests.fuzz.mutate import changed, random_changes
    from tests.fuzz.targets import TARGETS, check

    target, rng = TARGETS[name], random.Random(seed)
    seeds = target.seeds()
    found: dict[str, str] = {}
    runs, end = 0, time.monotonic() + seconds
    with tempfile.TemporaryDirectory(dir=_memory()) as folder:
        while time.monotonic() < end:
            if rng.random() < 0.05:
                data = rng.randbytes(rng.randrange(200))
            else:
                data = changed(rng.choice(seeds), random_changes(rng), target.pieces)
            runs += 1
            faulthandler.dump_traceback_later(3 * HANG, exit=True)  # a loop in a library's C
            try:
                with limited():
                    check(name, Path(folder), data)
            except Exception as error:
                kind = _kind(error)
                if kind not in found:
                    found[kind] = str(_kept(out, name, data))
                    traceback.print_exception(error, limit=-6)
                    print(f"--- {name}: {kind}: {str(error)[:200]}\n    {found[kind]}", flush=True)
    faulthandler.cancel_dump_traceback_later()
    return runs, found


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _kind(error: Exception) -> str:
    """Exception and the place in the project it came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if any(f"/{part}/" in f.filename for part in _OURS)]
    last = ours[-1] if ours else frames[-1]
    return f"{type(error).__name__} at {Path(last.filename).name}:{last.lineno}"


def _kept(out: Path, name: str, data: bytes) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    safe = name.replace("/", "_").replace(":", "_")
    path = out / f"{safe}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    return path


def fuzz_guided(name: str, seconds: float, out: Path) -> int:
    """Changes guided by coverage; atheris ends the process, so this runs in one of its own."""
    code = (
        "import sys, atheris\n"
        "with atheris.instrument_imports(include=['featurestore', 'benchmarks', 'learners']):\n"
        "    import tests.fuzz.targets, tests.fuzz.targets_binary\n"
        "from tests.fuzz.run import guided\n"
        "guided(sys.argv[1], sys.argv[2:])\n"
    )
    out.mkdir(parents=True, exist_ok=True)
    flags = [f"-max_total_time={int(seconds)}", f"-timeout={HANG}", "-rss_limit_mb=4096", "-max_len=65536",
             "-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={out}/{name.replace('/', '_').replace(':', '_')}-"]  # fmt: skip
    return subprocess.run([sys.executable, "-c", code, name, *flags], check=False).returncode


def guided(name: str, flags: list[str]) -> None:
    """What runs in that process."""
    import atheris

    from tests.fuzz.mutate import KINDS, Change, changed
    from tests.fuzz.targets import TARGETS, check

    target = TARGETS[name]
    seeds = target.seeds()
    folder = Path(tempfile.mkdtemp(dir=_memory()))

    def one(raw: bytes) -> None:
        given = atheris.FuzzedDataProvider(raw)
        if given.ConsumeBool():
            data = raw[1:]
        else:
            seed = seeds[given.ConsumeIntInRange(0, len(seeds) - 1)]
            changes = [
                Change(
                    given.ConsumeIntInRange(0, KINDS - 1), given.ConsumeIntInRange(0, 1 << 20),
                    given.ConsumeIntInRange(0, 63), given.ConsumeIntInRange(0, 255),
                )
                for _ in range(given.ConsumeIntInRange(1, 6))
            ]  # fmt: skip
            data = changed(seed, changes, target.pieces)
        check(name, folder, data)

    corpus = Path(tempfile.mkdtemp(dir=_memory()))
    for i, seed in enumerate(seeds):
        (corpus / str(i)).write_bytes(b"\1" + seed)
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one)
    atheris.Fuzz()


def has_atheris() -> bool:
    """Whether changes can be guided."""
    import importlib.util

    return importlib.util.find_spec("atheris") is not None


def main(arguments: list[str] | None = None) -> int:
    """Fuzz; exit code 1 if anything was found."""
    from tests.fuzz.targets import all_targets, check

    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=60, help="in all, shared among the targets"
    )
    parser.add_argument(
        "--target", action="append", choices=sorted(all_targets()), help="repeatable; default all"
    )
    parser.add_argument("--seed", type=int, default=0, help="of random changes")
    parser.add_argument("--random", action="store_true", help="random changes even with atheris")
    parser.add_argument("--input", type=Path, help="read this file once and end")
    parser.add_argument(
        "--out", type=Path, default=Path("fuzz-found"), help="where inputs are kept"
    )
    given = parser.parse_args(arguments)
    names = given.target or sorted(all_targets())
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    if given.input:
        with tempfile.TemporaryDirectory() as folder:
            print("valid" if check(names[0], Path(folder), given.input.read_bytes()) else "told")
        return 0
    failed = 0
    guide = has_atheris() and not given.random
    for name in names:
        seconds = given.seconds / len(names)
        if guide:
            failed += bool(fuzz_guided(name, seconds / 2, given.out))
            seconds /= 2
        runs, found = fuzz_randomly(name, seconds, given.seed, given.out)
        failed += len(found)
        print(f"{name:<40} {runs:>8,} inputs  {len(found)} found", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
