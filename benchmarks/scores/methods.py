"""Runs put in order: which may be compared (a group), and which repeat one method.

Runs are comparable when task, target, unit, split recipe, species and labels agree: which gene has
which value. What features were made of, and what else stands in the store, does not matter. Runs
of one learner, parameters and features that differ in their seed are repeats of one method.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from benchmarks.runs.files import RunResult, Status

Fold = tuple[str, str]
"""Name of the repeat (as in :meth:`Method.predictions`) and of the fold."""

_OF_REPEATS = frozenset({"seed", "seeds", "repeat", "repeats"})


@dataclass(frozen=True)
class Method:
    """One learner with its parameters and features, and its runs in order of seed.

    ``absent`` are the seeds that other methods of the group have and this one lacks.
    """

    label: str
    runs: tuple[RunResult, ...]
    absent: tuple[int, ...] = ()

    @property
    def learner(self) -> str:
        """Name of the learner."""
        return learner_of(self.runs[0])

    @property
    def features(self) -> str:
        """Names of the features, joined with ``+``; empty for a learner that takes none."""
        return str(self.runs[0].identity.get("features") or "")

    @property
    def control(self) -> bool:
        """Whether the learner is a control."""
        return bool(self.runs[0].identity.get("learner", {}).get("control", False))

    @property
    def done(self) -> tuple[RunResult, ...]:
        """Runs that finished with predictions."""
        return tuple(run for run in self.runs if run.status == "ok" and run.predictions is not None)

    @property
    def failed(self) -> tuple[RunResult, ...]:
        """Runs that did not."""
        done = {id(run) for run in self.done}
        return tuple(run for run in self.runs if id(run) not in done)

    @property
    def status(self) -> Status:
        """``ok`` where at least one run finished; what the others lack is in ``remarks``."""
        return "ok" if self.done else "failed"

    @property
    def remarks(self) -> str:
        """What did not come out, in words; empty where every seed finished."""
        said = [f"seed {seed_of(run)} failed: {reason_of(run)}" for run in self.failed]
        if self.absent:
            seeds = ", ".join(map(str, self.absent))
            said.append(f"{'seed' if len(self.absent) == 1 else 'seeds'} {seeds} missing")
        return "; ".join(said)

    def predictions(self) -> pd.DataFrame:
        """Predictions of all finished runs, the repeats told apart by seed.

        Of task ``variants`` those of genes: rows of haplotypes are never pooled with them.
        """
        tables = []
        for run in self.done:
            assert run.predictions is not None  # noqa: S101 - what `done` means
            table = run.predictions
            if "haplotype" in table:
                table = table[(table["haplotype"] == "").to_numpy()]
            names = [repeat_name(seed_of(run), repeat) for repeat in table["repeat"]]
            tables.append(table.assign(repeat=names))
        return pd.concat(tables, ignore_index=True)

    def fold_scores(self, metric: str) -> dict[Fold, float]:
        """Score of every test fold, as the runs' metric tables give it."""
        scores: dict[Fold, float] = {}
        for run in self.done:
            assert run.metrics is not None  # noqa: S101 - read_run refuses an ok run without
            table = run.metrics[run.metrics["metric"] == metric]
            for scope, value in zip(table["scope"], table["value"], strict=True):
                if str(scope).startswith("repeat:"):
                    repeat, fold = str(scope).removeprefix("repeat:").split("/fold:", 1)
                    scores[repeat_name(seed_of(run), repeat), fold] = float(value)
        return scores


@dataclass(frozen=True)
class Group:
    """Methods that may be compared, and what they have in common."""

    task: str
    target: str
    unit: str
    split: str
    recipe: str
    labels: str
    species: tuple[str, ...]
    methods: tuple[Method, ...]

    @property
    def title(self) -> str:
        """``task · target · split``."""
        return f"{self.task} · {self.target} · {self.split}"

    @property
    def seeds(self) -> tuple[int, ...]:
        """All seeds that any method was run with."""
        return tuple(sorted({seed_of(run) for m in self.methods for run in m.runs}))

    @property
    def runs(self) -> tuple[RunResult, ...]:
        """All runs of the group."""
        return tuple(run for method in self.methods for run in method.runs)


def learner_of(run: RunResult) -> str:
    """Name of the learner of a run."""
    return str(run.identity.get("learner", {}).get("name", "unknown"))


def seed_of(run: RunResult) -> int:
    """Seed of a run."""
    return int(run.identity.get("seed") or 0)


def reason_of(run: RunResult) -> str:
    """Why a run failed, in one line."""
    error = run.run.get("error") or {}
    if not isinstance(error, Mapping):
        return str(error)
    told = ": ".join(str(error[key]) for key in ("type", "message") if error.get(key))
    return " ".join(told.split()) or "no reason recorded"


def repeat_name(seed: int, repeat: object) -> str:
    """Name a repeat so that runs of several seeds may stand in one table."""
    return str(repeat) if str(repeat) == str(seed) else f"{seed}.{repeat}"


