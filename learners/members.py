"""Which learners a learner of learners is made of, each with its features and parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from featurestore.errors import InputError, unknown_name
from featurestore.untrusted import parse_json


@dataclass(frozen=True)
class Member:
    """A learner by its registered name.

    Parameters
    ----------
    learner : str
    features : str
        Names of features joined with ``+``; empty for all that it takes.
    params : mapping
        Parameters that are not its defaults.
    """

    learner: str
    features: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        told = ", ".join(f"{key}={json.dumps(value)}" for key, value in self.params.items())
        place = f"{self.learner}@{self.features}" if self.features else self.learner
        return f"{place}[{told}]" if told else place

    def __hash__(self) -> int:
        return hash(str(self))


def parse_members(text: str) -> tuple[Member, ...]:
    """Members from ``NAME[@FEATURES],…``, or from a JSON list of such names and of objects.

    An object has the keys ``learner``, and optionally ``features`` and ``params``.

    Raises
    ------
    InputError
        If the text is neither, names nobody, or the same member twice.
    """
    text = text.strip()
    if text.startswith("["):
        try:
            parts = parse_json(text)
        except ValueError as error:
            raise InputError(f"members {text[:200]!r}: no JSON ({error})") from error
    else:
        parts = [part.strip() for part in text.split(",")]
    members = tuple(_member(part, text) for part in parts)
    if not members:
        raise InputError(f"members {text[:200]!r}: name at least one, as in ridge@kmer,knn@kmer")
    told = [str(one) for one in members]
    if twice := sorted({one for one in told if told.count(one) > 1}):
        raise InputError(f"members {text[:200]!r}: {', '.join(twice)} stands twice")
    return members


def members_text(members: Sequence[Member]) -> str:
    """What :func:`parse_members` reads again; plain names where none has parameters."""
    if not any(one.params for one in members):
        return ",".join(str(one) for one in members)
    listed = [
        {"learner": one.learner, "features": one.features, "params": dict(one.params)}
        for one in members
    ]
    return json.dumps(listed, ensure_ascii=False)


def _member(part: Any, text: str) -> Member:
    if isinstance(part, str):
        name, at, features = part.partition("@")
        if not name or (at and not features):
            raise InputError(f"members {text[:200]!r}: {part!r} is not of the form NAME[@FEATURES]")
        return Member(name.strip(), features.strip())
    if not isinstance(part, dict):
        raise InputError(f"members {text[:200]!r}: {str(part)[:50]} is no name and no object")
    for key in part:
        if key not in ("learner", "features", "params"):
            raise unknown_name("key of a member", str(key), ("learner", "features", "params"))
    params = part.get("params") or {}
    named = isinstance(part.get("learner"), str) and isinstance(part.get("features") or "", str)
    if not (named and part["learner"] and isinstance(params, dict)):
        raise InputError(
            f"members {text[:200]!r}: a member has a text `learner`, and may have a text "
            "`features` and an object `params`"
        )
    return Member(part["learner"], part.get("features") or "", params)
