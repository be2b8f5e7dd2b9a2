"""Locks of files alone, for file systems whose kernel has none (some network file systems).

Whoever wants the lock first writes a file of its own, then looks for others: of two that come at
once at least one sees the other and steps back. A holder counts as dead only where that is
certain: on this machine, when its process is gone or the machine has been started anew since. No
clock is asked, and of another machine nothing is guessed.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from featurestore.errors import StoreLockedError
from featurestore.store.commit import commit_file

_FOLDER: Final = "lock.d"
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")


@contextmanager
def lock_by_files(work: Path, *, shared: bool) -> Iterator[None]:
    """Hold the lock of a work area, alone or with others that share it.

    Raises
    ------
    StoreLockedError
        If another process holds it, or may hold it on another machine.
    """
    own = _write_own(work, shared)
    try:
        if (other := _in_the_way(own, shared)) is not None:
            path, facts = other
            raise StoreLockedError(
                f"{work}: in use by process {facts.get('pid')} on {facts.get('host')}, as {path} says (the file "
                "system has no locks that would tell more). Wait for it or stop it; its finished shards stay. "
                f"If no such process runs there any more, delete {path}."
            )
        yield
    finally:
        own.unlink(missing_ok=True)


def _write_own(work: Path, shared: bool) -> Path:
    me = {**_self(), "shared": shared}
    while True:
        own = work / _FOLDER / f"{me['host']}-{me['pid']}-{secrets.token_hex(4)}.json"
        commit_file(own, [json.dumps(me).encode()])
        # The holder before us may have moved the work area away between these two steps.
        if own.exists():
            return own


def _in_the_way(own: Path, shared: bool) -> tuple[Path, dict[str, Any]] | None:
    """A holder that excludes us; what dead ones left is removed."""
    for path in sorted(own.parent.glob("[!.]*.json")):
        if path == own:
            continue
        try:
            facts = json.loads(path.read_bytes())
        except FileNotFoundError:
            continue
        except ValueError:
            return path, {}
        if not isinstance(facts, dict) or not (shared and facts.get("shared")):
            if isinstance(facts, dict) and _is_dead(facts):
                path.unlink(missing_ok=True)
                continue
            return path, facts if isinstance(facts, dict) else {}
    return None


def _self() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "boot": _boot(), "started": _started(pid)}


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """When a process started, in ticks since the machine did: tells it from a later one of its number."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _is_dead(facts: dict[str, Any]) -> bool:
    if facts.get("host") != socket.gethostname() or not facts.get("boot"):
        return False
    if facts["boot"] != _boot():
        return True
    try:
        pid = int(facts["pid"])
        os.kill(pid, 0)
    except (ProcessLookupError, KeyError, ValueError, OverflowError):
        return True
    except PermissionError:
        pass
    return _started(pid) != facts.get("started")