def group_runs(runs: Iterable[RunResult]) -> list[Group]:
    """Sort runs into groups of comparable methods.

    Two runs of one learner and features that differ in parameters, or whose features are of
    different content, are two methods, and their labels say in what they differ; runs that agree
    in everything but versions are told apart by the digest of the first one's identity. Runs of task ``tracks``
    make a group for each track.
    """
    keyed: dict[tuple[Any, ...], list[RunResult]] = defaultdict(list)
    for run in runs:
        keyed[_group_key(run)].append(run)
    groups = [
        Group(task, target, unit, split, recipe, labels, species, _methods(members))
        for (task, target, unit, split, recipe, labels, species), members in sorted(keyed.items())
    ]
    return [one for group in groups for one in _parts(group)]


def _parts(group: Group) -> list[Group]:
    """Groups that are shown for one: of task ``tracks`` one for each track."""
    if group.task != "tracks":
        return [group]
    from benchmarks.tracks.views import by_track

    return by_track(group)


def _group_key(run: RunResult) -> tuple[Any, ...]:
    identity = run.identity
    split = identity.get("split", {})
    return (
        str(identity.get("task", "expression")),
        str(identity.get("target", "")),
        str(identity.get("unit", "")),
        str(split.get("name", "")) + _folds_named(identity),
        _canonical(_without_seed(split.get("recipe"))),
        str(identity.get("labels_digest") or _store_digest(run)),
        tuple(sorted(str(name) for name in identity.get("species") or ())),
    )


def _folds_named(identity: Mapping[str, Any]) -> str:
    """`` · fold 0 only``, as it follows the name of the split; empty for a whole run."""
    folds = identity.get("only_folds") or ()
    word = "fold" if len(folds) == 1 else "folds"
    return f" · {word} {', '.join(map(str, folds))} only" if folds else ""


def _store_digest(run: RunResult) -> str:
    """Digest of what the run read of its store."""
    return str((run.identity.get("store") or {}).get("digest", ""))


def _without_seed(recipe: Any) -> Any:
    """A recipe as it is for every seed: repeats differ in the seed alone."""
    if isinstance(recipe, Mapping):
        return {k: _without_seed(v) for k, v in recipe.items() if k not in _OF_REPEATS}
    return recipe


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str, ensure_ascii=False)


def _methods(runs: list[RunResult]) -> tuple[Method, ...]:
    of_label: dict[str, dict[str, list[RunResult]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        of_label[run.label][_canonical(_settings(run))].append(run)
    found: list[tuple[str, list[RunResult]]] = []
    for label, by_settings in of_label.items():
        differing = _differing([json.loads(text) for text in by_settings])
        for text, members in by_settings.items():
            named = label
            if len(by_settings) > 1:
                settings = json.loads(text)
                said = ", ".join(f"{k}={settings.get(k, 'default')}" for k in differing)
                named = f"{label} ({said})"
            found += _by_seed(named, members)
    seeds = {seed_of(run) for run in runs}
    methods = []
    for label, members in found:
        here = {seed_of(run) for run in members}
        ordered = tuple(sorted(members, key=seed_of))
        methods.append(Method(label, ordered, tuple(sorted(seeds - here))))
    return tuple(sorted(methods, key=lambda method: method.label))


def _settings(run: RunResult) -> dict[str, Any]:
    """Parameters of the learner, and the store that its features are of."""
    params = dict(run.identity.get("learner", {}).get("params") or {})
    tuning = run.identity.get("tuning") or {}
    inner = {"tune-folds": tuning["folds"]} if tuning.get("folds") else {}
    tracks = run.identity.get("tracks") or {}
    seen = {
        name: tracks[name] for name in ("window", "bin", "tilings", "learn_from") if name in tracks
    }
    return params | inner | seen | {"store": _store_digest(run)[:8]}


def _differing(params: list[dict[str, Any]]) -> list[str]:
    names = sorted({name for one in params for name in one})
    return [name for name in names if len({_canonical(one.get(name)) for one in params}) > 1]


def _by_seed(label: str, runs: list[RunResult]) -> list[tuple[str, list[RunResult]]]:
    """One method, unless a seed stands twice.

    Then runs that agree in all that is said of learner and versions are a method each, and where a seed
    still stands twice every run is one.
    """
    if _once_a_seed(runs):
        return [(label, runs)]
    alike: dict[str, list[RunResult]] = defaultdict(list)
    for run in runs:
        said = {name: run.identity.get(name) for name in ("learner", "versions")}
        alike[_canonical(said)].append(run)
    parts = [
        part
        for members in alike.values()
        for part in ([members] if _once_a_seed(members) else [[run] for run in members])
    ]
    return [(f"{label} [{_short_digest(part[0])}]", part) for part in parts]


def _once_a_seed(runs: list[RunResult]) -> bool:
    return max(Counter(seed_of(run) for run in runs).values()) == 1


def _short_digest(run: RunResult) -> str:
    return str(run.run.get("identity_digest") or run.path.name)[:8]
