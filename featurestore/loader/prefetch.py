"""Threads that work ahead of their consumer: in order, bounded, stopped cleanly, errors handed on."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class _Shared(Generic[T]):
    """What threads and consumer share. The threads know nothing else, so that a consumer who is
    dropped can be collected, and takes the threads with him.

    Result n is put into slot n modulo the depth: no more than so many are under way, so each slot
    has one at most.
    """

    def __init__(self, tasks: Iterable[Callable[[], T]], depth: int) -> None:
        self.tasks = iter(tasks)
        self.begun = 0
        self.turn = threading.Lock()
        self.room = threading.Semaphore(depth)
        self.slots: list[SimpleQueue[tuple[T] | BaseException | None]] = [
            SimpleQueue() for _ in range(depth)
        ]
        self.over = False

    def begin(self) -> tuple[int, Callable[[], T]] | None:
        """The next task and its number; None when there is no more, which the consumer is told."""
        with self.turn:
            if self.over:
                return None
            number = self.begun
            self.begun += 1
            try:
                return number, next(self.tasks)
            except StopIteration:
                self.end(number, None)
            except BaseException as error:  # noqa: BLE001 - whatever it is, the consumer raises it
                self.end(number, error)
            return None

    def end(self, number: int, error: BaseException | None) -> None:
        """Nothing comes after this number."""
        self.over = True
        self.slots[number % len(self.slots)].put(error)


def _work(shared: _Shared[T]) -> None:
    while True:
        shared.room.acquire()
        begun = shared.begin()
        if begun is None:
            # The others may wait for room that no consumer will make any more.
            shared.room.release()
            return
        number, task = begun
        slot = shared.slots[number % len(shared.slots)]
        try:
            slot.put((task(),))
        except BaseException as error:  # noqa: BLE001 - whatever it is, the consumer raises it
            shared.over = True
            slot.put(error)
        # Else the thread would hold on to what it read while it waits.
        del begun, task


def _stop(shared: _Shared[T], threads: list[threading.Thread]) -> None:
    shared.over = True
    shared.room.release()
    for thread in threads:
        if thread is not threading.current_thread():
            thread.join()
    # Files and buffers that the tasks hold are let go.
    close = getattr(shared.tasks, "close", None)
    if close is not None:
        # Where the collector drops the consumer in the middle of a step of the tasks themselves.
        with suppress(ValueError):
            close()


class prefetched(Iterator[T]):  # noqa: N801 - used like a function
    """Results of tasks, in their order, prepared by threads while the consumer is busy.

    The threads end when the tasks do, when :meth:`close` is called, when this object is dropped
    in mid-course, or when the interpreter exits. An error of a task is raised here, in its place.

    Parameters
    ----------
    tasks : iterable of callable
        Asked for one by one, never by two threads at once; only the calls run side by side.
    depth : int
        Tasks that may be under way or ready; at least 1.
    threads : int
    """

    def __init__(self, tasks: Iterable[Callable[[], T]], depth: int = 2, threads: int = 1) -> None:
        shared: _Shared[T] = _Shared(tasks, depth)
        self._shared, self._next = shared, 0
        workers = [
            threading.Thread(target=_work, args=(shared,), name="meristem-prefetch", daemon=True)
            for _ in range(min(threads, depth))
        ]
        for worker in workers:
            worker.start()
        # Runs at exit too: a thread must not be in a kernel when the interpreter goes.
        self._end = weakref.finalize(self, _stop, shared, workers)

    def __next__(self) -> T:
        if not self._end.alive:
            raise StopIteration
        found = self._shared.slots[self._next % len(self._shared.slots)].get()
        if isinstance(found, tuple):
            self._next += 1
            self._shared.room.release()
            return found[0]
        self._end()
        if found is not None:
            raise found
        raise StopIteration

    def close(self) -> None:
        """Stop the threads and wait for their end; what lies ready is dropped."""
        self._end()


def in_turn(items: Iterable[T]) -> Iterator[Callable[[], T]]:
    """Tasks out of an iterable whose own steps are the work."""
    for item in items:
        yield lambda item=item: item  # type: ignore[misc] # bound now
