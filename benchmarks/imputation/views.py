"""Rows of a fold with what may be looked at of them and what is asked for: training, validation, test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.imputation import masks
from benchmarks.imputation.designs import GeneFold
from benchmarks.imputation.masks import percent_of
from benchmarks.imputation.problem import Rows
from benchmarks.imputation.setting import Setting

Bools = NDArray[np.bool_]
Rule = Callable[[Rows, Bools], tuple[Bools, Bools]]
"""What of the known entries of some rows is shown, and what is asked for."""


@dataclass(frozen=True)
class View:
    """Some rows, what may be looked at of them, and which entries are asked for.

    Parameters
    ----------
    rows : Rows, length n
    value : float64 array, shape (n, tissue)
    visible, wanted : bool arrays, shape (n, tissue)
    mask : object array of str, shape (n,)
        Mask that each row imitates or is tested by.
    elsewhere : pair of arrays, each (n, tissue), or None
        Mean over the other genotypes and whether there is one; None with one genotype.
    """

    rows: Rows
    value: NDArray[np.float64]
    visible: Bools
    wanted: Bools
    mask: NDArray[np.object_]
    elsewhere: tuple[NDArray[np.float32], Bools] | None = None

    @property
    def name(self) -> str:
        """Mask of all its rows."""
        return str(self.mask[0]) if len(self.mask) else ""

    def take(self, at: NDArray[np.int64]) -> View:
        """Some of the rows."""
        other = self.elsewhere
        return View(
            self.rows.take(at), self.value[at], self.visible[at], self.wanted[at], self.mask[at],
            None if other is None else (other[0][at], other[1][at]),
        )  # fmt: skip


def learning_views(setting: Setting, fold: int) -> tuple[View, View]:
    """What is learned from in a fold, and what validates."""
    one = setting.folds[fold]
    if not isinstance(one, GeneFold):
        return _entry_views(setting, one)
    train = _view(setting, setting.rows_in(one.train), _everything, "")
    rows = setting.rows_in(one.valid)
    parts = [
        _view(setting, rows, _rule(setting, mask, fold), mask) for mask in setting.scenarios(fold)
    ]
    return train, stacked(parts)


def test_views(setting: Setting, fold: int) -> list[View]:
    """Rows under test, a view for each scenario."""
    one = setting.folds[fold]
    if not isinstance(one, GeneFold):
        mask = f"entries-{one}"
        return [_view(setting, setting.all_rows, _rule(setting, mask, fold), mask)]
    rows, found = setting.rows_in(one.test), []
    for mask in setting.scenarios(fold):
        here = rows
        if mask == masks.WHOLE and mask not in setting.masks:
            # Only low-expression was asked for.
            here = rows.take(np.flatnonzero(setting.low[rows.gene]))
        found.append(_view(setting, here, _rule(setting, mask, fold), mask))
    return found


def _entry_views(setting: Setting, percent: int) -> tuple[View, View]:
    def held(rows: Rows, known: Bools) -> tuple[Bools, Bools]:
        hidden, validate = setting.entries(percent, rows, known)
        return known & ~hidden & ~validate, validate

    def learned(rows: Rows, known: Bools) -> tuple[Bools, Bools]:
        seen, _ = held(rows, known)
        return seen, seen

    rows = setting.all_rows
    train = _view(setting, rows, learned, "")
    return train, _view(setting, rows, held, f"entries-{percent}")


def _rule(setting: Setting, mask: str, fold: int) -> Rule:
    """What a mask shows and hides of the rows under test of a fold."""

    def rule(rows: Rows, known: Bools) -> tuple[Bools, Bools]:
        if percent := percent_of(mask):
            hidden, _ = setting.entries(percent, rows, known)
        else:
            hidden = setting.hidden(mask, fold, rows, known)
        return known & ~hidden, hidden

    return rule


def _everything(rows: Rows, known: Bools) -> tuple[Bools, Bools]:
    """All that is known is shown and asked for."""
    return known, known


def _view(setting: Setting, rows: Rows, rule: Rule, mask: str) -> View:
    """Rows of which something is asked, with what a rule shows of them."""
    values = setting.problem.values
    value = values.read(rows.gene, rows.genotype)
    visible, wanted = rule(rows, np.isfinite(value))
    view = View(rows, value, visible, wanted, np.full(len(rows), mask, object))
    view = view.take(np.flatnonzero(wanted.any(axis=1)))
    other = values.elsewhere(view.rows, lambda some, known: rule(some, known)[0])
    return view if other is None else replace(view, elsewhere=other)


def stacked(views: Sequence[View]) -> View:
    """Rows of several views end to end."""

    def joined(of: Callable[[View], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([of(view) for view in views])

    rows = Rows(joined(lambda v: v.rows.gene), joined(lambda v: v.rows.genotype))
    others = [view.elsewhere for view in views if view.elsewhere is not None]
    planes = None
    if others:
        planes = (
            np.concatenate([mean for mean, _ in others]),
            np.concatenate([t for _, t in others]),
        )
    return View(
        rows, joined(lambda v: v.value), joined(lambda v: v.visible), joined(lambda v: v.wanted),
        joined(lambda v: v.mask), planes,
    )  # fmt: skip
