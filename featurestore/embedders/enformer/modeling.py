"""Enformer (Avsec et al., Nat. Methods 18:1196, 2021) in plain torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 # torch's own abbreviation
from torch.utils.checkpoint import checkpoint

from featurestore.embedders.checkpoint import find_checkpoint, read_tensors
from featurestore.embedders.enformer.configuration import EnformerConfig
from featurestore.embedders.enformer.inference import Prepared
from featurestore.embedders.enformer.layers import (
    AttentionPool,
    ConvBlock,
    Gelu,
    Residual,
    StemConv,
    TransformerBlock,
    gelu,
    initialise,
    recomputing,
)
from featurestore.embedders.enformer.weights import canonical, check_complete
from featurestore.errors import InputError, unknown_name
from featurestore.sequence.iupac import ONE_HOT, N

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

BASES_OF_CODE = np.where((np.arange(len(ONE_HOT)) == N)[:, None], 0.0, ONE_HOT).astype(np.float32)
"""One-hot of each IUPAC code; N is four zeros, as the published model has it."""


class Enformer(nn.Module):
    """Tracks of a long window: convolutions, attention over its bins, a head for each species.

    Parameters
    ----------
    config : EnformerConfig
        Random weights; :meth:`from_pretrained` reads trained ones.

    Attributes
    ----------
    checkpointing : bool
        Whether training keeps only what goes into each block, and computes the rest again: less
        memory for a third more time.
    dtype : {"fp32", "bf16"}
        Of the products where no gradient is asked for.
    """

    def __init__(self, config: EnformerConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False
        self.dtype = "fp32"
        stem, *_ = widths = config.tower
        self.stem = nn.Sequential(
            StemConv(4, stem, 15, padding=7), Residual(ConvBlock(stem, stem)), AttentionPool(stem)
        )
        self.conv_tower = nn.Sequential(
            *(
                nn.Sequential(ConvBlock(i, o, 5), Residual(ConvBlock(o, o)), AttentionPool(o))
                for i, o in pairwise(widths)
            )
        )
        self.transformer = nn.Sequential(*(TransformerBlock(config) for _ in range(config.depth)))
        self.final_pointwise = nn.Sequential(
            nn.Identity(),
            ConvBlock(config.dim, 2 * config.dim),
            nn.Identity(),
            nn.Dropout(config.dropout_rate / 8),
            Gelu(),
        )
        self._heads = nn.ModuleDict(
            {
                head: nn.Sequential(nn.Linear(2 * config.dim, tracks), nn.Softplus())
                for head, tracks in config.output_heads.items()
            }
        )
        initialise(self)
        self._prepared: Prepared | None = None

    # -- from sequence to tracks -------------------------------------------------------------

    def forward(self, x: Tensor, heads: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Tracks of windows.

        Parameters
        ----------
        x : float tensor, shape (n, length, 4)
            One-hot A C G T, four zeros for N. The length is a multiple of the bin.
        heads : sequence of str, optional
            Those to compute; all.

        Returns
        -------
        mapping of head to float tensor, shape (n, bins, tracks)
            Non-negative, of the bins in the middle of the window, 128 bp each as published.

        Raises
        ------
        InputError
            For another shape or an unknown head.
        """
        return self.heads_of(self.embed(x), heads)

    def heads_of(self, embedding: Tensor, heads: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Tracks from :meth:`embed`."""
        for head in heads or ():
            if head not in self._heads:
                raise unknown_name("head of this Enformer", head, list(self._heads))
        chosen = list(self._heads) if heads is None else list(heads)
        return {head: self._heads[head](embedding) for head in chosen}

    def forward_codes(
        self, codes: NDArray[np.uint8], heads: Sequence[str] | None = None
    ) -> dict[str, Tensor]:
        """:meth:`forward` of IUPAC codes, uint8 array of shape (n, length)."""
        return self.forward(self.one_hot(codes), heads)

    def one_hot(self, codes: NDArray[np.uint8]) -> Tensor:
        """Input of codes: R is ½ A and ½ G; N is four zeros. Shape (n, length, 4)."""
        return torch.from_numpy(BASES_OF_CODE[codes]).to(self.device)

    def embed(self, x: Tensor) -> Tensor:
        """The trunk's output, shape (n, bins, 2 · dim); :meth:`forward` says what goes in."""
        self._check(x)
        if self._is_inference():
            return self.prepared().embed(x)
        out = self.crop(self.trunk(x))
        return gelu(self.final_pointwise[3](_by_bin(self.final_pointwise[1](_by_channel(out)))))

    def trunk(self, x: Tensor) -> Tensor:
        """Output of the transformer for all bins of the window, shape (n, input bins, dim)."""
        self._check(x)
        if self._is_inference():
            return self.prepared().trunk(x)
        out = x.transpose(1, 2).unsqueeze(2).contiguous(memory_format=torch.channels_last)
        for block in (self.stem, *self.conv_tower):
            out = self._run(block, out)
        out = _by_bin(out)
        for block in self.transformer:
            out = self._run(block, out)
        return out

    def crop(self, x: Tensor) -> Tensor:
        """The bins in the middle that are predicted, of a tensor (n, bins, channels)."""
        kept = self.config.cropped(x.shape[1])
        margin = (x.shape[1] - kept) // 2
        return x[:, margin : margin + kept]

    def _run(self, block: nn.Module, x: Tensor) -> Tensor:
        if not (self.checkpointing and torch.is_grad_enabled()):
            out: Tensor = block(x)
            return out
        again: Tensor = checkpoint(
            block, x, use_reentrant=False, context_fn=lambda: (nullcontext(), recomputing())
        )
        return again

    def _check(self, x: Tensor) -> None:
        bin_bp = self.config.bin_bp
        if x.ndim != 3 or x.shape[2] != 4:
            raise InputError(
                f"Enformer takes one-hot of shape (n, length, 4), not {tuple(x.shape)}"
            )
        if not x.shape[1] or x.shape[1] % bin_bp:
            raise InputError(
                f"Enformer: windows of {x.shape[1]:,} bp; their length is to be a multiple of the bin "
                f"of {bin_bp} bp"
            )
        if self.config.cropped(x.shape[1] // bin_bp) < 1:
            raise InputError(f"Enformer: windows of {x.shape[1]:,} bp leave no bin after the crop")

    # -- without gradients -------------------------------------------------------------------

    def _is_inference(self) -> bool:
        return not self.training and not torch.is_grad_enabled()

    def prepared(self) -> Prepared:
        """Weights laid out for speed; made at the first use, and again after a change of them."""
        version = (self.dtype, self.device, *(p._version for p in self.state_dict().values()))
        if self._prepared is None or self._prepared.version != version:
            self._prepared = Prepared(self, DTYPES[self.dtype], version)
        return self._prepared

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    # -- on disk -----------------------------------------------------------------------------

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, dtype: str = "fp32", revision: str | None = None, **changes: Any
    ) -> Enformer:
        """A trained model, in eval mode.

        Parameters
        ----------
        name : str or Path
            Folder or hub id (``EleutherAI/enformer-official-rough``) with ``config.json`` and
            ``model.safetensors`` or ``pytorch_model.bin``. Keys may stand under ``_trunk``, under
            their names, or twice.
        dtype : {"fp32", "bf16"}
            Of the products without gradients.
        revision : str, optional
            Of a hub repository.
        **changes
            Settings that differ from those of ``config.json``, such as ``gamma_norm``.

        Raises
        ------
        InputError
            Where the files do not hold this model.
        """
        if dtype not in DTYPES:
            raise unknown_name("dtype", dtype, list(DTYPES))
        found = find_checkpoint(str(name), revision=revision)
        where = str(found.folder / "config.json")
        config = EnformerConfig.from_dict({**found.config(), **changes}, where)
        with torch.device("meta"):
            model = cls(config)
        tensors = canonical(read_tensors(found.weights), str(found.weights[0]))
        check_complete(tensors, model.state_dict(), str(found.weights[0]))
        model.load_state_dict(tensors, assign=True)
        model.dtype = dtype
        return model.requires_grad_(True).eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``config.json`` and ``model.safetensors`` into a folder, which is made."""
        from safetensors.torch import save_file

        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        text = json.dumps(self.config.as_dict(), indent=1)
        (path / "config.json").write_text(text + "\n", encoding="utf-8")
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.state_dict().items()}
        save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})

    def with_heads(
        self, tracks: Mapping[str, list[str]], species: Mapping[str, list[str]] | None = None
    ) -> Enformer:
        """A model that shares this one's trunk, with new heads of random weights."""
        config = self.config.with_heads(tracks, species)
        other = Enformer(config)
        own = {k: v for k, v in self.state_dict().items() if not k.startswith("_heads.")}
        other.load_state_dict(own, strict=False)
        other.dtype = self.dtype
        return other


def _by_channel(x: Tensor) -> Tensor:
    """(n, bins, channels) → (n, channels, 1, bins), the same memory."""
    return x.transpose(1, 2).unsqueeze(2)


def _by_bin(x: Tensor) -> Tensor:
    """(n, channels, 1, bins) → (n, bins, channels), the same memory."""
    return x.squeeze(2).transpose(1, 2)


def poisson_loss(predicted: Tensor, observed: Tensor, seen: Tensor | None = None) -> Tensor:
    """Mean Poisson negative log-likelihood less its constant, as Enformer is trained on.

    Parameters
    ----------
    predicted, observed : tensor of one shape
        Non-negative.
    seen : bool tensor of that shape, optional
        Where it counts; all.
    """
    loss = F.poisson_nll_loss(
        predicted.float(), observed.float(), log_input=False, reduction="none"
    )
    return loss.mean() if seen is None else loss[seen].mean()
