"""A finished run, read again: its split and the model of each fold. Nothing in it is executed.

A folder of a run may come from somebody else. Models are read by the ``load`` of the registered
learner (JSON, safetensors, UBJSON, text; never a pickle), the split is held against its digest, and
a learner that is not registered here is never imported because a file names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from benchmarks.runs.files import RunResult, read_run, read_runs
from benchmarks.runs.identity import versions
from benchmarks.splits.artefact import Split, read_split
from featurestore.errors import InputError, UnknownNameError
from learners.batch import FeatureBatch
from learners.per_target import PerTarget
from learners.registry import get_learner

TRAINED_ON: Final = "trained on"
FAMILY_TRAINED_ON: Final = "family trained on"
UNSEEN_FAMILY: Final = "unseen family"
NO_FAMILY: Final = "no family known"


class Chosen(NamedTuple):
    """Folds whose models predict a gene, and why these.

    ``note`` is ``trained on`` (the gene is of the run: the fold in which it was under test),
    ``family trained on`` (a new gene of a family of the run: the folds that did not train on it),
    ``unseen family`` or ``no family known`` (all folds); what else is to be known follows a colon.
    """

    folds: tuple[int, ...]
    note: str


class TrainedRun:
    """A finished run with its models.

    Parameters
    ----------
    path : Path
        Folder of one run, or a folder of runs that holds one only.
    learner : str, optional
        ``package.module:Class`` of a learner that is not registered here.

    Attributes
    ----------
    path : Path
    run : dict
        run.json.
    identity : dict
        What makes the run what it is.
    repeat : int
    folds : list of int
        Folds with a model, ascending.
    targets : tuple of str
        Names of what is predicted; ``("y",)`` where it is one thing.
    notes : list of str
        What a person should know of it.

    Raises
    ------
    InputError
        If the run failed, lacks models, or its files do not belong together.
    """

    def __init__(self, path: Path, learner: str | None = None) -> None:
        self._result = _one_run(path)
        self.path, self.run, self.identity = (
            self._result.path, self._result.run, self._result.identity,
        )  # fmt: skip
        if self._result.status != "ok":
            raise InputError(f"{self.path}: this run failed, so it has no models; run it again")
        if self.identity.get("task") == "tracks":
            raise InputError(
                f"{self.path}: a run of task tracks, whose models predict tracks and not genes; they stand "
                "in model/REPEAT-FOLD/enformer, for commands that take a model of tracks (fs score)"
            )
        self.repeat, self.folds = _folds_with_models(self.path)
        self._cls = _learner_class(self.identity, learner, self.path)
        tissues = tuple(str(name) for name in self.identity.get("tissues") or ())
        self.targets = tissues or _target_names(self._predictions(), self.path)
        self.notes = _version_notes(self.identity, self._cls)
        self._held: dict[int, Any] = {}

    def _predictions(self) -> pd.DataFrame:
        assert self._result.predictions is not None  # noqa: S101 - read_run refuses an ok run without
        return self._result.predictions

    @property
    def label(self) -> str:
        """``learner@features``."""
        return self._result.label

    @property
    def name(self) -> str:
        """Name of the run."""
        return str(self.run.get("run") or self.path.name)

    @property
    def unit(self) -> str:
        """Unit of what it predicts."""
        return str(self.identity.get("unit") or "")

    @property
    def features(self) -> str:
        """Feature expression; empty for a learner without features."""
        return str(self.identity.get("features") or "")

    @property
    def species(self) -> list[str]:
        """Species it was trained on."""
        return [str(one) for one in self.identity.get("species") or ()]

    @cached_property
    def split(self) -> Split:
        """The split of the run, held against the digest that the run recorded."""
        split = read_split(self.path / "split.parquet")
        if split.digest != self.identity["split"].get("digest"):
            raise InputError(
                f"{self.path}: split.parquet is not the split of this run (digest {split.digest[:8]}); "
                "run it again"
            )
        return split

    def learner(self, fold: int) -> Any:
        """The fitted model of a fold, loaded once.

        Raises
        ------
        InputError
            If there is no such fold, or its files are not what the learner saved.
        """
        if fold not in self.folds:
            raise InputError(f"{self.path}: no model of fold {fold}; it has {self.folds}")
        if fold not in self._held:
            self._held[fold] = self._load(self.path / "model" / f"{self.repeat}-{fold}")
        return self._held[fold]

    def _load(self, folder: Path) -> Any:
        if len(self.targets) == 1 or self._cls.info.multi_output:
            return self._cls.load(folder)
        return PerTarget.load(self._cls, folder, len(self.targets))

    @cached_property
    def _genes(self) -> pd.DataFrame:
        table = self.split.table
        return table[table["repeat"] == self.repeat]

    @cached_property
    def _tested(self) -> dict[tuple[str, str], int]:
        here = self._genes
        if "role" in here:
            here = here[here["role"] == "test"]
        keys = zip(here["species"], here["gene"], strict=True)
        return dict(zip(keys, here["fold"].astype(int).tolist(), strict=True))

    @cached_property
    def _known(self) -> set[tuple[str, str]]:
        return set(zip(self._genes["species"], self._genes["gene"], strict=True))

    @cached_property
    def _trained_families(self) -> dict[int, set[str]]:
        """Families on the training and validation side of each fold."""
        found = {}
        for fold in self.folds:
            here = self._genes[self._genes["fold"] == fold]
            role = here["role"] if "role" in here else pd.Series("test", here.index)
            test = here[role == "test"]
            inside = here[role != "test"]
            if not (role == "train").any():
                rest = self._genes[self._genes["fold"] != fold]
                inside = pd.concat([inside, rest[~_rows_of(rest).isin(_rows_of(here))]])
            families = set(inside["family"].astype(str))
            if self.split.recipe.get("exclude_test_families"):
                families -= set(test["family"].astype(str))
            found[fold] = families
        return found

    def fold_of(self, gene: str, species: str | None = None) -> int | None:
        """The fold in which a gene was under test; None where it was in none.

        Parameters
        ----------
        gene : str
        species : str, optional
            Needed where several species have a gene of that name.

        Raises
        ------
        InputError
            If the species is needed.
        """
        if species is not None:
            return self._tested.get((species, gene))
        found = {fold for (_, name), fold in self._tested.items() if name == gene}
        if len(found) > 1:
            raise InputError(f"several species of {self.name} have a gene {gene!r}: say which")
        return next(iter(found), None)

    def choose(self, gene: str, species: str, family: str, *, has_family: bool) -> Chosen:
        """The folds whose models have not learned from a gene or its family.

        Parameters
        ----------
        gene, species, family : str
        has_family : bool
            False where ``family`` only stands in for a family that is not known.
        """
        everything = tuple(self.folds)
        fold = self._tested.get((species, gene))
        if fold in self.folds:
            seen = family in self._trained_families[fold]
            return Chosen(
                (fold,), TRAINED_ON + (": so was its family in this fold" if seen else "")
            )
        known = (species, gene) in self._known
        if not (has_family or known):
            return Chosen(everything, NO_FAMILY)
        clean = tuple(f for f in self.folds if family not in self._trained_families[f])
        if known and not clean:
            return Chosen(everything, f"{TRAINED_ON}: under test in no fold, known to every model")
        if clean == everything:
            return Chosen(everything, UNSEEN_FAMILY)
        if not clean:
            return Chosen(everything, f"{FAMILY_TRAINED_ON}: no fold is without it")
        return Chosen(clean, FAMILY_TRAINED_ON)

    def choose_all(self, genes: pd.DataFrame) -> list[Chosen]:
        """:meth:`choose` for a table of :func:`benchmarks.inputs.genes.gene_frame`."""
        columns = (genes[name] for name in ("gene", "species", "family", "has_family"))
        return [
            self.choose(str(gene), str(species), str(family), has_family=bool(has))
            for gene, species, family, has in zip(*columns, strict=True)
        ]

    def predict(
        self, batch: FeatureBatch, folds: Sequence[tuple[int, ...]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Predictions by the models of given folds.

        Parameters
        ----------
        batch : FeatureBatch, length n
        folds : sequence of tuple of int, length n
            Folds whose models predict each row.

        Returns
        -------
        mean, sd : float64 arrays, shape (n, t)
            Over the folds of the row; sd (n − 1 in the denominator) is NaN where there is one.

        Raises
        ------
        InputError
            If the features are not those of the fit, or a prediction is not finite.
        """
        shape = (len(batch), len(self.targets))
        mean, sd = np.empty(shape), np.full(shape, np.nan)
        alike: dict[tuple[int, ...], list[int]] = {}
        for row, one in enumerate(folds):
            alike.setdefault(tuple(one), []).append(row)
        for one, found in alike.items():
            rows = np.array(found, np.int64)
            each = self.predict_each(batch.take(rows), one)
            mean[rows] = each.mean(axis=0)
            if len(one) > 1:
                sd[rows] = each.std(axis=0, ddof=1)
        return mean, sd

    def predict_each(self, batch: FeatureBatch, folds: Sequence[int]) -> NDArray[np.float64]:
        """Predictions by the model of each of some folds, shape (fold, n, t)."""
        plain = batch.without_targets()
        return np.stack([self._checked(fold, plain) for fold in folds])

    def _checked(self, fold: int, batch: FeatureBatch) -> NDArray[np.float64]:
        found = np.asarray(self.learner(fold).predict(batch), np.float64)
        if found.shape != (len(batch), len(self.targets)):
            raise InputError(
                f"{self.path}: the model of fold {fold} predicts shape {found.shape} where "
                f"{(len(batch), len(self.targets))} belongs; run it again"
            )
        bad = np.flatnonzero(~np.isfinite(found).all(axis=1))
        if len(bad):
            raise InputError(
                f"{self.path}: the model of fold {fold} predicts no finite number for "
                f"{len(bad):,} genes, first {batch.gene[bad[0]]}"
            )
        return found


