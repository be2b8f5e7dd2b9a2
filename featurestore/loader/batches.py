"""What a loader yields, and how arrays become tensors on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    import torch

    from featurestore.loader.gather import Gatherer


class Batch(NamedTuple):
    """Rows of some genes; a named tuple, so that torch's ``DataLoader`` takes it as it is.

    Parameters
    ----------
    features : dict of feature name to tensor or array, shape (n, …)
    index : int64, shape (n,)
        Positions among the genes of the loader (``loader.gene``, ``loader.targets``).
    species : int64, shape (n,)
        Positions in ``loader.species``.
    row : int64, shape (n,)
        Row of the gene in the arrays of its species.
    targets : float32, shape (n, t), or None
    repeated : int
        How many rows at the end only repeat others, so that all ranks have equal batches: 0 or 1.
    """

    features: dict[str, Any]
    index: Any
    species: Any
    row: Any
    targets: Any
    repeated: int = 0


def import_torch() -> Any:
    """Torch, or an error that says how to have it."""
    try:
        import torch
    except ImportError as error:
        raise MissingDependencyError(
            "tensors need torch, which is not installed: pip install 'meristem[torch]', or take "
            "arrays with tensors=False"
        ) from error
    return torch


class Ready(NamedTuple):
    """A batch as the reading thread leaves it; on CUDA with the event that ends its copies."""

    batch: Batch
    copied: Any = None


class Arrays:
    """Batches stay numpy arrays; numbers in another dtype where one is asked for.

    Parameters
    ----------
    dtype : numpy dtype or its name, optional
        Of features that are numbers; codes stay bytes.
    """

    def __init__(self, dtype: Any) -> None:
        self._dtype = None if dtype is None else np.dtype(dtype)

    def memory(self, gatherer: Gatherer, n: int) -> dict[str, Any]:
        """Where a batch of ``n`` rows is read to."""
        return gatherer.arrays(n)

    def views(self, memory: dict[str, Any]) -> dict[str, NDArray[Any]]:
        """The same memory as arrays."""
        return memory

    def prepare(self, batch: Batch) -> Ready:
        """Cast."""
        if self._dtype is None:
            return Ready(batch)
        cast = {
            name: values.astype(self._dtype, copy=False) if values.dtype.kind == "f" else values
            for name, values in batch.features.items()
        }
        return Ready(batch._replace(features=cast))

    def hand_over(self, ready: Ready) -> Batch:
        """Nothing is left to do."""
        return ready.batch


class Tensors:
    """Batches become tensors: cast by torch, on CUDA through page-locked memory.

    On CUDA a batch is copied on a stream of its own while the consumer computes; his stream
    waits for the copy on the device, nobody on the host. The cast comes after the copy, so that
    float16 travels.

    Parameters
    ----------
    dtype : torch.dtype or its name, optional
        Of features that are numbers; codes stay bytes.
    device : str
    pin : bool
        Page-locked tensors, for a consumer who moves them himself.

    Raises
    ------
    MissingDependencyError
        If there is no torch.
    InputError
        If torch knows no such dtype, or finds no CUDA.
    """

    def __init__(self, dtype: Any, device: str, pin: bool) -> None:
        torch = import_torch()
        self._torch, self._device = torch, torch.device(device)
        self._dtype = getattr(torch, dtype, dtype) if isinstance(dtype, str) else dtype
        if dtype is not None and not isinstance(self._dtype, torch.dtype):
            raise InputError(
                f"dtype {dtype!r}: torch has none of that name; use float32, float16 or bfloat16"
            )
        self._cuda, self._pin = self._device.type == "cuda", pin
        self._locked = self._cuda or pin
        if self._locked and not torch.cuda.is_available():
            what = "pin_memory" if pin else f"device {device!r}"
            raise InputError(f"{what} needs CUDA, which torch does not find here; leave it out")
        self._stream: Any = None

    def memory(self, gatherer: Gatherer, n: int) -> dict[str, Any]:
        """Where a batch of ``n`` rows is read to, page-locked for CUDA.

        Page-locked memory comes from torch's own allocator, which keeps it until the copy is over.
        """
        torch = self._torch
        if not self._locked:
            return {name: torch.from_numpy(a) for name, a in gatherer.arrays(n).items()}
        kinds = {
            name: torch.from_numpy(np.empty(0, dtype)).dtype
            for name, dtype in gatherer.dtypes.items()
        }
        return {
            name: torch.empty((n, *shape), dtype=kinds[name], pin_memory=True)
            for name, shape in gatherer.shapes.items()
        }

    def views(self, memory: dict[str, Any]) -> dict[str, NDArray[Any]]:
        """The same memory as arrays."""
        return {name: tensor.numpy() for name, tensor in memory.items()}

    def prepare(self, batch: Batch) -> Ready:
        """Ids and targets as tensors, features cast; on CUDA all copies are under way."""
        index, species, row = (
            self._torch.from_numpy(x) for x in (batch.index, batch.species, batch.row)
        )
        targets = None if batch.targets is None else self._torch.from_numpy(batch.targets)
        made = batch._replace(index=index, species=species, row=row, targets=targets)
        if self._cuda:
            return self._copied(made)
        return Ready(made._replace(features={n: self._cast(v) for n, v in made.features.items()}))

    def _cast(self, values: torch.Tensor) -> torch.Tensor:
        if self._dtype is None or not values.is_floating_point() or values.dtype == self._dtype:
            return values
        made = values.to(self._dtype)
        return made.pin_memory() if self._pin and not self._cuda else made

    def _copied(self, batch: Batch) -> Ready:
        """Copies on the device, under way on the stream of copies."""
        if self._stream is None:
            self._stream = self._torch.cuda.Stream(self._device)
        with self._torch.cuda.stream(self._stream):
            features = {
                name: self._cast(values.to(self._device, non_blocking=True))
                for name, values in batch.features.items()
            }
            targets = batch.targets
            if targets is not None:
                targets = targets.pin_memory().to(self._device, non_blocking=True)
            copied = self._torch.cuda.Event()
            copied.record(self._stream)
        return Ready(batch._replace(features=features, targets=targets), copied)

    def hand_over(self, ready: Ready) -> Batch:
        """Let the consumer's stream wait for the copies; in the consumer's thread."""
        if ready.copied is not None:
            stream = self._torch.cuda.current_stream(self._device)
            stream.wait_event(ready.copied)
            targets = [] if ready.batch.targets is None else [ready.batch.targets]
            for tensor in (*ready.batch.features.values(), *targets):
                # Its memory belongs to the stream of copies; it is not to go before its use ends.
                tensor.record_stream(stream)
        return ready.batch
