"""``random``: a fixed random convolutional net, the control for what a trained model adds.

Its weights are drawn once from a seed by numpy's PCG64, whose stream is the same on every
machine; they are untrained and say so wherever they show.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.embedders.base import EmbedderSpec
from featurestore.errors import InputError, MissingDependencyError
from featurestore.sequence.iupac import ONE_HOT


class RandomConv:
    """Two random convolutions with ReLU, mean and maximum over the bin.

    Parameters
    ----------
    channels : int
        Even; half are means, half maxima.
    width : int
        Kernel width of the first layer, in bp; odd.
    seed : int
    """

    def __init__(self, channels: int = 128, width: int = 11, seed: int = 0) -> None:
        if channels < 2 or channels % 2:
            raise InputError(f"random: channels = {channels}; give an even number from 2")
        if width < 1 or not width % 2:
            raise InputError(f"random: width = {width}; give an odd number")
        self.channels, self.width, self.seed = channels, width, seed
        self._layers: Any = None
        self.spec = EmbedderSpec(
            type="random",
            outputs={"embedding": channels},
            input_bp=None,
            checkpoint=f"untrained, random weights of seed {seed}",
            rc_rule="none",
            iupac_rule="fractional one-hot",
            pooling="mean and maximum over the bin",
            parameters={"channels": channels, "width": width, "seed": seed},
            batch=256,
        )

    def load(self, device: str | None) -> None:
        """Draw the weights.

        Raises
        ------
        MissingDependencyError
            Without torch.
        """
        try:
            import torch
        except ImportError as error:
            raise MissingDependencyError(
                "embedder 'random' needs torch: pip install 'meristem[torch]'"
            ) from error
        rng = np.random.Generator(np.random.PCG64(self.seed))
        half = self.channels // 2

        def weights(*shape: int) -> Any:
            scale = np.sqrt(2 / np.prod(shape[1:]))
            return torch.from_numpy((rng.standard_normal(shape) * scale).astype(np.float32)).to(
                device or "cpu"
            )

        self._layers = (weights(half, 4, self.width), weights(half, half, 5))
        self._table = torch.from_numpy(ONE_HOT.copy()).to(device or "cpu")

    def embed(self, codes: NDArray[np.uint8]) -> dict[str, NDArray[np.floating[Any]]]:
        """Features, shape (n, length) → (n, channels)."""
        import torch
        from torch.nn.functional import conv1d, relu

        if self._layers is None:
            self.load(None)
        first, second = self._layers
        with torch.no_grad():
            x = self._table[torch.from_numpy(codes.astype(np.int64)).to(first.device)].transpose(
                1, 2
            )
            hidden = relu(conv1d(x - 0.25, first, padding="same"))
            hidden = relu(conv1d(hidden, second, padding="same"))
            pooled = torch.cat([hidden.mean(2), hidden.amax(2)], dim=1)
        return {"embedding": pooled.float().cpu().numpy()}
