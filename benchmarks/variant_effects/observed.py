"""What was observed of lines: log expression of each line against the controls of its tissues."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Observed:
    """Lines × genes, averaged over tissues on the log scale; NaN where not measured.

    Attributes
    ----------
    line : list of str
        Lines that have a sample, in order of first appearance.
    value : float64 array, shape (gene, line)
        Mean over the tissues of a line of its mean log expression there.
    delta : float64 array, shape (gene, line)
        Mean over those tissues of the line's log expression minus the controls' in the same tissue.
    baseline : float64 array, shape (gene,)
        Mean over tissues of the controls' mean log expression.
    noise : float64 array, shape (gene, line)
        Variance that measurement alone gives ``delta``, by the spread of the control samples within
        tissues; NaN where a tissue of the line has fewer than two.
    """

    line: list[str]
    value: Floats
    delta: Floats
    baseline: Floats
    noise: Floats


def observe(log: Floats, tissue: list[str], line: list[str], control: Bools) -> Observed:
    """Set lines against controls of the same tissues.

    Parameters
    ----------
    log : (gene, sample)
        Log expression; NaN where missing.
    tissue, line : list of str, length sample
        A sample without a line belongs to none and can only be a control.
    control : (sample,) or (gene, sample)
        True where a sample is a control (of a gene).
    """
    genes, samples = log.shape
    is_control = np.broadcast_to(control, (genes, samples))
    names = list(dict.fromkeys(name for name in line if name))
    member = np.array([[float(one == name) for name in names] for one in line])
    member = member.reshape(samples, len(names))
    shape = (genes, len(names))
    total, difference, tissues = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    spread, compared = np.zeros(shape), np.zeros(shape)
    base, base_tissues = np.zeros(genes), np.zeros(genes)
    for one in dict.fromkeys(tissue):
        at = np.array([t == one for t in tissue])
        known = np.isfinite(log[:, at])
        filled = np.where(known, log[:, at], 0.0)
        count = known @ member[at]
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = filled @ member[at] / count
            control_mean, control_count, variance = _controls(filled, known & is_control[:, at])
            here, seen = count > 0, np.isfinite(control_mean)
            noise = variance[:, None] * (1 / count + 1 / control_count[:, None])
        total += np.where(here, mean, 0)
        tissues += here
        both = here & seen[:, None]
        difference += np.where(both, mean - control_mean[:, None], 0)
        spread += np.where(both, noise, 0)
        compared += both
        base += np.where(seen, control_mean, 0)
        base_tissues += seen
    with np.errstate(invalid="ignore", divide="ignore"):
        return Observed(
            names, total / tissues, difference / compared, base / base_tissues, spread / compared**2
        )


def _controls(filled: Floats, used: Bools) -> tuple[Floats, Floats, Floats]:
    """Mean, number and variance (of one sample) of the controls of one tissue, each shape (gene,)."""
    count = used.sum(axis=1).astype(np.float64)
    mean = np.where(used, filled, 0).sum(axis=1) / count
    square = (np.where(used, filled - mean[:, None], 0) ** 2).sum(axis=1)
    return mean, count, np.where(count > 1, square / (count - 1), np.nan)


def background(delta: Floats, carries: Bools, least: int = 3) -> Floats:
    """Mean square of Δ over the lines that read the reference at a gene, shape (gene,).

    What differs between such a line and the controls is not of the gene's own windows: noise,
    effects in trans, the error of the controls' mean. NaN with fewer than ``least`` such lines.

    Parameters
    ----------
    delta, carries : (gene, line)
        Observed differences of lines; True where a line carries a haplotype.
    """
    used = np.isfinite(delta) & ~carries
    count = used.sum(axis=1)
    square = np.where(used, delta, 0.0) ** 2
    mean = square.sum(axis=1) / np.maximum(count, 1)
    return np.where(count >= least, mean, np.nan)
