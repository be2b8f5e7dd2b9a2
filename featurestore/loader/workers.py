"""The loader inside torch's ``DataLoader``: worker processes, forked or spawned."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from featurestore.errors import InputError
from featurestore.loader.batches import Batch

if TYPE_CHECKING:
    from featurestore.loader.loader import StoreLoader


class Batches(IterableDataset[Batch]):
    """Whole batches of a loader; a worker process takes every n-th.

    As a ``DataLoader`` asks its workers in turn, the batches come in the loader's own order,
    however many workers there are.
    """

    def __init__(self, loader: StoreLoader) -> None:
        self.loader = loader
        # In shared memory: workers that live on see what the main process sets.
        self._start = torch.zeros(2, dtype=torch.int64)
        self._start.share_memory_()  # type: ignore[no-untyped-call] # torch's own lack of types
        self.set_epoch(loader.epoch)

    def set_epoch(self, epoch: int, batch: int = 0) -> None:
        """Begin the next epoch as this one, at this batch of it."""
        self._start[0], self._start[1] = epoch, batch

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        epoch, first = self._start.tolist()
        worker = get_worker_info()
        number, count = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for ready in self.loader.stream(epoch, first + number, count):
            yield self.loader.handed_over(ready)


class Workers(DataLoader[Batch]):
    """A ``DataLoader`` over a loader that goes from epoch to epoch by itself."""

    def __init__(self, loader: StoreLoader, num_workers: int, **options: Any) -> None:
        if num_workers and loader.device.startswith("cuda"):
            raise InputError(
                "worker processes cannot hand over tensors on CUDA; leave the loader's device out and "
                "move the batches, or iterate the loader itself, which copies beside the computation"
            )
        super().__init__(loader.dataset(), batch_size=None, num_workers=num_workers, **options)
        self.epoch = loader.epoch

    def __iter__(self) -> Any:
        batches: Any = self.dataset
        batches.set_epoch(self.epoch)
        self.epoch += 1
        return super().__iter__()
