"""Contributions of bases to the response of a gene: gradients, integrated gradients, attention."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from benchmarks.long_range.models import ExpressionModel, WindowModel, tss_bins
from benchmarks.long_range.responses import shuffled
from featurestore.embedders.enformer.modeling import BASES_OF_CODE, Enformer
from featurestore.errors import InputError, MissingDependencyError

if TYPE_CHECKING:
    from torch import Tensor

Codes = NDArray[np.uint8]
Floats = NDArray[np.float32]

BASELINES: Final = ("zeros", "shuffled")


@dataclass(frozen=True)
class Attributed:
    """Contributions within one window.

    Parameters
    ----------
    bases : float32 array, shape (length,)
        In window orientation; their sum over a span is what the span contributes.
    output : float
        The response of the window.
    difference : float
        What the contributions should add up to (integrated gradients); NaN where they need not.
    """

    bases: Floats
    output: float
    difference: float = float("nan")

    @property
    def gap(self) -> float:
        """By how much the sum of the contributions misses the difference."""
        return float(self.bases.sum(dtype=np.float64)) - self.difference


def gradient_x_input(model: WindowModel, codes: Codes) -> Attributed:
    """Gradient of the response with regard to each base, times the base, summed over the four.

    Parameters
    ----------
    codes : uint8 array, shape (length,)
    """
    import torch

    x = one_hot(model, codes).requires_grad_()
    with gradients(model):
        value = response(model, x)
        (slope,) = torch.autograd.grad(value.sum(), x)
    found = (slope.float() * x.detach()).sum(-1)[0].cpu().numpy()
    return Attributed(found.astype(np.float32), float(value.detach()))


def integrated_gradients(
    model: WindowModel, codes: Codes, *, baseline: str = "zeros", steps: int = 50,
    shuffles: int = 5, seed: int = 0,
) -> Attributed:  # fmt: skip
    """Integrated gradients (Sundararajan et al., ICML 2017) by captum, Gauss–Legendre steps.

    Parameters
    ----------
    baseline : {"zeros", "shuffled"}
        All N; or the mean over windows shuffled so that dinucleotides stay as many.
    steps : int
        Gradients along the way from each baseline.
    shuffles : int
        Baselines of ``shuffled``.

    Raises
    ------
    MissingDependencyError
        Without captum.
    """
    import torch

    try:
        from captum.attr import IntegratedGradients
    except ImportError as error:
        raise MissingDependencyError(
            "integrated gradients are computed by captum: pip install 'meristem[interpret]'"
        ) from error
    if baseline not in BASELINES:
        raise InputError(f"baseline {baseline!r}: choose zeros or shuffled")
    x = one_hot(model, codes)
    starts = [torch.zeros_like(x)]
    if baseline == "shuffled":
        starts = [one_hot(model, row) for row in shuffled(codes, shuffles, seed)]
    total, before = np.zeros(len(codes)), 0.0
    with gradients(model):
        method = IntegratedGradients(lambda one: response(model, one))
        for start in starts:
            found = method.attribute(x, start, n_steps=steps, internal_batch_size=1)
            total += found.detach().sum(-1)[0].double().cpu().numpy() / len(starts)
            with torch.no_grad():
                before += float(response(model, start)) / len(starts)
        with torch.no_grad():
            output = float(response(model, x))
    return Attributed(total.astype(np.float32), output, output - before)


def attention(model: WindowModel, codes: Codes) -> NDArray[np.float64]:
    """Attention of the bins at the TSS to every bin: mean over heads, layers and these bins.

    Returns
    -------
    float64 array, shape (input bins,)
        Of the whole window, before the crop; sums to 1.

    Raises
    ------
    InputError
        For a model without attention.
    """
    import torch

    if not isinstance(model.module, Enformer):
        raise InputError("attention is asked of a model that has none")
    module: Any = model.module
    with torch.no_grad():
        x = module.prepared().convolved(module.one_hot(codes[None])[0]).float()[None]
        rows = _attending(model, x.shape[1])
        total = torch.zeros(x.shape[1], dtype=torch.float64, device=x.device)
        for block in module.transformer:
            own = block[0].fn[0](x)
            weights = block.attention.weights(own)
            total += weights[0, :, rows].double().mean((0, 1))
            x = block[1](x + block.attention.mixed(own, weights))
    mean: NDArray[np.float64] = (total / len(module.transformer)).cpu().numpy()
    return mean


def _attending(model: WindowModel, bins: int) -> slice:
    """The bins at the TSS among all bins of a window."""
    if isinstance(model, ExpressionModel):
        return slice(max(bins // 2 - 1, 0), bins // 2 + 2)
    own, margin = tss_bins(model), (bins - model.bins) // 2
    return slice(margin + own.start, margin + own.stop)


def response(model: WindowModel, x: Tensor) -> Tensor:
    """The response of each one-hot window (n, length, 4), shape (n,)."""
    return model.of(x)[:, tss_bins(model)].float().mean(1).sum(-1)


def one_hot(model: WindowModel, codes: Codes) -> Tensor:
    """One window of one-hot bases where the model is, shape (1, length, 4)."""
    import torch

    place = next((p.device for p in model.module.parameters()), torch.device("cpu"))
    return torch.from_numpy(BASES_OF_CODE[codes][None]).to(place)


@contextmanager
def gradients(model: WindowModel) -> Iterator[None]:
    """Gradients with regard to the sequence alone, by the blocks again where the model is set so.

    Products are in bf16 where the model's dtype says so.
    """
    import torch

    weights = [p for p in model.module.parameters() if p.requires_grad]
    for one in weights:
        one.requires_grad_(False)
    place = next((p.device.type for p in model.module.parameters()), "cpu")
    narrow = getattr(model.module, "dtype", "fp32") == "bf16"
    try:
        with (
            torch.enable_grad(),
            torch.autocast(place, torch.bfloat16) if narrow else nullcontext(),
        ):
            yield
    finally:
        for one in weights:
            one.requires_grad_(True)
