"""The loader: epochs of shuffled batches, read ahead by a thread, to be taken up in mid-epoch."""

from __future__ import annotations

import hashlib
import os
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from featurestore.loader.batches import Arrays, Batch, Ready, Tensors
from featurestore.loader.gather import Gatherer
from featurestore.loader.genes import (
    Genes,
    check_features,
    check_species,
    choose_genes,
    chosen_targets,
)
from featurestore.loader.order import Share, block_permutation, permutation
from featurestore.loader.prefetch import prefetched
from featurestore.loader.runs import Runs
from featurestore.store.reader import Store, open_store

if TYPE_CHECKING:
    from featurestore.loader.workers import Batches, Workers

CACHE_BYTES: Final = 256 << 20
BLOCK_ROWS: Final = 64
BUFFER_ROWS: Final = 4096

Shuffle = Literal["global", "blocks", "no"]


class StoreLoader:
    """Batches of features, gene by gene, in an order that follows from the seed and the epoch.

    One ``for`` over the loader is one epoch; each of them has another order. Batches are read
    ahead by threads of this process. What is yielded stays as it is for as long as it is
    held; its memory is used again once it is dropped. Within a batch genes stand species after
    species, each in random order.

    Parameters
    ----------
    store : Store or path
    features : sequence of str
        ``group[.array]``, e.g. ``kmer``, ``a2z.accessibility``; ``onehot`` gives codes.
    species : sequence of str, optional
        Default: all of the store, or those of ``genes``.
    genes : mapping of species to names or row numbers, optional
        Default: all genes whose features may be used; ``left_out`` counts the others.
    targets : array or mapping of species to array, optional
        An array has a row for each gene of the loader, in its order (``loader.gene``); arrays of
        a mapping one for every gene of their species in the store. Shape (n,) or (n, t). NaN
        stays NaN: what is missing is the consumer's to mask.
    batch_size : int
        Of one rank.
    shuffle : {"global", "blocks", "no"}
        ``global``: each order of all genes is as likely as any. ``blocks``: runs of
        ``block_rows`` genes are read whole and mixed ``buffer_rows`` at a time; for disks and
        networks that are slow at random reads, and stores larger than memory.
    seed : int
    drop_last : bool
        Leave out the last batch of an epoch where it is not full.
    rank, world_size : int
        Share of this process among several that train together (DDP): every rank has equally
        many batches of equal size, see :class:`featurestore.loader.order.Share`.
    tensors : bool
        Torch tensors, else numpy arrays.
    dtype : torch.dtype, numpy dtype or name, optional
        Cast of features that are numbers, by torch where it makes the tensors. Default: as
        stored.
    device : str
        ``cuda``: batches arrive there, copied beside the computation.
    pin_memory : bool
        Page-locked tensors on the CPU; implied by a CUDA device.
    prefetch : int
        Batches that may be under way or ready; 0 reads in the consumer's own thread.
    threads : int
        Threads that read ahead, a batch each; one where blocks are shuffled.
    cache_bytes : int
        Genes whose features are no larger than this in all are read once and kept.
    block_rows, buffer_rows : int
        Of ``shuffle="blocks"``; memory is two buffers of rows.

    Raises
    ------
    InputError, UnknownNameError, StoreError, MissingDependencyError
    """

    def __init__(
        self,
        store: Store | Path | str,
        features: Sequence[str],
        *,
        species: Sequence[str] | None = None,
        genes: Genes | None = None,
        targets: Any = None,
        batch_size: int = 64,
        shuffle: Shuffle = "global",
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        tensors: bool = True,
        dtype: Any = None,
        device: str = "cpu",
        pin_memory: bool = False,
        prefetch: int = 4,
        threads: int = 2,
        cache_bytes: int = CACHE_BYTES,
        block_rows: int = BLOCK_ROWS,
        buffer_rows: int = BUFFER_ROWS,
    ) -> None:
        self.store = store if isinstance(store, Store) else open_store(store)
        self.features = [features] if isinstance(features, str) else list(features)
        wanted = list(species or genes or self.store.species)
        check_species(self.store, wanted)
        check_features(self.store, wanted, self.features)
        self._chosen = choose_genes(self.store, self.features, wanted, genes)
        self.species, self.left_out = self._chosen.names, self._chosen.left_out
        self.targets: NDArray[np.float32] | None = chosen_targets(self._chosen, targets)
        _check_numbers(
            batch_size=(batch_size, 1), world_size=(world_size, 1), threads=(threads, 1),
            block_rows=(block_rows, 1), buffer_rows=(buffer_rows, 1), seed=(seed, 0),
            prefetch=(prefetch, 0), cache_bytes=(cache_bytes, 0), rank=(rank, 0),
        )  # fmt: skip
        if rank >= world_size:
            raise InputError(f"rank {rank} of {world_size} ranks: they count from 0")
        if shuffle not in ("global", "blocks", "no"):
            raise InputError(f"shuffle {shuffle!r}: choose global, blocks or no")
        self._shuffle, self._seed = shuffle, seed
        self._block_rows, self._buffer_rows = block_rows, buffer_rows
        self._share = Share(len(self._chosen), batch_size, rank, world_size, drop_last)
        self._prefetch, self._threads, self._cache_bytes = prefetch, threads, cache_bytes
        self.device = str(device)
        self._output = (tensors, dtype, self.device, pin_memory)
        self._made = _output_of(*self._output)
        self._gatherer: Gatherer | None = None
        self._process = os.getpid()
        self.epoch = 0
        self._batch = 0
        self._resumed = True
        self._current: weakref.ref[_Epoch] | None = None

    def __len__(self) -> int:
        """Batches of an epoch, on this rank."""
        return len(self._share)

    @property
    def rows(self) -> int:
        """Genes of the loader, over all ranks."""
        return len(self._chosen)

    @property
    def gene(self) -> NDArray[np.str_]:
        """Names of the genes, shape (rows,): what ``Batch.index`` counts."""
        return self._chosen.text(self.store)

    # -- epochs ---------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Batch]:
        self.close()
        if not self._resumed and self._batch:
            self.epoch, self._batch = self.epoch + 1, 0
        self._resumed = False
        ready: Iterator[Ready] = self.stream(self.epoch, self._batch)
        if self._prefetch:
            threads = 1 if self._shuffle == "blocks" else self._threads
            ready = prefetched(self.tasks(self.epoch, self._batch), self._prefetch, threads)
        current = _Epoch(self, ready)
        self._current = weakref.ref(current)
        return current

    def close(self) -> None:
        """End the epoch that is under way, and its thread; the next ``for`` begins a new one."""
        current = None if self._current is None else self._current()
        if current is not None:
            current.close()
        self._current = None

    def moved(self, epoch: _Epoch, *, over: bool) -> None:
        """Count a batch that was handed out, or the end of the epoch; for its iterator alone."""
        if self._current is None or self._current() is not epoch:
            return
        if over:
            self.epoch, self._batch, self._current = self.epoch + 1, 0, None
            self._resumed = True
        else:
            self._batch += 1

    def set_epoch(self, epoch: int) -> None:
        """Begin the next ``for`` at the start of this epoch."""
        _check_numbers(epoch=(epoch, 0))
        self.close()
        self.epoch, self._batch, self._resumed = epoch, 0, True

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Order of the genes in an epoch, over all ranks: int64 array, shape (rows,)."""
        if self._shuffle == "no":
            return np.arange(self.rows, dtype=np.int64)
        if self._shuffle == "global":
            return permutation(self.rows, self._seed, epoch)
        return block_permutation(self._blocks(), self._buffer_rows, self._seed, epoch)

    def _blocks(self) -> NDArray[np.int64]:
        """Block of each gene: genes of one species and shard, ``block_rows`` rows of it."""
        start = np.empty(self.rows, np.int64)
        for number, name in enumerate(self.species):
            here = self._chosen.species == number
            shards = self.store.feature_source(name, self.features[0]).shard_start
            rows = self._chosen.row[here]
            first = shards[np.searchsorted(shards, rows, side="right") - 1]
            start[here] = first + (rows - first) // self._block_rows * self._block_rows
        both = np.stack([self._chosen.species, start], axis=1)
        return np.unique(both, axis=0, return_inverse=True)[1].reshape(-1).astype(np.int64)

    def stream(self, epoch: int, first: int = 0, step: int = 1) -> Iterator[Ready]:
        """Batches ``first``, ``first + step`` … of an epoch, read where they are asked for."""
        for task in self.tasks(epoch, first, step):
            yield task()

    def tasks(self, epoch: int, first: int = 0, step: int = 1) -> Iterator[Callable[[], Ready]]:
        """What reads these batches, each in whatever thread calls it."""
        order = self.order(epoch)
        gatherer = self._reading()
        blocks = self._shuffle == "blocks"
        reader = Runs(gatherer, order, self._buffer_rows, self._share) if blocks else gatherer
        for number in range(first, len(self._share), step):
            index, repeated = self._share.take(order, number)
            index = self._by_species(index, len(index) - repeated)
            memory = self._made.memory(gatherer, len(index))
            yield partial(self._read, reader, index, repeated, memory)

    def _read(
        self,
        reader: Gatherer | Runs,
        index: NDArray[np.int64],
        repeated: int,
        memory: dict[str, Any],
    ) -> Ready:
        """Read one batch."""
        reader.fill(index, self._made.views(memory))
        return self._made.prepare(
            Batch(
                features=memory,
                index=index,
                species=self._chosen.species[index],
                row=self._chosen.row[index],
                targets=None if self.targets is None else self.targets[index],
                repeated=repeated,
            )
        )

    def _by_species(self, index: NDArray[np.int64], own: int) -> NDArray[np.int64]:
        """The first ``own`` positions species after species, each in the order given; a copy."""
        made = index.copy()
        if len(self.species) > 1:
            made[:own] = index[:own][np.argsort(self._chosen.species[index[:own]], kind="stable")]
        return made

    def handed_over(self, ready: Ready) -> Batch:
        """What :meth:`stream` made, ready for use in this thread."""
        return self._made.hand_over(ready)

    def _reading(self) -> Gatherer:
        """What reads; made anew in a forked process, which has none of its parent's threads."""
        if self._gatherer is None or self._process != os.getpid():
            sources = [
                {name: self.store.feature_source(one, name) for name in self.features}
                for one in self.species
            ]
            self._gatherer = Gatherer(
                sources, self._chosen.species, self._chosen.row,
                cache_bytes=self._cache_bytes, spare=self._prefetch + 3,
            )  # fmt: skip
            self._process = os.getpid()
        return self._gatherer

    # -- state ----------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Where the loader stands: after the batch handed out last, whatever was read ahead.

        Plain JSON; equal on all ranks.
        """
        return {"epoch": self.epoch, "batch": self._batch, "of": self._identity()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another loader of the same data and settings stood.

        The next ``for`` yields exactly the batches that remained of its epoch, which may be none.

        Raises
        ------
        InputError
            If the state is of other genes, features or settings; it names them.
        """
        own, other = self._identity(), state.get("of", {})
        differing = [key for key in own if own[key] != other.get(key)]
        if differing:
            told = ", ".join(f"{key} {other.get(key)!r}, here {own[key]!r}" for key in differing)
            raise InputError(f"the state is of another loader: {told}; make this one like it")
        self.close()
        self.epoch, self._batch = int(state["epoch"]), int(state["batch"])
        self._resumed = True

    def _identity(self) -> dict[str, Any]:
        """Everything that the order of batches follows from, but for the rank."""
        rows = hashlib.sha256(self._chosen.species.tobytes() + self._chosen.row.tobytes())
        told = {
            "features": self.features,
            "species": self.species,
            "genes": rows.hexdigest(),
            "batch_size": self._share.batch_size,
            "world_size": self._share.world_size,
            "drop_last": self._share.drop_last,
            "shuffle": self._shuffle,
            "seed": self._seed,
        }
        if self._shuffle == "blocks":
            told |= {"block_rows": self._block_rows, "buffer_rows": self._buffer_rows}
        return told

    # -- other processes ------------------------------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        # Threads, files and memory stay; the output is made anew where torch is imported anew.
        left = {"_gatherer": None, "_current": None, "_made": None, "_process": -1}
        return self.__dict__ | left

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._made = _output_of(*self._output)

    def dataset(self) -> Batches:
        """The loader as a torch ``IterableDataset`` of whole batches, for any ``DataLoader``.

        Give the ``DataLoader`` ``batch_size=None``, and call ``set_epoch`` of the data set before
        each epoch; :meth:`workers` does both.
        """
        from featurestore.loader.workers import Batches

        return Batches(self)

    def workers(self, num_workers: int, **options: Any) -> Workers:
        """A torch ``DataLoader`` over this loader, the same batches in the same order.

        Worker processes are worth their cost only where the batch is not only read but worked
        on in Python: each batch is copied once more between processes.

        Parameters
        ----------
        num_workers : int
        options
            Of ``torch.utils.data.DataLoader``, such as ``multiprocessing_context="spawn"``.
        """
        from featurestore.loader.workers import Workers

        return Workers(self, num_workers, **options)


class _Epoch(Iterator[Batch]):
    """Batches of one epoch, handed over one by one."""

    def __init__(self, loader: StoreLoader, ready: Iterator[Ready]) -> None:
        self._loader, self._ready = loader, ready

    def __next__(self) -> Batch:
        try:
            batch = self._loader.handed_over(next(self._ready))
        except StopIteration:
            self._loader.moved(self, over=True)
            raise
        self._loader.moved(self, over=False)
        return batch

    def close(self) -> None:
        """Stop reading."""
        self._ready.close()  # type: ignore[attr-defined] # a generator, or prefetched


def _output_of(tensors: bool, dtype: Any, device: str, pin: bool) -> Arrays | Tensors:
    return Tensors(dtype, device, pin) if tensors else Arrays(dtype)


def _check_numbers(**given: tuple[int, int]) -> None:
    """Refuse a number below its least."""
    for name, (value, least) in given.items():
        if value < least:
            raise InputError(f"{name} {value}: at least {least}")
