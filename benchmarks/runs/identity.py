"""What a result depends on: versions, device, and how much memory it took."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import platform
import sys
import threading
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from learners.base import Budget
from learners.compute import threads_of

_ALWAYS: Final = ("meristem", "numpy", "scipy", "scikit-learn")
_DISTRIBUTION: Final = {"sklearn": "scikit-learn", "yaml": "pyyaml"}
_ALIASES: Final = {"xgboost": ("xgboost", "xgboost-cpu")}
"""Modules that several distributions bring."""

_OWN: Final = ("featurestore", "learners", "benchmarks")


def versions(requires: Sequence[str], learner: type[Any]) -> dict[str, str]:
    """Versions of all that decides the numbers of a learner.

    A learner from outside this project is named by the version of its distribution, and by a
    digest of its source, so that an edited learner is never taken for the one that ran before.
    """
    found = {"python": platform.python_version()}
    for name in (*_ALWAYS, *requires):
        found[_DISTRIBUTION.get(name, name)] = _version(name)
    module = learner.__module__.partition(".")[0]
    if module not in _OWN:
        version = _version(module)
        if version != "unknown":
            found[module] = version
        found[learner.__module__] = _source_digest(learner)
    return dict(sorted(found.items()))


def _version(module: str) -> str:
    name = _DISTRIBUTION.get(module, module)
    for candidate in _ALIASES.get(name, (name,)):
        try:
            return metadata.version(candidate)
        except metadata.PackageNotFoundError:
            continue
    return "unknown" if importlib.util.find_spec(module.partition(".")[0]) else "not installed"


def _source_digest(learner: type[Any]) -> str:
    try:
        file = inspect.getsourcefile(learner)
    except TypeError:
        file = None
    if file is None or not Path(file).exists():
        return "source unknown"
    return "sha256:" + hashlib.sha256(Path(file).read_bytes()).hexdigest()


def device_name(budget: Budget) -> str:
    """The device in words: ``cpu (AMD EPYC …)``, ``cuda:0 (NVIDIA …)``."""
    if budget.device.startswith("cuda"):
        import torch

        name = torch.cuda.get_device_name(budget.device) if torch.cuda.is_available() else "absent"
        return f"{budget.device} ({name})"
    return f"{budget.device} ({_processor()})"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def thread_count(budget: Budget) -> int:
    """Threads a fit may use."""
    return threads_of(budget)


class PeakMemory:
    """Peak resident memory of this process while the context is open, in bytes.

    Linux keeps a high-water mark that can be reset (``clear_refs``, proc(5)); elsewhere a
    thread looks every 20 ms. The peak of the whole process, not what the fit added.
    """

    def __init__(self) -> None:
        self.bytes = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> PeakMemory:
        if not _reset_high_water():
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        if self._thread is None:
            self.bytes = _high_water()
            return
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        process = psutil.Process()
        while True:
            self.bytes = max(self.bytes, process.memory_info().rss)
            if self._stop.wait(0.02):
                return


def _reset_high_water() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return _high_water() > 0


def _high_water() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0
