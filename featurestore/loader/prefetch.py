"""A thread that works ahead of its consumer: bounded, stopped cleanly, its errors handed on."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from typing import Generic, TypeVar

T = TypeVar("T")


class _Shared(Generic[T]):
    """What thread and consumer share. The thread knows nothing else, so a consumer that is
    dropped can be collected, and takes the thread with it.
    """

    def __init__(self, depth: int) -> None:
        self.ready: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()
        self.room = threading.Semaphore(depth)
        self.stopped = threading.Event()


def _work(shared: _Shared[T], items: Iterable[T]) -> None:
    """Put items into the queue, then what ended them: None, or the error."""
    end: BaseException | None = None
    iterator = iter(items)
    try:
        while True:
            shared.room.acquire()
            if shared.stopped.is_set():
                break
            try:
                item = next(iterator)
            except StopIteration:
                break
            shared.ready.put((item,))
            del item  # else the thread would hold on to the last one while it waits
    except BaseException as error:  # noqa: BLE001 - whatever it is, the consumer raises it
        end = error
    finally:
        # Files and pools that the iterator holds are let go here, in the thread that used them.
        close = getattr(iterator, "close", None)
        if close is not None:
            close()
        shared.ready.put(end)


def _stop(shared: _Shared[T], thread: threading.Thread) -> None:
    shared.stopped.set()
    shared.room.release()
    if thread is not threading.current_thread():
        thread.join()


class prefetched(Iterator[T]):  # noqa: N801 - used like a function
    """Iterate with a thread that prepares up to ``depth`` items ahead.

    The thread ends when the items do, when :meth:`close` is called, when this object is dropped
    in mid-course, or when the interpreter exits. An error raised by the items is raised here, at
    the place in the order where it came.

    Parameters
    ----------
    items : iterable
        Used by the thread alone.
    depth : int
        Items that may lie ready; at least 1.
    """

    def __init__(self, items: Iterable[T], depth: int = 2) -> None:
        self._shared: _Shared[T] = _Shared(depth)
        thread = threading.Thread(
            target=_work, args=(self._shared, items), name="meristem-prefetch", daemon=True
        )
        thread.start()
        # Runs at exit too: a thread must not be in a kernel when the interpreter goes.
        self._end = weakref.finalize(self, _stop, self._shared, thread)

    def __next__(self) -> T:
        if not self._end.alive:
            raise StopIteration
        found = self._shared.ready.get()
        if isinstance(found, tuple):
            self._shared.room.release()
            return found[0]
        self._end()
        if found is not None:
            raise found
        raise StopIteration

    def close(self) -> None:
        """Stop the thread and wait for its end; what lies ready is dropped."""
        self._end()
