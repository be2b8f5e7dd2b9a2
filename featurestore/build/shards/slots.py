"""Whose turn it is to use the models of this process, and whether the build is being stopped.

A process runs more tasks than it has compute slots: while one task has the model, another cuts
windows, takes digests or writes its shard, so that the model never waits for a disk.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from featurestore.errors import MeristemError


class StoppedError(MeristemError):
    """The build is being stopped; what was begun is not finished."""


class _Turns:
    """A number of slots, first come, first served."""

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._free = threading.Semaphore(slots)

    @contextmanager
    def turn(self) -> Iterator[None]:
        with self._free:
            yield


class _State:
    """What the tasks of this process share."""

    def __init__(self) -> None:
        self.turns = _Turns(1)
        self.stopping = threading.Event()
        self.lock = threading.Lock()


_state = _State()


def set_slots(count: int) -> None:
    """How many tasks of this process may use a model at once."""
    with _state.lock:
        if _state.turns.slots != count:
            _state.turns = _Turns(count)


@contextmanager
def model_turn() -> Iterator[None]:
    """Wait for a slot and hold it."""
    with _state.turns.turn():
        check_going_on()
        yield


def stop() -> None:
    """Make every task of this process end at its next batch."""
    _state.stopping.set()


def go_on() -> None:
    """Take :func:`stop` back."""
    _state.stopping.clear()


def check_going_on() -> None:
    """End the task if the build is being stopped.

    Raises
    ------
    StoppedError
        If so.
    """
    if _state.stopping.is_set():
        raise StoppedError("stopped before it was done")
