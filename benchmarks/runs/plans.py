"""What is to run: options, learners with features and parameters, and the identity of each run."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from benchmarks.inputs.features import parse
from benchmarks.runs.by_sides import BySides
from benchmarks.runs.files import digest_of, label_of
from benchmarks.runs.identity import versions
from benchmarks.runs.some_folds import only_folds
from benchmarks.splits.artefact import AlignedSplit, Split
from benchmarks.tasks import get_task
from benchmarks.tasks.base import Folding, TaskData
from benchmarks.tuning.plan import Tuning
from featurestore.errors import InputError, unknown_name
from learners.base import Budget, LearnerInfo
from learners.members import Member
from learners.registry import get_learner, make_learner


@dataclass(frozen=True)
class RunOptions:
    """What ``bench run`` is asked for.

    Parameters
    ----------
    learners : sequence of str
        ``NAME`` or ``package.module:Class``, each with its own features as ``NAME@FEATURES``.
    features : str or None
        For the learners that name none; None takes what suits each learner.
    target : str or None
        None takes the default of the task.
    seeds : int
        Seeds 0 … N − 1: split and fit are repeated with each, a run each.
    species : sequence of str
        Empty for all of the store.
    params : sequence of str
        ``key=value`` for every learner that has the key, or ``learner.key=value``.
    bootstrap : int
        Replicates behind the intervals.
    scheduler : str or None
        Address of a Dask scheduler whose workers fit; None fits in this process.
    tune : int or None
        Trials by which each fold searches the parameters of its learner; None takes them as given.
    tune_folds : int
        Inner folds by which each trial is scored; 1 takes the validation families.
    spread : {"folds", "rows"}
        Each worker fits other folds, or all of them fit each fold together on a share of its rows.
    variants : str or None
        Task ``variants``: the variant set; None takes the only one of each species.
    lines : Path or None
        Task ``variants``: a file that names the lines to use, one a line; None takes all.
    masks : sequence of str
        Task ``imputation``: masks to score; empty for all.
    tracks : Path or None
        Task ``tracks``: table of tracks.
    window, bin, stretch, tilings : int or None
        Task ``tracks``: bases of a window, of a bin, and of the stretches that folds are made of; times
        that what is learned from is covered with windows.
    learn_from : str or None
        Task ``tracks``: "tiles" (windows side by side) or "genes" (windows around each TSS).
    only_folds : sequence of int
        Folds to run; empty for all.
    """

    learners: Sequence[str]
    features: str | None = None
    target: str | None = None
    task: str = "expression"
    split: str = "families-5fold"
    seeds: int = 1
    species: Sequence[str] = ()
    params: Sequence[str] = ()
    budget: Budget = field(default_factory=Budget)
    allow_leakage: bool = False
    keep_test_families: bool = False
    bootstrap: int = 1000
    out: Path = Path("runs")
    scheduler: str | None = None
    spread: Literal["folds", "rows"] = "folds"
    variants: str | None = None
    lines: Path | None = None
    masks: Sequence[str] = ()
    tracks: Path | None = None
    window: int | None = None
    bin: int | None = None
    stretch: int | None = None
    tilings: int | None = None
    learn_from: str | None = None
    only_folds: Sequence[int] = ()
    tune: int | None = None
    tune_folds: int = 1


@dataclass(frozen=True)
class LearnerPlan:
    """A learner with its parameters and features, ready to be constructed once per fold.

    ``asked`` is the name or ``package.module:Class`` that it was asked for by, ``tuning`` how
    its other parameters are searched, ``members`` what a learner of learners is made of.
    """

    asked: str
    cls: type[Any]
    features: str
    params: dict[str, Any]
    tuning: Tuning | None = None
    members: tuple[Member, ...] = ()

    @property
    def info(self) -> LearnerInfo:
        """What the learner says of itself."""
        info: LearnerInfo = self.cls.info
        return info

    @property
    def label(self) -> str:
        """``learner@features``, or the learner alone where it takes none."""
        return label_of(
            self.info.name, self.features, [str(one) for one in self.members],
            self.tuning.trials if self.tuning else 0,
        )  # fmt: skip

    def with_params(self, params: Mapping[str, Any]) -> LearnerPlan:
        """The same with further parameters, and nothing left to search."""
        return replace(self, params={**self.params, **params}, tuning=None)

    @property
    def settings(self) -> dict[str, Any]:
        """What parameters that are None stand for, where the learner says so (its ``settings``)."""
        known = dict(getattr(self.make(), "settings", {}))
        return {name: known[name] for name in self.info.defaults if name in known}

    @cached_property
    def checkpoint_digests(self) -> list[str]:
        """Of the weights that it and its members begin with, for learners that have such."""
        made = [self.make(), *(make_learner(one.learner, one.params) for one in self.members)]
        return [found for one in made if (found := getattr(one, "checkpoint_digest", ""))]

    @property
    def requires(self) -> tuple[str, ...]:
        """Modules that decide its numbers."""
        of_members = [
            module for one in self.members for module in get_learner(one.learner).info.requires
        ]
        searched = ["optuna"] if self.tuning else []
        return tuple(dict.fromkeys([*self.info.requires, *of_members, *searched]))

    def make(self) -> Any:
        """A fresh learner, unfitted."""
        return make_learner(self.asked, self.params)


@dataclass(frozen=True)
class RunPlan:
    """One run: everything its folder will say of it but the outcome."""

    learner: LearnerPlan
    data: TaskData
    split: Split
    repeat: int
    seed: int
    identity: dict[str, Any]
    contamination: dict[str, list[str]]
    notes: tuple[str, ...] = ()

    @cached_property
    def aligned(self) -> AlignedSplit:
        """The split, laid over the genes of the run."""
        return AlignedSplit(self.split, self.data.genes, self.repeat, self.data.labelled)

    @cached_property
    def folding(self) -> Folding:
        """The folds of the run: the sides of its split, or what its task makes of it."""
        found = folding_of(self.identity["task"], self.data, self.aligned, self.seed, self.learner)
        return only_folds(found, self.identity.get("only_folds", ()))

    @property
    def digest(self) -> str:
        """Sha256 of the identity."""
        return digest_of(self.identity)

    @property
    def name(self) -> str:
        """Name of the run and of its folder: safe characters only."""
        one = self.identity
        parts = (
            one["task"],
            one["target"],
            one["split"]["name"],
            self.learner.label,
            str(self.seed),
        )
        return ".".join([*(_safe(part) for part in parts), self.digest[:8]])


def placed(options: RunOptions) -> RunOptions:
    """Options of which each fit knows where its workers are, if it is to be spread over them.

    Raises
    ------
    InputError
        If the spreading is none, or there is no scheduler to spread over.
    ClusterError
        If nobody answers there, or no worker is there.
    """
    if options.spread not in ("folds", "rows"):
        raise InputError(f"--spread {options.spread}: choose folds or rows")
    if options.spread == "folds":
        return options
    if options.scheduler is None:
        raise InputError(
            "--spread rows needs workers: give --scheduler tcp://… of a Dask scheduler"
        )
    from learners.workers import count_workers

    workers = count_workers(options.scheduler)
    budget = replace(options.budget, scheduler=options.scheduler, workers=workers)
    return replace(options, budget=budget)


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_+@-]+", "-", text).strip("-")[:60]


def split_learner(text: str) -> tuple[str, str | None]:
    """``NAME@FEATURES`` as name and features; None where there are none."""
    name, at, features = text.partition("@")
    if not name or (at and not features):
        raise InputError(f"learner {text!r}: write NAME, package.module:Class or NAME@FEATURES")
    return name, features if at else None


def read_params(
    texts: Sequence[str], infos: Mapping[str, LearnerInfo]
) -> dict[str, dict[str, Any]]:
    """Parameters per learner, from ``key=value`` and ``learner.key=value``.

    Values are read as JSON (``0.1``, ``true``, ``[1, 2]``, ``null``), else kept as text.

    Parameters
    ----------
    texts : sequence of str
    infos : mapping of learner as it was asked for to its info

    Raises
    ------
    InputError
        If there is no ``=``.
    UnknownNameError
        If the learner is not among those to run, or has no such parameter.
    """
    params: dict[str, dict[str, Any]] = {name: {} for name in infos}
    for text in texts:
        place, equals, raw = text.partition("=")
        if not equals or not place:
            raise InputError(f"--param {text!r}: write key=value or learner.key=value")
        learner, _, key = place.rpartition(".")
        chosen = [name for name, info in infos.items() if learner in ("", name, info.name)]
        if not chosen:
            raise unknown_name("learner in --param", learner, {i.name for i in infos.values()})
        having = [name for name in chosen if key in infos[name].defaults]
        if not having:
            known = {key for name in chosen for key in infos[name].defaults}
            raise unknown_name("parameter", key, known)
        for name in having if not learner else chosen:
            params[name][key] = _value(raw)
    return params


def _value(raw: str) -> Any:
    if raw.lower() == "none":
        return None
    try:
        return json.loads(raw)
    except ValueError:
        return raw


def groups_of(features: str) -> list[str]:
    """Groups of the store that a feature expression reads."""
    return [term.group for term in parse(features)] if features else []


def groups_read(task: str, features: str) -> list[str]:
    """Groups of the store that a run of a task reads for its features and for the task itself."""
    return [*groups_of(features), *(["genome"] if task == "tracks" else [])]


def folding_of(
    task: str, data: TaskData, aligned: AlignedSplit, seed: int, learner: LearnerPlan
) -> Folding:
    """The folds of a run: the sides of its split, or what its task makes of it."""
    if data.folding is not None:
        return data.folding(aligned, seed, learner.info)
    return BySides(get_task(task), data, aligned)


def identity_of(
    store: Any,
    options: RunOptions,
    target: str,
    learner: LearnerPlan,
    data: TaskData,
    split: Split,
    seed: int,
    species: Sequence[str],
    folding: Folding | None = None,
) -> dict[str, Any]:
    """All that makes a run what it is; equal identities promise equal results.

    Limits of the budget that change results (rounds, seconds, memory, and the workers of a fit
    spread over several) stand among the parameters as ``budget.rounds`` …; threads and device
    do not, nor who fits which fold. The store stands with the
    digest of what the run reads of it, so that an embedder, a species or a variant set added
    later leaves the run as it is. Weights that a learner begins with stand with the digest of their
    content: others in the same folder are another run.
    """
    about = store.attrs.get("meristem", {})
    limits = {
        f"budget.{name}": value
        for name in ("rounds", "seconds", "memory", "workers")
        if (value := getattr(options.budget, name)) is not None
    }
    identity = {
        "task": options.task,
        "target": target,
        "unit": data.unit,
        "simulated": bool(about.get("simulated", False)),
        "split": {
            "name": split.name, "digest": split.digest, "recipe": split.recipe,
            "leakage_allowed": options.allow_leakage,
        },
        "learner": {
            "name": learner.info.name,
            "params": {**learner.info.defaults, **learner.params, **learner.settings, **limits},
            "reference": learner.info.reference,
            "control": learner.info.control,
            "inputs": sorted(learner.info.inputs),
            **({"members": [str(one) for one in learner.members]} if learner.members else {}),
            **({"checkpoints": found} if (found := learner.checkpoint_digests) else {}),
        },
        "features": learner.features,
        "seed": seed,
        "store": {
            "digest": store.content_digest(species, groups_read(options.task, learner.features)),
            "schema_version": str(about.get("schema_version", "")),
        },
        "labels_digest": data.labels_digest,
        "species": list(species),
        "versions": versions(learner.requires, learner.cls),
    }  # fmt: skip
    if learner.tuning is not None:
        identity["tuning"] = learner.tuning.identity()
    identity |= data.extra.get("identity", {})
    if folding is not None:
        identity |= folding.identity()
    plain: dict[str, Any] = json.loads(json.dumps(identity))
    return plain
