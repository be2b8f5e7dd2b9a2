"""Features that a learner is defined by, found in a store by the type of their embedder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.inputs.features import CODES, Term, common_embedders, parse
from benchmarks.inputs.genome_windows import GENOME
from featurestore.errors import InputError


def own_features(
    store: Any, species: Sequence[str], cls: type[Any], params: Mapping[str, Any]
) -> str | None:
    """The features that a learner names itself, as groups of the store; None where it names none.

    A class may carry ``wanted_features(params)``, which gives a feature expression or None. Its
    groups are types of embedders: a group of that very name is taken, else the one group whose
    embedder is of that type, whatever it is called.

    Raises
    ------
    InputError
        If the store has no such group, or several, or the group lacks the array.
    """
    asked = getattr(cls, "wanted_features", None)
    wanted = None if asked is None else asked(params)
    if not wanted:
        return None
    return "+".join(str(_found(store, species, term, cls.info.name)) for term in parse(wanted))


def _found(store: Any, species: Sequence[str], term: Term, learner: str) -> Term:
    if term.group == GENOME:  # no embedder; what reads it tells where there is none
        return term
    known = common_embedders(store, species)
    types = {
        name: str(store.embedder_attrs(species[0], name).get("type") or name) for name in known
    }
    fitting = [name for name in known if types[name] == term.group]
    if term.group in known:
        fitting = [term.group]
    if len(fitting) != 1:
        told = ", ".join(known) or "no features"
        advice = (
            f"it has several: {', '.join(fitting)}; choose with --learner {learner}@FEATURES"
            if fitting
            else f"{store.path} holds {told} for {', '.join(species)}. Build it with: fs build DATASET "
            f"--store {store.path} --embedder {term.group}"
        )
        raise InputError(f"{learner} is defined on features of {term.group}; {advice}")
    if term.array and fitting[0] != CODES:
        outputs = list(store.embedder_attrs(species[0], fitting[0])["outputs"])
        if term.array not in outputs:
            raise InputError(
                f"{learner} is defined on {term.source}; the group {fitting[0]} of {store.path} holds "
                f"{', '.join(outputs)}. Build it again with that output"
            )
    return replace(term, group=fitting[0])
