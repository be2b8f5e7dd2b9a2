"""A trained Enformer as what scores and explains variants needs: sequence in, named tracks out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from featurestore.embedders.batching import in_pieces
from featurestore.embedders.enformer.modeling import Enformer
from featurestore.errors import InputError, unknown_name


@dataclass(frozen=True)
class Track:
    """One output of a model.

    Parameters
    ----------
    head : str
    index : int
        Within the head.
    name : str
    """

    head: str
    index: int
    name: str

    @property
    def label(self) -> str:
        """Head and name, unique in a model."""
        return f"{self.head}:{self.name}"


class TrackModel:
    """Windows of base codes to tracks.

    Parameters
    ----------
    model : Enformer
    digest : str
        Identifies the weights.
    tracks : sequence of Track, optional
        Those that are given out; all of the model.
    batch : int
        Windows at a time.
    """

    def __init__(
        self,
        model: Enformer,
        digest: str = "",
        tracks: Sequence[Track] | None = None,
        batch: int = 1,
    ) -> None:
        self.module, self.digest, self.batch = model.eval(), digest, batch
        self.tracks = tuple(all_tracks(model) if tracks is None else tracks)

    @classmethod
    def open(
        cls, checkpoint: str | Path, *, device: str | None = None, dtype: str = "fp32",
        revision: str | None = None, batch: int = 1,
    ) -> TrackModel:  # fmt: skip
        """From a folder or hub id; see :meth:`Enformer.from_pretrained`."""
        from featurestore.embedders.checkpoint import find_checkpoint

        found = find_checkpoint(str(checkpoint), revision=revision)
        model = Enformer.from_pretrained(found.folder, dtype=dtype)
        place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return cls(model.to(place), found.digest(), batch=batch)

    @property
    def input_bp(self) -> int:
        """Bases of a window."""
        return self.module.config.input_bp

    @property
    def bin_bp(self) -> int:
        """Bases of a bin."""
        return self.module.config.bin_bp

    @property
    def bins(self) -> int:
        """Bins that are predicted, in the middle of a window."""
        return self.module.config.target_length

    def chosen(self, names: Sequence[str] = (), heads: Sequence[str] = ()) -> TrackModel:
        """The same model giving out some tracks, by name, ``head:name``, or head.

        Raises
        ------
        InputError
            For a name that no track has.
        """
        for head in heads:
            if head not in self.module.config.output_heads:
                raise unknown_name("head", head, list(self.module.config.output_heads))
        of_heads = [t for t in self.tracks if not heads or t.head in heads]
        if not names:
            return TrackModel(self.module, self.digest, of_heads, self.batch)
        for name in names:
            if not any(name in (t.name, t.label) for t in of_heads):
                raise unknown_name("track", name, [t.name for t in of_heads])
        kept = [t for t in of_heads if t.name in names or t.label in names]
        return TrackModel(self.module, self.digest, kept, self.batch)

    def predict(self, codes: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Tracks of windows.

        Parameters
        ----------
        codes : uint8 array, shape (n, length)
            IUPAC codes, ``length`` a multiple of the bin.

        Returns
        -------
        float32 array, shape (n, bins, tracks)
            In the order of ``tracks``.
        """
        if codes.ndim != 2:
            raise InputError(f"windows of shape {codes.shape}; give (n, length)")
        found: NDArray[np.float32] = in_pieces(self._run, codes, self.batch)["tracks"]
        return found

    def _run(self, codes: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        with torch.no_grad():
            return {"tracks": self.of(self.module.one_hot(codes)).cpu().numpy()}

    def of(self, x: Tensor) -> Tensor:
        """Tracks of one-hot windows (n, length, 4), with gradients where they are asked for."""
        heads = list(dict.fromkeys(t.head for t in self.tracks))
        found = self.module(x, heads)
        return torch.stack([found[t.head][..., t.index] for t in self.tracks], dim=-1)


def all_tracks(model: Enformer) -> list[Track]:
    """All tracks of a model, head by head."""
    config = model.config
    return [
        Track(head, index, name)
        for head in config.output_heads
        for index, name in enumerate(config.names(head))
    ]
