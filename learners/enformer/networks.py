"""Networks of the learner ``enformer``, as the training loop takes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 # torch's own abbreviation

from featurestore.embedders.enformer.modeling import BASES_OF_CODE, Enformer
from featurestore.sequence.iupac import COMPLEMENT, N

TSS_BINS: Final = 3
"""Bins around the TSS whose mean stands for a gene (447–449 of 896, as published)."""


class _Bases(nn.Module):
    """Codes to one-hot, moved and turned at random in training."""

    bases: Tensor
    complement: Tensor

    def __init__(self, shift: int) -> None:
        super().__init__()
        self.shift = shift
        self.register_buffer("bases", torch.from_numpy(BASES_OF_CODE.copy()), persistent=False)
        complement = torch.from_numpy(COMPLEMENT.astype(np.int64))
        self.register_buffer("complement", complement, persistent=False)

    def forward(self, codes: Tensor, turned: Tensor | None = None) -> Tensor:
        """(n, length) → (n, length, 4); rows of ``turned`` as their reverse complement."""
        codes = codes.long()
        if self.training and self.shift:
            codes = _moved(codes, self.shift)
        if turned is not None:
            codes = torch.where(turned[:, None], self.complement[codes.flip(1)], codes)
        return F.embedding(codes, self.bases)


def _moved(codes: Tensor, most: int) -> Tensor:
    """All rows by one number of bases from −most … most; N where they came from."""
    by = int(torch.randint(-most, most + 1, ()))
    if by > 0:
        return F.pad(codes[:, :-by], (by, 0), value=N)
    return F.pad(codes[:, -by:], (0, -by), value=N) if by else codes


class _WithTrunk(nn.Module):
    """What both networks share: the model, parts of which may be frozen."""

    enformer: Enformer

    def __init__(self, enformer: Enformer, shift: int, trained: str) -> None:
        super().__init__()
        self.enformer, self.trained = enformer, trained
        self.sequence = _Bases(shift)

    def train(self, mode: bool = True) -> Self:
        """A trunk that is not trained as a whole keeps its running statistics, and drops nothing."""
        super().train(mode)
        if self.trained != "all":
            self.enformer.eval()
        return self

    def embedded(self, x: Tensor) -> Tensor:
        """The trunk's output; without gradients, and so on the fast path, where it is frozen."""
        if self.trained == "head":
            with torch.no_grad():
                return self.enformer.embed(x)
        return self.enformer.embed(x)


class TrackNetwork(_WithTrunk):
    """Windows to tracks.

    Parameters
    ----------
    enformer : Enformer
        With the heads that are trained.
    place : sequence of (head, index)
        Of each track, in the order of the block ``tracks``.
    opposite : sequence of int
        For each track the one that it becomes on the other strand; itself if it has no strand.
    shift : int
        Bases by which training windows are moved at most.
    turn : bool
        Whether every other training window is its reverse complement.
    trained : {"all", "lora", "head"}
    """

    opposite: Tensor

    def __init__(
        self, enformer: Enformer, place: Sequence[tuple[str, int]], opposite: Sequence[int],
        *, shift: int, turn: bool, trained: str,
    ) -> None:  # fmt: skip
        super().__init__(enformer, shift, trained)
        self.place, self.turn = list(place), turn
        self.register_buffer("opposite", torch.tensor(list(opposite)), persistent=False)

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        """Tracks (n, bins, tracks) of ``genome`` (n, length), on the strand that was given."""
        codes = values["genome"]
        turned = None
        if self.training and self.turn:
            turned = torch.rand(len(codes), device=codes.device) < 0.5
        found = self.enformer.heads_of(self.embedded(self.sequence(codes, turned)))
        tracks = torch.stack([found[head][..., index] for head, index in self.place], dim=-1)
        if turned is None:
            return tracks
        back = tracks.flip(1)[..., self.opposite]
        return torch.where(turned[:, None, None], back, tracks)


@dataclass(frozen=True)
class PoissonTracks:
    """Poisson negative log-likelihood of the bins that may be learned from, less its constant.

    The error shown is the mean deviance: 0 for a model that is never wrong.
    """

    least_rows: int = 1

    def __call__(
        self, scores: Tensor, values: Mapping[str, Tensor], targets: Tensor, known: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Of predicted tracks and the block ``tracks``, shape (n, bins, tracks), −1 for unknown."""
        observed = values["tracks"]
        seen = observed >= 0
        signal = torch.where(seen, observed, torch.zeros_like(observed))
        rate = scores.float()
        loss = rate - signal * torch.log(rate + _FLOOR)
        best = signal - torch.xlogy(signal, signal)
        return ((loss - best) * seen).sum(), seen.sum()

    def error(self, losses: float, count: float) -> float:
        """Mean over bins and tracks."""
        return 2 * losses / max(count, 1.0)


_FLOOR: Final = 1e-8


class ExpressionNetwork(_WithTrunk):
    """Gene-centred windows to standardised targets, from the bins at the TSS.

    Parameters
    ----------
    enformer : Enformer
        Its own heads are not used.
    feature : str
        Name of the block of windows.
    targets : int
    dropout : float
        Before the last layer.
    shift : int
    trained : {"all", "lora", "head"}
    """

    def __init__(
        self, enformer: Enformer, feature: str, targets: int, *, dropout: float, shift: int,
        trained: str,
    ) -> None:  # fmt: skip
        super().__init__(enformer, shift, trained)
        self.feature = feature
        last = nn.Linear(2 * enformer.config.dim, targets)
        with torch.no_grad():
            last.weight.normal_(std=0.01)
            last.bias.zero_()
        self.head = nn.Sequential(nn.Dropout(dropout), last)

    def forward(self, values: Mapping[str, Tensor]) -> Tensor:
        """(n, targets)."""
        return self.of(self.sequence(values[self.feature]))

    def of(self, x: Tensor) -> Tensor:
        """Targets of one-hot windows (n, length, 4)."""
        out: Tensor = self.head(at_tss(self.embedded(x)))
        return out


def at_tss(bins: Tensor) -> Tensor:
    """Mean of the bins at the centre of windows around a TSS: (n, bins, channels) → (n, channels)."""
    count = bins.shape[1]
    first = max(count // 2 - 1, 0)
    return bins[:, first : first + TSS_BINS].mean(1)
