"""Training one network in several processes at once (DDP), a share of every batch each.

Start a script of yours with ``torchrun --nproc-per-node N script.py`` and fit within
:func:`process_group`; any learner in torch then trains on all of them, with the batches and,
but for rounding, the result of one process: the gradient is that of the mean over the whole
batch. Dropout draws other numbers, and batch normalisation sees each process's share unless
the device is CUDA, where it is synchronised. (Li et al., VLDB 13:3005, 2020.)
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from featurestore.errors import InputError

_NEEDED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
"""What ``torchrun`` tells each process."""


@dataclass(frozen=True)
class Ranks:
    """Which process it is among those that train together; alone by default.

    Parameters
    ----------
    rank, world_size : int
    """

    rank: int = 0
    world_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    @property
    def alone(self) -> bool:
        """Whether there is no other."""
        return self.world_size == 1

    def total(self, value: Tensor) -> Tensor:
        """The sum over all processes; without a gradient."""
        if self.alone:
            return value.detach()
        summed = value.detach().clone()
        distributed.all_reduce(summed)
        return summed

    def sums(self, *values: float, device: str) -> tuple[float, ...]:
        """Sums over all processes, in double precision."""
        if self.alone:
            return values
        return tuple(self.total(torch.tensor(values, dtype=torch.float64, device=device)).tolist())

    def any(self, said: bool, *, device: str) -> bool:
        """Whether any process says so: all of them then do."""
        return self.sums(float(said), device=device)[0] > 0

    def same_buffers(self, network: nn.Module) -> None:
        """Give all processes the buffers of the first (running means of batch normalisation)."""
        if not self.alone:
            for buffer in network.buffers():
                distributed.broadcast(buffer, 0)

    def gathered(self, value: Tensor, *, device: str) -> list[Tensor]:
        """A tensor of each process, of equal shapes, by rank; on the CPU."""
        if self.alone:
            return [value.cpu()]
        # Bytes are exchanged by every backend, by NCCL only where they lie on the device.
        mine = value.to(device)
        parts = [torch.empty_like(mine) for _ in range(self.world_size)]
        distributed.all_gather(parts, mine)
        return [part.cpu() for part in parts]

    def wait(self) -> None:
        """Until all processes are here."""
        if not self.alone:
            distributed.barrier()


def current_ranks() -> Ranks:
    """Which process it is of the process group; alone without one."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return Ranks()
    return Ranks(distributed.get_rank(), distributed.get_world_size())


@contextmanager
def process_group(backend: str | None = None) -> Iterator[Ranks]:
    """Join the processes that ``torchrun`` has started; alone where it has not.

    Parameters
    ----------
    backend : str, optional
        ``nccl`` or ``gloo``; default by whether there is CUDA. On CUDA each process takes the
        device of its local rank, which ``cuda`` then means.

    Raises
    ------
    InputError
        If this torch has no such backend, or only part of what ``torchrun`` sets is there.
    """
    missing = [name for name in _NEEDED if name not in os.environ]
    if len(missing) == len(_NEEDED):
        yield Ranks()
        return
    if missing:
        raise InputError(
            f"{', '.join(missing)} not set: start the script with torchrun --nproc-per-node N SCRIPT"
        )
    if not distributed.is_available():
        raise InputError("this torch was built without torch.distributed; install another build")
    cuda = torch.cuda.is_available()
    chosen = backend or ("nccl" if cuda else "gloo")
    if not distributed.is_backend_available(chosen):
        raise InputError(f"this torch has no backend {chosen!r}; gloo works on every machine")
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group(chosen)
    try:
        yield current_ranks()
        # None leaves while another still talks to it: the first process hosts the store of all.
        distributed.barrier()
    finally:
        # What DDP wraps refers to the group in cycles; freed after the group, its threads abort.
        gc.collect()
        distributed.destroy_process_group()


def shared_out(network: nn.Module, ranks: Ranks) -> nn.Module:
    """The network as all processes train it together; itself where there is one.

    Its gradients become the mean over the processes.
    """
    if ranks.alone:
        return network
    wrapped: nn.Module = nn.parallel.DistributedDataParallel(network)
    return wrapped


def synchronised(network: nn.Module, ranks: Ranks, device: str) -> nn.Module:
    """The network with batch normalisation over all processes, which torch has on CUDA alone."""
    if ranks.alone or not device.startswith("cuda"):
        return network
    converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call] # torch's own lack of types
    return converted
