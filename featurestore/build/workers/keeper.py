"""Starts worker processes of this machine that Dask has given up.

A nanny starts its worker again when it dies, but not when it dies while it is being started; and
a cluster forgets a worker that it has not seen for 15 s. A build would then wait for ever.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

LOOK_SECONDS: Final = 1.0
"""How often to look; what is found dead twice in a row is started."""


@contextmanager
def kept_alive(cluster: Any, spec: Mapping[int, Any]) -> Iterator[None]:
    """Start workers in an empty ``SpecCluster`` and look after them, from a thread of its own.

    Parameters
    ----------
    spec : mapping
        As :class:`distributed.SpecCluster` takes for its workers, nannies all. Not given to the cluster
        when it is made, because a worker that died at once would then be the end of it.
    """
    cluster.worker_spec.update(spec)
    cluster.sync(_start_missing, cluster, set())
    ended = threading.Event()
    thread = threading.Thread(target=_keep, args=(cluster, ended), name="keeper", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _keep(cluster: Any, ended: threading.Event) -> None:
    dead: set[int] = set()
    while not ended.wait(LOOK_SECONDS):
        now = {name for name, nanny in list(cluster.workers.items()) if _given_up(nanny)}
        try:
            cluster.sync(_start_missing, cluster, now & dead)
        except (RuntimeError, OSError):  # the cluster is being closed
            return
        dead = now


def _given_up(nanny: Any) -> bool:
    """Whether neither a worker is there nor one being started."""
    states = {nanny.status.name, nanny.process.status.name if nanny.process else "stopped"}
    return bool(states & {"closed", "failed", "stopped"}) and "starting" not in states


async def _start_missing(cluster: Any, dead: set[int]) -> None:
    """Start every worker that the cluster should have and has not; one that fails is tried again later."""
    starts = []
    for name in dead & set(cluster.workers):
        nanny = cluster.workers[name]
        if nanny.status.name in {"closed", "failed"}:
            del cluster.workers[name]
        else:
            starts.append(nanny.instantiate())
    new = [_start(cluster, name) for name in set(cluster.worker_spec) - set(cluster.workers)]
    await asyncio.gather(*starts, *new, return_exceptions=True)


async def _start(cluster: Any, name: int) -> None:
    spec = cluster.worker_spec[name]
    # What the cluster itself opens all at once fails all at once.
    cluster.workers[name] = await spec["cls"](
        cluster.scheduler_address, name=name, **spec["options"]
    )
