"""The embedder interface: base codes in, named arrays out; nothing of Dask or Zarr.

An embedder describes itself by an :class:`EmbedderSpec`, all of which decides the stored
values and therefore stands in the attributes of the arrays it writes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Context = Literal["bin", "region", "gene"]


@dataclass(frozen=True)
class EmbedderSpec:
    """What an embedder computes, and everything that decides its numbers.

    Parameters
    ----------
    type : str
        Registered name of the embedder type (``kmer``, ``plantcaduceus`` …).
    outputs : mapping of array name to channels
        0 channels means one number per bin, without a channel axis.
    input_bp : int or None
        Length of the model's input window; the window is centred on the bin. None means
        the bin itself, without context, padded with N where the last bin is short.
    span_bp : int or None
        Bases in the middle of the window that a vector stands for; the bins must be as long.
        None: any bin.
    positions : int
        Positions that a vector keeps apart: outputs then have shape (n, positions, channels).
        0: pooled. For ``context="gene"`` the bins of a window.
    context : {"bin", "region", "gene"}
        What one vector stands for. With "region" the build averages over the windows that tile
        the region. With "gene" the model reads one window of ``input_bp`` a gene from the genome,
        centred on ``anchor``, in transcript orientation, whatever the regions are.
    anchor : {"tss", "tts"} or None
        For ``context="gene"``: the boundary the window is centred on.
    dtype : str
        Compute dtype, forced by configuration (``fp32``, ``bf16``, ``fp16``).
    checkpoint, digest, licence : str
        Name of the weights, sha256 that identifies their content, licence of the weights.
    rc_rule, iupac_rule, pooling : str
        In words: how the reverse complement, ambiguous bases and positions are treated.
    pretraining_species : tuple of str
        Species whose sequence the model has seen in pre-training.
    parameters : mapping
        Any further setting that decides values (k-mer sizes, seed …).
    packages : mapping of package name to version
        Versions of what computes the numbers.
    batch : int
        Windows per call; every call is padded to this size, so that a row's value does not
        depend on its neighbours.
    costly : bool
        True if a window costs more to compute than to look up (every real model).
    constants : mapping of name to array
        Arrays that belong to the output once, whatever the gene (the map from a stored state to
        the published embedding). They follow from the checkpoint, so they are no part of the
        identity. ``state_map`` (channel_out, channel) and ``state_offset`` (channel_out,);
        ``bin_start`` (bin,), for ``context="gene"``: first base of each bin in bp from the anchor.
    """

    type: str
    outputs: Mapping[str, int]
    input_bp: int | None
    span_bp: int | None = None
    positions: int = 0
    context: Context = "bin"
    anchor: str | None = None
    dtype: str = "fp32"
    checkpoint: str = ""
    digest: str = ""
    licence: str = ""
    rc_rule: str = "none"
    iupac_rule: str = ""
    pooling: str = ""
    pretraining_species: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)
    packages: Mapping[str, str] = field(default_factory=dict)
    batch: int = 256
    costly: bool = True
    constants: Mapping[str, NDArray[Any]] = field(default_factory=dict, compare=False)

    def identity(self) -> dict[str, Any]:
        """All that decides the values and says where they come from, as plain JSON types."""
        facts = asdict(replace(self, constants={}))
        del facts["constants"]
        return json.loads(json.dumps(facts))  # type: ignore[no-any-return] # JSON of a dict is a dict

    def identity_digest(self) -> str:
        """Sha256 over what decides the values; equal digests promise equal values."""
        return identity_digest(self.identity())

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one vector, by output: (), (channels,) or (positions, channels)."""
        return vector_shapes(self.identity())

    def bin_start(self) -> NDArray[np.int32]:
        """First base of each bin of a gene's window in bp from the anchor, shape (bin,).

        That of :attr:`constants`; without one, bins that cut the whole window into equal parts.

        Raises
        ------
        ValueError
            If these are not as many as the bins, or the window cannot be cut so.
        """
        length, bins = int(self.input_bp or 0), max(self.positions, 1)
        given = self.constants.get("bin_start")
        if given is not None:
            if given.shape != (bins,):
                raise ValueError(f"bin_start of shape {given.shape} for {bins} bins")
            return np.asarray(given, np.int32)
        if length % bins:
            raise ValueError(f"{bins} bins do not cut {length} bp evenly: constants need bin_start")
        return (np.arange(bins) * (length // bins) - length // 2).astype(np.int32)


# What only says where weights come from: the same content under another name, or described
# better, gives the same values.
_DESCRIBING = ("checkpoint", "licence", "pretraining_species")


def identity_digest(identity: Mapping[str, Any]) -> str:
    """Sha256 over what decides the values in an :meth:`EmbedderSpec.identity`."""
    facts = dict(identity)
    if facts.get("digest"):
        for key in _DESCRIBING:
            facts.pop(key, None)
        facts["parameters"] = {k: v for k, v in facts["parameters"].items() if k not in _DESCRIBING}
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def is_gene_centred(identity: Mapping[str, Any]) -> bool:
    """Whether an embedder of this identity reads one window a gene."""
    return bool(identity["context"] == "gene")


def vector_shapes(identity: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shape of one vector by output, from an :meth:`EmbedderSpec.identity`."""
    positions = (identity["positions"],) if identity["positions"] else ()
    return {
        name: (*positions, channels) if channels else positions
        for name, channels in identity["outputs"].items()
    }


@runtime_checkable
class Embedder(Protocol):
    """Turns windows of base codes into vectors."""

    spec: EmbedderSpec

    def load(self, device: str | None) -> None:
        """Make ready to embed on ``device`` (``cpu``, ``cuda``, ``cuda:1``); None chooses."""

    def embed(self, codes: NDArray[np.uint8]) -> dict[str, NDArray[np.floating[Any]]]:
        """Embed windows.

        Parameters
        ----------
        codes : uint8 array, shape (n, input_bp)
            IUPAC codes in transcript orientation.

        Returns
        -------
        mapping of output name to array, shape (n, channels), or (n,) where channels is 0, or
        (n, positions, channels) where positions are kept apart
        """
        ...
