"""Vectors stored as int8, one step per channel: half the bytes of float16, decoded when read.

``value = code · scale[channel]``; code −128 stands for NaN. The scale of an output is the coordinate
``<output>_scale`` beside it: its largest absolute value in the channel, divided by 127. Written by
``fs export --profile int8``; xarray, zarr-python and JavaScript see the codes and the scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.store.arrays import StoredArray

if TYPE_CHECKING:
    import xarray as xr

NAN_CODE: Final = -128
"""The code of NaN; values take −127 … 127."""

LARGEST_CODE: Final = 127
_LOOKED_UP: Final = 1 << 16
"""Values that are looked up at a time: what stays in a cache."""
DECODED: Final = np.dtype("<f2")
"""What codes are decoded to: the dtype that the values had."""


def is_quantised(metadata: Mapping[str, Any]) -> bool:
    """Whether an array, by its ``zarr.json``, holds codes."""
    told = metadata.get("attributes", {}).get("meristem", {})
    stored_as = told.get("stored_as", {}) if isinstance(told, Mapping) else {}
    return metadata.get("data_type") == "int8" and stored_as.get("profile") == "int8"


def scale_of(largest: NDArray[np.float32]) -> NDArray[np.float32]:
    """Step of each channel from its largest absolute value, shape (channel,); 1 where all is zero."""
    steps = np.asarray(largest, np.float32) / np.float32(LARGEST_CODE)
    return np.where(steps > 0, steps, np.float32(1)).astype(np.float32)


def encode(values: NDArray[Any], scale: NDArray[np.float32]) -> NDArray[np.int8]:
    """Codes of values, shape (…, channel); NaN becomes :data:`NAN_CODE`."""
    steps = np.rint(np.asarray(values, np.float32) / scale)
    missing = np.isnan(steps)
    codes = np.clip(np.where(missing, 0, steps), -LARGEST_CODE, LARGEST_CODE).astype(np.int8)
    codes[missing] = NAN_CODE
    return codes


def decode(codes: NDArray[np.int8], scale: NDArray[np.float32]) -> NDArray[np.float16]:
    """Values of codes, shape (…, channel), as float16; NaN where there is none.

    Looked up rather than multiplied: 256 values a channel, already as float16, which numpy makes from
    float32 slowly. Twice as fast, and no array of four bytes a value between.
    """
    channels = codes.shape[-1]
    every = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.float32)
    values = every[:, None] * scale
    values[np.uint8(NAN_CODE & 0xFF)] = np.nan
    table = values.astype(DECODED).ravel()
    out = np.empty(codes.shape, DECODED)
    flat, rows = out.reshape(-1, channels), codes.reshape(-1, channels).view(np.uint8)
    column, together = np.arange(channels, dtype=np.int32), max(1, _LOOKED_UP // max(channels, 1))
    for first in range(0, len(rows), together):
        place = rows[first : first + together].astype(np.int32) * channels + column
        np.take(table, place, out=flat[first : first + together], mode="clip")
    return out


def decoded(group: xr.Dataset) -> xr.Dataset:
    """A group as xarray opened it, its codes replaced by values (float32), lazily where they are lazy.

    Parameters
    ----------
    group : xarray.Dataset
        Of an embedder, e.g. ``store["arabidopsis_thaliana"]["pc"]``.

    Returns
    -------
    xarray.Dataset
        Without the scales, which then are of no use.
    """
    found = group
    for name in list(group.data_vars):
        scale = f"{name}_scale"
        if group[name].dtype == np.int8 and scale in group.variables:
            codes = group[name]
            values = (codes.astype(np.float32) * group[scale]).where(codes != NAN_CODE)
            found = found.assign({name: values.assign_attrs(codes.attrs)}).drop_vars(scale)
    return found


@dataclass(frozen=True)
class QuantisedArray(StoredArray):
    """An array of codes that reads as values.

    Parameters
    ----------
    scale : float32 array, shape (channel,)
    """

    scale: NDArray[np.float32] | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what is read."""
        return DECODED

    @property
    def layout(self) -> str:
        """``other``: what lies on disk is not what is read."""
        return "other"

    @cached_property
    def codes(self) -> StoredArray:
        """The array as it lies on disk."""
        return StoredArray(self.files, self.path, self.metadata, self.manifest, self.verify)

    def _decoded(self, codes: NDArray[np.int8]) -> NDArray[np.float16]:
        assert self.scale is not None  # noqa: S101 - the reader gives it
        return decode(codes, self.scale)

    def read(self) -> NDArray[Any]:
        """The whole array, decoded."""
        return self._decoded(self.codes.read())

    def take(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Rows in the order asked for, decoded; errors as :meth:`StoredArray.take`."""
        return self._decoded(self.codes.take(rows))

    def take_into(self, rows: NDArray[np.int64], out: NDArray[Any]) -> None:
        """As :meth:`take`, into memory of the caller's."""
        shape = (len(rows), *self.shape[1:])
        if out.shape != shape or out.dtype != DECODED:
            raise ValueError(
                f"{self.path}: take_into needs an array of shape {shape} and dtype {DECODED}"
            )
        out[...] = self.take(rows)
