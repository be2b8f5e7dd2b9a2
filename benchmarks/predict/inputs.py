"""What a run's features were made of, and whether a store or a data set makes the same.

A model is right only for vectors made as those it was fitted on: same windows, same bins, same
weights, same recipe. What differs is refused by name, never guessed at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, Final

from benchmarks.inputs.features import parse
from benchmarks.inputs.genome_windows import GENOME
from featurestore.embedders.base import EmbedderSpec
from featurestore.errors import InputError

FREE: Final = frozenset({"name", "packages", "batch", "costly"})
"""What of an embedder's record may differ: a name, versions of libraries, how many rows are run at once."""

_DESCRIBING: Final = frozenset({"checkpoint", "licence", "pretraining_species"})
"""What may differ besides where a digest tells that the weights are the same."""

_SHOWN: Final = 60
_DEFAULTS: Final = {
    one.name: one.default
    for one in fields(EmbedderSpec)
    if one.default is not MISSING and one.name not in FREE
}


def recorded_inputs(store: Any, species: Sequence[str], features: str) -> dict[str, Any]:
    """What run.json keeps of the features: regions, bin, and each embedder's settings.

    Returns
    -------
    dict
        ``regions`` (list of name, anchor, upstream, downstream), ``bin`` (bp), ``embedders`` by
        group: everything that decides its values.
    """
    about = store.attrs.get("meristem", {})
    groups = dict.fromkeys(t.group for t in parse(features)) if features else {}
    groups.pop(GENOME, None)  # made by no embedder: the expression says all
    return {
        "regions": about.get("regions"),
        "bin": about.get("bin"),
        "embedders": {group: store.embedder_attrs(species[0], group) for group in groups},
    }


def required_inputs(run: Mapping[str, Any], where: str) -> dict[str, Any]:
    """``inputs`` of a run.json.

    Raises
    ------
    InputError
        If the run was made before runs recorded them.
    """
    inputs = run.get("inputs")
    if not inputs or not inputs.get("regions") or not inputs.get("bin"):
        raise InputError(
            f"{where}: its run.json does not say which windows and embedders its features were made of; "
            "run it again with this version"
        )
    found: dict[str, Any] = inputs
    return found


def check_regions(
    wanted: Sequence[Mapping[str, Any]], found: Sequence[Mapping[str, Any]], where: str
) -> None:
    """Refuse regions that are not those of the run.

    Raises
    ------
    InputError
        Naming both.
    """
    if [_region(one) for one in wanted] != [_region(one) for one in found]:
        raise InputError(
            f"{where}: its regions are {_told(found)}, the run was trained on {_told(wanted)}; "
            "build a store with the regions of the run"
        )


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """How an embedder differs from the one of the run; empty where its values are the same.

    Parameters
    ----------
    wanted, found : mapping
        As ``store.embedder_attrs`` or ``EmbedderSpec.identity`` give them.
    """
    free = FREE | _DESCRIBING if wanted.get("digest") else FREE
    # A setting that an older version did not record had what is now its default.
    one, other = (
        dict(_flat({**_DEFAULTS, **wanted}, free)),
        dict(_flat({**_DEFAULTS, **found}, free)),
    )
    return [
        f"{key} is {_short(other.get(key))}, in the run {_short(one.get(key))}"
        for key in sorted(one.keys() | other.keys())
        if one.get(key) != other.get(key)
    ]


def match_store(
    run: Mapping[str, Any], store: Any, species: Sequence[str], where: str
) -> dict[str, str]:
    """Groups of a store that hold what the features of a run were made of.

    A group may have another name than in the run if it holds the same.

    Returns
    -------
    dict
        Group of the run to group of the store.

    Raises
    ------
    InputError
        If regions or bin differ, or an embedder is missing or another; all in one message.
    """
    inputs = required_inputs(run, where)
    for one in species:
        facts = store.meta(one, "")["attributes"]["meristem"]
        check_regions(inputs["regions"], facts["regions"], f"{store.path}, {one}")
    size = store.attrs["meristem"]["bin"]
    problems = []
    if size != inputs["bin"] and set(inputs["embedders"]) - {"onehot"}:
        problems.append(f"bins are {size} bp, in the run {inputs['bin']} bp")
    chosen = {}
    for group, wanted in inputs["embedders"].items():
        name, why = _find(group, wanted, store, species)
        problems += why
        chosen[group] = name
    if problems:
        raise InputError(
            f"{store.path}: not what {where} was trained on:\n  "
            + "\n  ".join(problems)
            + "\nbuild the features of the run with: bench predict --model RUN DATASET"
        )
    return chosen


def _find(
    group: str, wanted: Mapping[str, Any], store: Any, species: Sequence[str]
) -> tuple[str, list[str]]:
    """The group that holds what was wanted, or why none does."""
    known = [set(store.embedders(one)) for one in species]
    common = set.intersection(*known) if known else set()
    if group in common:
        told = [
            f"{one}, {group}: {text}"
            for one in species
            for text in differences(wanted, store.embedder_attrs(one, group))
        ]
        if not told:
            return group, []
    else:
        told = [f"there is no embedder {group!r} (it has {', '.join(sorted(common)) or 'none'})"]
    for name in sorted(common - {group}):
        if all(not differences(wanted, store.embedder_attrs(one, name)) for one in species):
            return name, []
    return group, told


def _region(region: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(region.get(key) for key in ("name", "anchor", "upstream", "downstream"))


def _told(regions: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(
        f"{one.get('name')} {one.get('anchor')} −{one.get('upstream')} … +{one.get('downstream')}"
        for one in regions
    )


def _flat(
    value: Mapping[str, Any], free: frozenset[str], at: str = ""
) -> Iterator[tuple[str, Any]]:
    for key, item in value.items():
        if key in free:
            continue
        if isinstance(item, Mapping):
            yield from _flat(item, free, f"{at}{key}.")
        else:
            yield f"{at}{key}", list(item) if isinstance(item, tuple) else item


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
