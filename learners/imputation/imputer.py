"""What learners of profiles share: tuned on validation entries, refitted on everything known."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from learners.base import Budget, LearnerInfo
from learners.batch import FeatureBatch
from learners.compute import limited_threads
from learners.disk import checked_load, load_arrays, load_config, save_state
from learners.imputation.neighbourhood import Places
from learners.imputation.table import (
    PROFILE,
    Profiles,
    References,
    asked_of,
    known_of,
    merged,
    profiles_of,
    references_of,
    require_profiles,
)
from learners.layout import check_layout, layout_of

Settings = dict[str, Any]
"""What is tuned; plain JSON."""

_PIECE: Final = 4096
_MOST_LEARNED: Final = 200_000
"""Rows that are kept to learn tissues from."""
_MOST_VALIDATED: Final = 20_000
"""Validation rows on which settings are compared; more of them change no choice."""


def read_from(batch: FeatureBatch, learner: str) -> dict[str, Any]:
    """The layout of a batch with profiles, or an error that says what is wanted."""
    require_profiles(batch, learner)
    return layout_of(batch)


class Baseline(ABC):
    """An imputer with a handful of settings.

    Each combination of :meth:`grid` is tried on the validation entries with training profiles as
    references; the best by squared error is kept, and validation entries join the references.
    Where it has nothing to work with (no position, nothing seen) a gene gets the tissue means, and
    ``notes`` says how often. ``held_out`` has the predictions of the validation rows before these
    joined.
    """

    info: ClassVar[LearnerInfo]
    missing: ClassVar[str] = "no reference gene on their sequence"
    """What an entry lacks that gets its tissue's mean."""

    def __init__(self, **parameters: Any) -> None:
        self.parameters = parameters
        self.settings: Settings = {}
        """In use after the fit."""
        self.held_out: NDArray[np.float64] | None = None
        self.known: Profiles | None = None
        self.mean: NDArray[np.float64] = np.zeros(0)
        """Of each tissue over what is known, shape (T,)."""
        self._layout: dict[str, Any] = {}
        self._fallen = [0, 0]

    @abstractmethod
    def grid(self) -> list[Settings]:
        """What to try; one combination is not tried but used."""

    def keep(self, known: Profiles) -> None:  # noqa: B027 - most need no more than the profiles
        """Take up the profiles that are known, before anything is estimated."""

    @abstractmethod
    def estimate(self, rows: Profiles, tried: list[Settings]) -> Iterator[NDArray[np.float64]]:
        """For each combination an estimate of every entry, (n, T); NaN where there is none."""

    def fit(self, train: FeatureBatch, valid: FeatureBatch, *, seed: int, budget: Budget) -> None:
        """Choose the settings and keep what is known."""
        self._layout = read_from(train, self.info.name)
        check_layout(self._layout, valid)
        with limited_threads(budget):
            known = self.known_in(train)
            self.take_up(known)
            self._choose(valid)
            rows = profiles_of(valid)
            self.held_out = self._complete(rows)[0]
            self.take_up(merged(known, self.known_in(valid)))

    def known_in(self, batch: FeatureBatch) -> Profiles:
        """What may be learned from: of very many rows some, evenly drawn."""
        if len(batch) > _MOST_LEARNED:
            some = np.linspace(0, len(batch) - 1, _MOST_LEARNED).astype(np.int64)
            batch = batch.take(some)
        return known_of(batch)

    def take_up(self, known: Profiles) -> None:
        """Keep profiles that are known."""
        self.known, self.mean = known, tissue_means(known)
        self.keep(known)

    def _choose(self, valid: FeatureBatch) -> None:
        tried = self.grid()
        if len(tried) > 1:
            if len(valid) > _MOST_VALIDATED:
                some = np.linspace(0, len(valid) - 1, _MOST_VALIDATED).astype(np.int64)
                valid = valid.take(some)
            wanted, asked = asked_of(valid)
            found = self.estimate(profiles_of(valid), tried)
            errors = [((self._filled(one) - wanted)[asked] ** 2).mean() for one in found]
            self.settings = tried[int(np.argmin(errors))]
        else:
            self.settings = tried[0]

    def _filled(self, found: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(np.isnan(found), self.mean, found)

    def _complete(self, rows: Profiles) -> tuple[NDArray[np.float64], int]:
        """Every entry, and how many rows got tissue means somewhere."""
        if not len(rows):
            return np.zeros((0, len(self.mean))), 0
        parts, fallen = [], 0
        for start in range(0, len(rows), _PIECE):
            part = rows.take(slice(start, start + _PIECE))
            found = next(self.estimate(part, [self.settings]))
            fallen += int((np.isnan(found) & ~part.seen).any(axis=1).sum())
            parts.append(self._filled(np.where(part.seen & np.isnan(found), part.value, found)))
        return np.concatenate(parts), fallen

    def predict(self, batch: FeatureBatch) -> NDArray[np.float64]:
        """Every entry of every row, shape (n, T), in log2(1 + x)."""
        check_layout(self._layout, batch)
        out = np.empty((len(batch), len(self.mean)))
        with limited_threads(Budget(threads=1)):
            for start in range(0, len(batch), _PIECE):
                index = np.arange(start, min(start + _PIECE, len(batch)), dtype=np.int64)
                out[index], fallen = self._complete(profiles_of(batch.take(index)))
                self._fallen[0] += fallen
        self._fallen[1] += len(batch)
        return out

    @property
    def notes(self) -> list[str]:
        """What a run tells: how many rows got tissue means."""
        fallen, rows = self._fallen
        if not fallen:
            return []
        return [
            f"{self.info.name}: {fallen:,} of {rows:,} predicted rows have {self.missing} in some "
            "tissue or all; they get the tissue's mean there"
        ]

    @property
    def learned(self) -> dict[str, Any]:
        """What a run tells of the fit: the settings that were chosen."""
        return {"settings": self.settings}

    def require_known(self) -> Profiles:
        """The profiles kept, or an error if nothing was fitted."""
        if self.known is None:
            raise ValueError(f"{self.info.name} has not been fitted or loaded")
        return self.known

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What is saved; by default all profiles that are known."""
        return known_arrays(self.require_known())

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what :meth:`arrays` gave."""
        self.take_up(known_from(arrays))

    def save(self, path: Path) -> None:
        """Write settings as JSON, profiles as safetensors."""
        config = {
            "learner": self.info.name, "parameters": self.parameters, "settings": self.settings,
            "layout": self._layout,
        }  # fmt: skip
        save_state(path, config, self.arrays())

    @classmethod
    @checked_load
    def load(cls, path: Path) -> Self:
        """Read what :meth:`save` wrote."""
        config = load_config(path, cls.info.name)
        learner = cls(**config["parameters"])
        learner.settings, learner._layout = dict(config["settings"]), config["layout"]
        learner.restore(load_arrays(path))
        if learner._layout[PROFILE]["shape"][1] != len(learner.mean):
            raise ValueError(f"profiles of {len(learner.mean)} tissues")
        return learner


class WithReferences(Baseline):
    """A baseline that looks along the chromosome: one reference a gene."""

    def known_in(self, batch: FeatureBatch) -> Profiles:
        """Every gene; of several genotypes the means."""
        return references_of(batch)

    def keep(self, known: Profiles) -> None:
        """Sort the references."""
        self.references = References(known)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The references; of several genotypes their means."""
        return known_arrays(self.references.genes) | {"mean": self.mean}

    def restore(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Take up what :meth:`arrays` gave."""
        super().restore(arrays)
        self.mean = arrays["mean"]


def tissue_means(known: Profiles) -> NDArray[np.float64]:
    """Mean of each tissue over what is known, shape (T,); of all tissues where that is nothing."""
    count = known.seen.sum(axis=0)
    total = known.value.sum(axis=0, dtype=np.float64, where=known.seen)
    everywhere = total.sum() / max(1, count.sum())
    means: NDArray[np.float64] = np.where(count > 0, total / np.maximum(count, 1), everywhere)
    return means


def known_arrays(known: Profiles) -> dict[str, NDArray[Any]]:
    """Profiles as arrays for a file; names as bytes, a line each."""
    arrays: dict[str, NDArray[Any]] = {
        "gene": _bytes(known.gene), "contig": known.places.contig, "tss": known.places.tss,
        "tts": known.places.tts, "strand": known.places.strand, "value": known.value,
        "seen": known.seen.astype(np.uint8),
    }  # fmt: skip
    if known.sample is not None:
        arrays["sample"] = _bytes(known.sample)
    return arrays


def known_from(arrays: Mapping[str, NDArray[Any]]) -> Profiles:
    """What :func:`known_arrays` gave."""
    places = Places(*(arrays[name] for name in ("contig", "tss", "tts", "strand")))
    return Profiles(
        _lines(arrays["gene"]),
        _lines(arrays["sample"]) if "sample" in arrays else None,
        places,
        arrays["value"],
        arrays["seen"].astype(np.bool_),
    )


def _bytes(names: NDArray[np.str_]) -> NDArray[np.uint8]:
    return np.frombuffer("\n".join(names.tolist()).encode(), np.uint8)


def _lines(data: NDArray[np.uint8]) -> NDArray[np.str_]:
    return np.array(bytes(data).decode().split("\n"), dtype=np.str_)
