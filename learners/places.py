"""Which region and bin of a gene the columns of a feature matrix come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from learners.batch import Block, FeatureBatch


@dataclass(frozen=True)
class Place:
    """One bin of one region, or what of a feature has no place.

    Parameters
    ----------
    feature : str
    region : str
        Its name, its number where it has none, or empty where the feature knows no regions.
    bin : int
        Its number, from 0; −1 where the feature has no bins. For base codes, the position.
    bin_start : float
        First base of the bin, in bp from the anchor; NaN where it is not known.
    """

    feature: str
    region: str = ""
    bin: int = -1
    bin_start: float = float("nan")


def places(batch: FeatureBatch) -> tuple[list[Place], NDArray[np.int64]]:
    """Places in the order of the columns of ``FeatureBatch.array``.

    Returns
    -------
    list of Place
    int64 array, shape (places,)
        First column of each: the columns of a place lie side by side.
    """
    found: list[Place] = []
    widths: list[int] = []
    for name, block in batch.blocks.items():
        here = _of_block(name, block)
        found += here
        widths += [block.flat_columns // len(here)] * len(here)
    starts = np.concatenate([[0], np.cumsum(widths)[:-1]]) if widths else np.zeros(0)
    return found, starts.astype(np.int64)


def _of_block(name: str, block: Block) -> list[Place]:
    shape, coords = block.source.shape, block.source.coords
    if block.kind == "codes":
        return [
            Place(name, _region(coords, region), position)
            for region in range(shape[0])
            for position in range(shape[1])
        ]
    if block.kind == "bins" and len(shape) == 3:
        valid = block.source.valid
        every = np.ones(shape[:2], np.bool_) if valid is None else valid
        start = coords.get("bin_start")
        return [
            Place(
                name, _region(coords, region), bin_,
                float("nan") if start is None else float(start[region, bin_]),
            )
            for region, bin_ in np.argwhere(every).tolist()
        ]  # fmt: skip
    if "region" in block.source.dims and len(shape) > 1:
        return [Place(name, _region(coords, region)) for region in range(shape[0])]
    return [Place(name)]


def _region(coords: Mapping[str, NDArray[np.generic]], region: int) -> str:
    names = coords.get("region")
    return str(region) if names is None else str(names[region])
