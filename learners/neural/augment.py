"""Base codes changed at random in training, so that networks learn sites rather than genes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from featurestore.sequence.iupac import N


def shifted(codes: Tensor, most: int) -> Tensor:
    """Each row moved by a number of bases drawn from −most … most; N where they came from.

    Parameters
    ----------
    codes : Tensor, shape (n, position)
    """
    rows, length = codes.shape
    if not most or length <= most:
        return codes
    start = torch.randint(0, 2 * most + 1, (rows, 1), device=codes.device)
    padded = functional.pad(codes, (most, most), value=N)
    return padded.gather(1, start + torch.arange(length, device=codes.device))


def mutated(codes: Tensor, share: float) -> Tensor:
    """A share of the positions with a base drawn anew from A, C, G and T.

    A motif then has to be found in other neighbourhoods than those of the training genes, as
    among relatives (Lee et al., Genome Biology 24:105, 2023).

    Parameters
    ----------
    codes : Tensor, shape (n, position)
    share : float
    """
    if not share:
        return codes
    drawn = torch.rand(codes.shape, device=codes.device)
    # The same number says whether to mutate and into what: below the share it is uniform.
    base = (drawn * (4 / share)).clamp(max=3).to(codes.dtype)
    return torch.where(drawn < share, base, codes)
