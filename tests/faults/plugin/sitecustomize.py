"""Faults within a process, as ``MERISTEM_FAULTS`` says (JSON): Python imports this when it starts.

An audit hook sees every file that is opened, renamed or removed, and may kill the process there
or make the call fail. The program under test is not changed.

``shard_genes``  genes in a shard
``within``       only paths below this count, and those named relative to an open folder
``kill_at``      number of the change to the file system just before which the process kills itself
``kill_when``    [event, end of a path]: just before the first such change
``steps``        file that gets a line for each change
``dawdle``       seconds to wait before each change
``errors``       list of {event, path (a part of it), errno, times, skip}
``clock``        the clock jumps to and fro by up to so many seconds
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import sys
import threading
import time

CHANGES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.truncate", "os.symlink", "ctypes.dlsym"}  # fmt: skip


def path_of(event, args):
    """The path that an event is about, or None."""
    if event == "ctypes.dlsym":
        return args[1] if args[1] == "renameat2" else None
    if event == "open" and not (args[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC):
        return None
    path = args[1] if event in {"os.rename", "os.link"} else args[0]
    if isinstance(path, int):
        return None
    return os.fsdecode(path)


class Faults:
    """Counts what happens, and does what it was told."""

    def __init__(self, told):
        self.within = told.get("within", "/")
        self.kill_at, self.steps = told.get("kill_at"), told.get("steps")
        self.dawdle = told.get("dawdle", 0)
        self.kill_when = told.get("kill_when", ["", ""])
        self.errors = [dict(e) for e in told.get("errors", ())]
        self.count, self.lock, self.inside = itertools.count(1), threading.Lock(), threading.local()

    def __call__(self, event, args):
        if getattr(self.inside, "busy", False):
            return
        self.inside.busy = True
        try:
            if self.errors:
                self.fail(event, args)
            if event in CHANGES:
                self.step(event, args)
        finally:
            self.inside.busy = False

    def step(self, event, args):
        path = path_of(event, args)
        if path is None or (os.path.isabs(path) and not path.startswith(self.within)):
            return
        time.sleep(self.dawdle)
        with self.lock:
            number = next(self.count)
            if self.steps:
                with open(self.steps, "a") as file:
                    file.write(f"{number}\t{event}\t{path}\n")
        if number == self.kill_at or (
            event == self.kill_when[0] and path.endswith(self.kill_when[1])
        ):
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)

    def fail(self, event, args):
        for error in self.errors:
            if error["event"] != event:
                continue
            texts = [os.fsdecode(a) if isinstance(a, bytes) else str(a) for a in args]
            if not any(error.get("path", "") in text for text in texts):
                continue
            with self.lock:
                if error.get("skip", 0) > 0:
                    error["skip"] -= 1
                    continue
                if error.get("times", 1 << 60) <= 0:
                    continue
                error["times"] = error.get("times", 1 << 60) - 1
            if event.startswith("ctypes"):
                raise AttributeError("not on this file system")
            raise OSError(error["errno"], os.strerror(error["errno"]), texts[0] if texts else None)


def jumping_clock(most):
    """Let the clock of the wall jump; the monotonic one never does."""
    rng, now, now_ns = random.Random(5), time.time, time.time_ns
    time.time = lambda: now() + rng.uniform(-most, most)
    time.time_ns = lambda: now_ns() + int(rng.uniform(-most, most) * 1e9)


def begin(told):
    """Start misbehaving."""
    if told.get("shard_genes"):
        import featurestore.schema

        featurestore.schema.SHARD_GENES = told["shard_genes"]
    if told.get("clock"):
        jumping_clock(told["clock"])
    if {"kill_at", "kill_when", "steps", "dawdle", "errors"} & told.keys():
        sys.addaudithook(Faults(told))


if told := os.environ.get("MERISTEM_FAULTS"):
    with contextlib.suppress(ImportError):  # a process that is not of this environment
        begin(json.loads(told))