def _rows_of(table: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(table[["species", "gene"]])


def _one_run(path: Path) -> RunResult:
    if (path / "run.json").exists():
        return read_run(path)
    runs = read_runs(path)
    if len(runs) > 1:
        some = "\n".join(f"    {run.path}" for run in runs[:10])
        raise InputError(f"{path}: holds {len(runs)} runs; name one of them:\n{some}")
    return runs[0]


def _folds_with_models(path: Path) -> tuple[int, list[int]]:
    """The repeat, and the folds that have a model in the folder."""
    found = set()
    for folder in (path / "model").glob("*-*"):
        repeat, _, fold = folder.name.partition("-")
        if repeat.isdigit() and fold.isdigit() and folder.is_dir():
            found.add((int(repeat), int(fold)))
    repeats = {repeat for repeat, _ in found}
    if len(repeats) != 1:
        what = f"models of repeats {sorted(repeats)}" if repeats else "no models"
        raise InputError(f"{path}: holds {what} where those of one repeat belong; run it again")
    return repeats.pop(), sorted(fold for _, fold in found)


def _learner_class(identity: dict[str, Any], asked: str | None, path: Path) -> Any:
    name = str(identity["learner"]["name"])
    if asked is not None:
        cls = get_learner(asked)
        if cls.info.name != name:
            raise InputError(f"{path}: was trained by {name!r}; {asked} is {cls.info.name!r}")
        return cls
    try:
        return get_learner(name.replace(":", "-"))  # a name, never a module to import
    except UnknownNameError as error:
        raise UnknownNameError(
            f"{path}: {error} If it is a class of yours, name it: --learner package.module:Class"
        ) from error


def _target_names(predictions: pd.DataFrame, path: Path) -> tuple[str, ...]:
    """Names of the targets in the order in which the model predicts them.

    Rows of a gene stand in that order; a gene without some of them lacks their rows.
    """
    if "target" not in predictions:
        return ("y",)
    names = predictions["target"].astype(str)
    apart = [c for c in ("species", "gene", "sample", "line", "mask") if c in predictions]
    key = pd.Series(list(map(str, predictions[apart].itertuples(index=False))))
    names = names.reset_index(drop=True)
    every = names.nunique()
    counts = key.value_counts()
    full = counts.index[counts == every]
    if not len(full):
        raise InputError(
            f"{path}: no gene has all {every} targets, so their order is not known; run it again with "
            "fewer"
        )
    return tuple(names[key == full[0]])


def _version_notes(identity: dict[str, Any], cls: Any) -> list[str]:
    """Versions that differ between the fit and here, and may change last digits."""
    recorded = identity.get("versions") or {}
    here = versions(cls.info.requires, cls)
    other = [
        f"{name} {recorded[name]} then, {here[name]} now"
        for name in sorted(set(recorded) & set(here))
        if recorded[name] != here[name]
    ]
    return [f"fitted with other versions: {'; '.join(other)}"] if other else []
