"""Feature batches: lazy views of features, targets and ids, row by row aligned.

Nothing is read until a learner asks; a batch knows dims, shapes and coordinates beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import DTypeLike, NDArray

from featurestore.errors import InputError
from featurestore.sequence.iupac import one_hot
from learners.sources import ArraySource, BlockSource, join_sources, row_valid

_CELLS: Final = 1 << 24

__all__ = [
    "ArraySource", "Block", "BlockSource", "FeatureBatch", "MiniBatch", "concat", "flatten",
    "join_sources", "row_valid",
]  # fmt: skip


@dataclass(frozen=True)
class Block:
    """One feature of a batch: some rows of a source."""

    source: BlockSource
    rows: NDArray[np.int64]

    @property
    def kind(self) -> str:
        """Kind of the feature."""
        return self.source.kind

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape (n, …) without reading."""
        return (len(self.rows), *self.source.shape)

    def read(self, index: NDArray[np.int64] | slice | None = None) -> NDArray[Any]:
        """Values of all rows, or of those at ``index`` within the batch, in stored dtype."""
        return self.source.read(self.rows if index is None else self.rows[index])

    def take(self, index: NDArray[np.int64]) -> Block:
        """A view of some rows."""
        return Block(self.source, self.rows[index])

    @property
    def flat_columns(self) -> int:
        """Number of columns that :func:`flatten` gives."""
        if self.kind == "codes":
            return int(np.prod(self.source.shape)) * 4
        if self.source.valid is not None:
            return int(self.source.valid.sum()) * int(np.prod(self.source.shape[2:]))
        return int(np.prod(self.source.shape))


def flatten(block: Block, values: NDArray[Any], dtype: DTypeLike) -> NDArray[Any]:
    """Rows as a matrix, shape (n, columns): codes as one-hot, bins that no gene has left out."""
    if block.kind == "codes":
        return one_hot(values).astype(dtype, copy=False).reshape(len(values), -1)
    if block.source.valid is not None:
        values = values[:, block.source.valid]
    return values.astype(dtype, copy=False).reshape(len(values), -1)


@dataclass(frozen=True)
class MiniBatch:
    """Some rows with their values in memory."""

    values: dict[str, NDArray[Any]]
    index: NDArray[np.int64]
    """Positions within the batch it came from."""
    targets: NDArray[np.float64] | None
    mask: NDArray[np.bool_] | None


