"""Where a build runs: threads, processes, a scheduler that is there, or a cluster that is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Execution:
    """Where the tasks of a build run.

    Parameters
    ----------
    workers : int, optional
        Processes of a local Dask cluster, or workers to ask a cluster for.
    processes : bool
        Local processes, one per core where ``workers`` does not say.
    scheduler : str, optional
        Address of a Dask scheduler that is running, e.g. ``tcp://node7:8786``.
    cluster : str, optional
        Name in :data:`featurestore.build.workers.cluster.CLUSTERS`, or ``module:Class``.
    options : mapping
        Arguments of the cluster's class; what is not given comes from Dask's configuration.
    adapt : (int, int), optional
        Fewest and most workers between which the cluster follows the load.
    device : str, optional
        Device of the embedders (``cpu``, ``cuda``, ``cuda:1``). None: each chooses.
    """

    workers: int | None = None
    processes: bool = False
    scheduler: str | None = None
    cluster: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    adapt: tuple[int, int] | None = None
    device: str | None = None

    @property
    def on_threads(self) -> bool:
        """Whether this process does the work itself."""
        return not (self.workers or self.processes or self.scheduler or self.cluster)
