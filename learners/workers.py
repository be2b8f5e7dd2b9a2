"""A Dask scheduler whose workers fit: found, or said why not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from featurestore.errors import ClusterError

CONNECT_SECONDS: Final = 20


@contextmanager
def connected(scheduler: str) -> Iterator[Any]:
    """A client of the scheduler at an address such as ``tcp://10.0.0.1:8786``.

    Raises
    ------
    ClusterError
        If nobody answers there, or no worker is there.
    """
    from distributed import Client

    try:
        client = Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TypeError) as error:
        raise ClusterError(
            f"no Dask scheduler answers at {scheduler} ({error}); start one with 'dask scheduler', workers with "
            f"'dask worker ADDRESS', and give its address, e.g. tcp://10.0.0.1:8786"
        ) from error
    with client:
        if not client.nthreads():
            raise ClusterError(
                f"the scheduler at {scheduler} has no workers; start some with: dask worker {scheduler}"
            )
        yield client


def count_workers(scheduler: str) -> int:
    """Workers of a scheduler."""
    with connected(scheduler) as client:
        return len(client.nthreads())