@dataclass(frozen=True)
class FeatureBatch:
    """A lazy view of n rows: features by name, targets, ids.

    Parameters
    ----------
    blocks : mapping of feature name to Block
    targets : float64 array, shape (n, t), or None
        None on the batch that a learner predicts: test labels are out of reach.
    mask : bool array, shape (n, t), or None
        False where a target is missing and must not be learned from.
    gene, species, family, sample : str arrays, shape (n,)
        ``family`` is never empty: a gene without one is its own.
    """

    blocks: dict[str, Block]
    gene: NDArray[np.str_]
    species: NDArray[np.str_]
    family: NDArray[np.str_]
    sample: NDArray[np.str_] | None = None
    targets: NDArray[np.float64] | None = None
    mask: NDArray[np.bool_] | None = None
    target_names: tuple[str, ...] = field(default=("y",))

    def __len__(self) -> int:
        return len(self.gene)

    @property
    def columns(self) -> int:
        """Columns of :meth:`array`."""
        return sum(block.flat_columns for block in self.blocks.values())

    def take(self, index: NDArray[np.int64]) -> FeatureBatch:
        """A view of some rows, in the order given."""
        return replace(
            self,
            blocks={name: block.take(index) for name, block in self.blocks.items()},
            gene=self.gene[index],
            species=self.species[index],
            family=self.family[index],
            sample=None if self.sample is None else self.sample[index],
            targets=None if self.targets is None else self.targets[index],
            mask=None if self.mask is None else self.mask[index],
        )

    def without_targets(self) -> FeatureBatch:
        """The same rows with no label in reach."""
        return replace(self, targets=None, mask=None)

    def with_targets(self, targets: NDArray[np.float64]) -> FeatureBatch:
        """The same rows with other labels."""
        return replace(self, targets=targets)

    def with_mask(self, mask: NDArray[np.bool_] | None) -> FeatureBatch:
        """The same rows with another mask, or with every target observed."""
        return replace(self, mask=mask)

    def select_targets(self, columns: NDArray[np.int64]) -> FeatureBatch:
        """The same rows with some of the targets, in the order given."""
        named = len(self.target_names) == self.require_targets().shape[1]
        return replace(
            self,
            targets=self.require_targets()[:, columns],
            mask=None if self.mask is None else self.mask[:, columns],
            target_names=tuple(self.target_names[i] for i in columns)
            if named
            else self.target_names,
        )

    def require_targets(self) -> NDArray[np.float64]:
        """Targets, or an error if this batch has none."""
        if self.targets is None:
            raise ValueError("this batch carries no targets: it is one to predict, not to fit on")
        return self.targets

    def array(self, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """All features side by side, shape (n, columns), for those that fit in memory.

        Filled shard by shard, so no second copy in another dtype is ever held.

        Raises
        ------
        InputError
            If a feature holds NaN or an infinity; it names the feature and the gene.
        """
        out = np.empty((len(self), self.columns), dtype)
        for part in self.shards():
            self.fill_matrix(part, out, part.index)
        return out

    def matrix(self, part: MiniBatch, dtype: DTypeLike = np.float32) -> NDArray[Any]:
        """All features of some rows of this batch side by side, shape (rows, columns)."""
        out = np.empty((len(part.index), self.columns), dtype)
        self.fill_matrix(part, out, slice(None))
        return out

    def fill_matrix(
        self, part: MiniBatch, out: NDArray[Any], rows: NDArray[np.int64] | slice
    ) -> None:
        """Write the flattened features of ``part`` into rows of ``out``."""
        column = 0
        for name, block in self.blocks.items():
            width = block.flat_columns
            out[rows, column : column + width] = flatten(block, part.values[name], out.dtype)
            column += width

    def _read(self, name: str, index: NDArray[np.int64]) -> NDArray[Any]:
        """Values of a feature, refused where one is NaN or infinite: no learner may see it."""
        values = self.blocks[name].read(index)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            bad = np.flatnonzero(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))
            first = str(self.gene[index[bad[0]]])
            raise InputError(
                f"feature {name!r} holds NaN or infinite values in {len(bad)} of {len(index)} rows "
                f"read, first at gene {first!r}; leave out genes whose status is not ok, or build "
                "the feature again"
            )
        return values

    def _mini(self, index: NDArray[np.int64]) -> MiniBatch:
        return MiniBatch(
            values={name: self._read(name, index) for name in self.blocks},
            index=index,
            targets=None if self.targets is None else self.targets[index],
            mask=None if self.mask is None else self.mask[index],
        )

    def iter(
        self, batch_size: int, *, shuffle_seed: int | None = None, share: tuple[int, int] = (0, 1)
    ) -> Iterator[MiniBatch]:
        """Rows as arrays, one batch at a time; in order, or shuffled by the seed.

        Of each batch the share (i, n) is every n-th row, from the i-th on.
        """
        first, step = share
        order = np.arange(len(self), dtype=np.int64)
        if shuffle_seed is not None:
            np.random.default_rng(shuffle_seed).shuffle(order)
        for start in range(0, len(self), batch_size):
            yield self._mini(order[start : start + batch_size][first::step])

    def shards(self, max_rows: int | None = None) -> Iterator[MiniBatch]:
        """Rows one shard at a time, for streaming libraries; each row once.

        At most ``max_rows`` at a time: 4,096, or fewer where columns are so many that these
        would be more than 16 million values.
        """
        if max_rows is None:
            max_rows = max(64, min(4096, _CELLS // max(1, self.columns)))
        order = self.shard_order()
        cuts = np.flatnonzero(np.diff(self._shard_of_rows()[order])) + 1
        for group in np.split(order, cuts):
            for start in range(0, len(group), max_rows):
                yield self._mini(group[start : start + max_rows])

    def runs(self, rows: int) -> Iterator[MiniBatch]:
        """As many rows at a time as are asked for, in the order of :meth:`shards`."""
        order = self.shard_order()
        for start in range(0, len(order), rows):
            yield self._mini(order[start : start + rows])

    def shard_order(self) -> NDArray[np.int64]:
        """Positions of the rows in the order in which :meth:`shards` gives them, shape (n,)."""
        return np.argsort(self._shard_of_rows(), kind="stable").astype(np.int64)

    def _shard_of_rows(self) -> NDArray[np.int64]:
        """Number of the shard of the first feature that each row lies in; 0 without features."""
        if not self.blocks:
            return np.zeros(len(self), np.int64)
        first = next(iter(self.blocks.values()))
        shard = np.searchsorted(first.source.shard_start, first.rows, side="right")
        return shard.astype(np.int64)


def concat(first: FeatureBatch, second: FeatureBatch) -> FeatureBatch:
    """Rows of two batches end to end (train + validation for a refit).

    Raises
    ------
    ValueError
        If their features differ, or only one of them carries targets.
    """
    if first.blocks.keys() != second.blocks.keys():
        raise ValueError(f"features differ: {list(first.blocks)} and {list(second.blocks)}")
    if (first.targets is None) != (second.targets is None):
        raise ValueError("one batch carries targets and the other does not")
    blocks = {}
    for name, block in first.blocks.items():
        other = second.blocks[name]
        if block.source is other.source:
            blocks[name] = Block(block.source, np.concatenate([block.rows, other.rows]))
        else:
            joined = join_sources([block.source, other.source])
            rows = np.concatenate([block.rows, other.rows + len(block.source)])
            blocks[name] = Block(joined, rows)

    def both(a: NDArray[Any] | None, b: NDArray[Any] | None) -> NDArray[Any] | None:
        return None if a is None or b is None else np.concatenate([a, b])

    return replace(
        first,
        blocks=blocks,
        gene=np.concatenate([first.gene, second.gene]),
        species=np.concatenate([first.species, second.species]),
        family=np.concatenate([first.family, second.family]),
        sample=both(first.sample, second.sample),
        targets=both(first.targets, second.targets),
        mask=_both_masks(first, second),
    )


def _both_masks(first: FeatureBatch, second: FeatureBatch) -> NDArray[np.bool_] | None:
    """Masks end to end; a batch without one has every target observed."""
    if first.mask is None and second.mask is None:
        return None
    parts = [
        np.ones(batch.require_targets().shape, np.bool_) if batch.mask is None else batch.mask
        for batch in (first, second)
    ]
    return np.concatenate(parts)
