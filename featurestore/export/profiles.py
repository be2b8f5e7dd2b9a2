"""How an export stores the large arrays: as they are, compressed for slow storage, or as int8.

``remote``: float16 vectors are rounded to the 8 significant bits of bfloat16, which is what makes them
compress, then ``blosc`` (lz4, bitshuffle) goes between ``bytes`` and ``crc32c``; bases are compressed
without loss. ``int8``: vectors become codes with a step per channel, laid out as before.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from featurestore.store.quantised import NAN_CODE, encode
from featurestore.store.shard import crc32c

Profile = Literal["local", "remote", "int8"]
PROFILES: Final = ("local", "remote", "int8")
LOSSY: Final = frozenset({"remote", "int8"})
VERSION: Final = 1
"""Raised when the same values come to be stored as other bytes."""

_MISSING: Final = 2**64 - 1
_LZ4: Final[dict[str, Any]] = {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "blocksize": 0}
_BITSHUFFLE: Final = 2
_TOLD: Final = {
    "remote": "rounded to bfloat16 (8 significant bits, half to even), held as float16",
    "int8": "code · <output>_scale[channel]; code −128 is NaN; the largest value of a channel is 127 steps",
}


def round_to_bfloat16(values: NDArray[Any]) -> NDArray[Any]:
    """Float16 values rounded to the 8 significant bits of bfloat16, half to even; still float16.

    What would round past the largest float16 (65,504) takes the largest that is left, 65,280.
    """
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) & np.uint32(
        0xFFFF0000
    )
    whole = rounded.view(np.float32)
    finite = np.isfinite(values)
    over = finite & (np.abs(whole) > np.float32(65504))
    whole = np.where(over, np.copysign(np.float32(65280), whole), whole)
    return np.where(finite, whole, values).astype("<f2")


def recoded_metadata(
    metadata: Mapping[str, Any], profile: Profile, source: str, *, values: bool
) -> dict[str, Any]:
    """The ``zarr.json`` of an array as the profile stores it.

    Parameters
    ----------
    source : str
        Digest of the store that it comes from.
    values : bool
        Whether the values themselves change (vectors), or only their codecs (bases).
    """
    body: dict[str, Any] = copy.deepcopy(dict(metadata))
    inner = body["codecs"][0]["configuration"]
    size = 1 if profile == "int8" else np.dtype(body["data_type"]).itemsize
    if profile == "remote":
        names = [c["name"] for c in inner["codecs"]]
        packed = {"name": "blosc", "configuration": {"typesize": size, **_LZ4}}
        inner["codecs"].insert(names.index("crc32c"), packed)
    elif profile == "int8":
        body["data_type"], body["fill_value"] = "int8", NAN_CODE
        inner["codecs"][0] = {"name": "bytes"}
    if values:
        told = dict(body["attributes"].get("meristem", {}))
        told["stored_as"] = {
            "profile": profile,
            "version": VERSION,
            "values": _TOLD[profile],
            "store": source,
        }
        body["attributes"]["meristem"] = told
    return body


def recode(
    rows: NDArray[Any],
    metadata: Mapping[str, Any],
    profile: Profile,
    scale: NDArray[np.float32] | None,
) -> bytes:
    """One shard's file.

    Parameters
    ----------
    rows : array, shape (n, …)
        Values of the shard, no more than it holds.
    metadata : mapping
        The array's ``zarr.json`` as it will be.
    scale : float32 array, shape (channel,)
        For ``int8``.
    """
    if profile == "int8":
        assert scale is not None  # noqa: S101 - the plan gives one
        stored: NDArray[Any] = encode(rows, scale)
        fill: Any = NAN_CODE
    else:
        is_vector = rows.dtype.kind == "f"
        stored = round_to_bfloat16(rows) if is_vector else rows
        fill = np.nan if is_vector else metadata["fill_value"]
    shard_rows = int(metadata["chunk_grid"]["configuration"]["chunk_shape"][0])
    inner = int(metadata["codecs"][0]["configuration"]["chunk_shape"][0])
    return shard_file(
        _chunks(stored, inner, fill), shard_rows // inner, compress=profile == "remote"
    )


def _chunks(rows: NDArray[Any], inner: int, fill: Any) -> NDArray[Any]:
    """Rows as inner chunks of one length, shape (m, inner, …); the last one filled up."""
    count = -(-len(rows) // inner)
    if count * inner != len(rows):
        full = np.full((count * inner, *rows.shape[1:]), fill, rows.dtype)
        full[: len(rows)] = rows
        rows = full
    return np.ascontiguousarray(rows).reshape(count, inner, *rows.shape[1:])


def shard_file(chunks: NDArray[Any], most: int, *, compress: bool) -> bytes:
    """A ``sharding_indexed`` file: inner chunks in order, each with its crc32c, then the index."""
    stored = [_compressed(chunk) if compress else chunk.tobytes() for chunk in chunks]
    parts: list[bytes] = []
    index = np.full((most, 2), _MISSING, "<u8")
    at = 0
    for i, data in enumerate(stored):
        index[i] = at, len(data) + 4
        parts += [data, crc32c(data)]
        at += len(data) + 4
    tail = index.tobytes()
    return b"".join([*parts, tail, crc32c(tail)])


def _compressed(chunk: NDArray[Any]) -> bytes:
    from numcodecs import blosc

    # Bytes must not depend on the number of cores: this call's context is single-threaded wherever it
    # runs but in the main thread, which the export never uses for it.
    plain = np.ascontiguousarray(chunk)
    return bytes(blosc.compress(plain, b"lz4", _LZ4["clevel"], _BITSHUFFLE, _LZ4["blocksize"]))


def largest_by_channel(pieces: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Largest finite absolute value of each channel, shape (channel,)."""
    found = np.zeros(pieces[0].shape[-1], np.float32)
    for piece in pieces:
        flat = np.abs(piece.reshape(-1, piece.shape[-1]).astype(np.float32))
        flat[~np.isfinite(flat)] = 0
        if len(flat):
            np.maximum(found, flat.max(axis=0), out=found)
    return found
