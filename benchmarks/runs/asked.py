"""The learners a run is asked for: with features, parameters, members, and what is tuned of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from benchmarks.inputs.features import (
    check_kinds,
    default_features,
    parse,
    resolve,
    takes_no_features,
)
from benchmarks.inputs.own_features import own_features
from benchmarks.runs.plans import LearnerPlan, RunOptions, read_params, split_learner
from benchmarks.tuning.plan import require_optuna, tuning_of
from featurestore.errors import InputError
from learners.base import LearnerInfo
from learners.members import Member, members_text, parse_members
from learners.registry import get_learner, make_learner

MEMBERS: Final = "of"
"""Parameter that names the members of a learner of learners."""

_OF: Final = re.compile(r"(?P<name>[^(@]+)\((?P<members>.*)\)(?:@(?P<features>.+))?", re.DOTALL)


class Asked(NamedTuple):
    """One ``--learner``: name, features if given, members if given."""

    name: str
    features: str | None
    members: str | None


def read_learner(text: str) -> Asked:
    """``NAME``, ``NAME@FEATURES``, or ``stack(NAME@FEATURES,…)``.

    Raises
    ------
    InputError
        If it is none of them.
    """
    match = _OF.fullmatch(text.strip())
    if match is not None:
        return Asked(match["name"].strip(), match["features"], match["members"])
    return Asked(*split_learner(text), None)


def learners_asked(
    store: Any, species: Sequence[str], options: RunOptions
) -> tuple[list[LearnerPlan], list[str]]:
    """Plans of the learners that a run is asked for, each once, and what is to be said of them.

    Raises
    ------
    InputError
        If an option is wrong; before anything is fitted.
    """
    if not options.learners:
        raise InputError("no learner; name one with --learner (bench learners lists them)")
    asked = [read_learner(text) for text in dict.fromkeys(options.learners)]
    classes = {one.name: get_learner(one.name) for one in asked}
    params = read_params(options.params, {name: cls.info for name, cls in classes.items()})
    plans: list[LearnerPlan] = []
    for one in asked:
        plan = _plan(store, species, options, one, classes[one.name], dict(params[one.name]))
        if options.spread == "rows" and not plan.info.distributed:
            raise InputError(
                f"{one.name} cannot spread one fit over workers; leave out --spread rows, and the "
                "workers of --scheduler fit a fold each"
            )
        if plan.label not in {known.label for known in plans}:
            plan.make()  # a wrong parameter or a missing package is told now, not after hours
            plans.append(plan)
    return plans, _untuned(plans, options)


def _plan(
    store: Any,
    species: Sequence[str],
    options: RunOptions,
    asked: Asked,
    cls: type[Any],
    params: dict[str, Any],
) -> LearnerPlan:
    info: LearnerInfo = cls.info
    tuning = None
    if options.tune is not None:
        require_optuna()
        tuning = tuning_of(cls, params, options.tune, options.tune_folds)
    if asked.members is not None and MEMBERS not in info.defaults:
        raise InputError(f"--learner {asked.name}(…): {asked.name} is not made of other learners")
    if MEMBERS in info.defaults:
        told = asked.members
        if told is None:
            told = str(make_learner(asked.name, params).of)  # type: ignore[attr-defined]
        named = asked.features or options.features
        members = [_placed(store, species, one, named) for one in parse_members(told)]
        params[MEMBERS] = members_text(members)
        features = "+".join(
            dict.fromkeys(str(t) for m in members if m.features for t in parse(m.features))
        )
        return LearnerPlan(asked.name, cls, features, params, tuning, tuple(members))
    if options.task == "tracks":
        if asked.features or options.features:
            raise InputError(
                f"task tracks hands windows of the genome to {asked.name} itself: leave out features, "
                "and say how long windows are with --window"
            )
        chosen = ""
    elif takes_no_features(info):
        chosen = ""
    else:
        own = own_features(store, species, cls, params) if asked.features is None else None
        chosen = asked.features or own or options.features or default_features(store, species, info)
    return LearnerPlan(asked.name, cls, chosen, params, tuning)


def _placed(store: Any, species: Sequence[str], member: Member, features: str | None) -> Member:
    """A member with its features, which it takes."""
    cls = get_learner(member.learner)
    info = cls.info
    if takes_no_features(info):
        return Member(member.learner, "", member.params)
    own = None if member.features else own_features(store, species, cls, member.params)
    chosen = member.features or own or features or default_features(store, species, info)
    found = resolve(store, species, chosen)
    check_kinds(found, info, store, species)
    return Member(member.learner, found.name, member.params)


def _untuned(plans: Sequence[LearnerPlan], options: RunOptions) -> list[str]:
    """Learners that ``--tune`` leaves as they are, in words."""
    if options.tune is None:
        return []
    if options.tune < 1:
        raise InputError(f"--tune {options.tune}: at least one trial")
    if options.tune_folds < 1:
        raise InputError(f"--tune-folds {options.tune_folds}: at least one")
    plain = sorted({plan.info.name for plan in plans if plan.tuning is None})
    if len(plain) == len({plan.info.name for plan in plans}):
        raise InputError(
            f"--tune {options.tune}: {', '.join(plain)} has no search space, so there is nothing to "
            "tune; leave out --tune (bench learners --json lists what each can tune)"
        )
    told = ", ".join(plain)
    return [f"{told} has no search space and runs untuned"] if plain else []
