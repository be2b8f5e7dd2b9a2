"""Checks tables of a parsed TOML file against pydantic models, and tells mistakes with lines."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from featurestore.errors import did_you_mean
from featurestore.inputs import toml_text
from featurestore.inputs.problems import Problems, examples, shown

_SAFE_NAME: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,99}")
# Files of the store itself; names that Zarr keeps for later (__…); devices of Windows, where a
# store may be copied to. A dot at the end is lost there.
_TAKEN: Final = re.compile(
    r"zarr\.json|manifest\.json|__.*|(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?|.*\."
)
_MOST_TOLD: Final = 20
# What pydantic puts into the place of an error when a union has several arms.
_ARM: Final = re.compile(r"\W|^(?:str|int|float|Path|dict|tuple|literal)$")

M = TypeVar("M", bound=BaseModel)


def is_safe_name(name: str) -> bool:
    """Whether a name can be a folder of the store."""
    return bool(_SAFE_NAME.fullmatch(name)) and not _TAKEN.fullmatch(name.lower())


Key = tuple[str, ...]


@dataclass
class TomlTables:
    """The file, the lines of its keys, and the report that mistakes go to."""

    path: Path
    lines: dict[Key, int]
    problems: Problems

    def add(self, key: Key, what: str, mend: str) -> None:
        """Record a mistake at the line of a key, or of the nearest table that encloses it."""
        self.problems.add(self.path, what, mend, toml_text.line_of(self.lines, key))

    def unknown_keys(self, at: Key, table: Iterable[str], known: Iterable[str]) -> None:
        """Tell every key of a table that is not known, with the nearest one that is."""
        known = list(known)
        where = f" in [{'.'.join(at)}]" if at else ""
        unknown = [key for key in table if key not in known]
        if len(unknown) > _MOST_TOLD:
            what = f"{len(unknown):,} unknown keys{where}, the first {examples(unknown)}"
            self.add((*at, unknown[0]), what, f"known keys: {', '.join(known)}")
        else:
            for key in unknown:
                what = f"unknown key {key!r}{where}.{did_you_mean(key, known)}"
                self.add((*at, key), what, f"known keys: {', '.join(known)}")

    def table(self, at: Key, value: Any) -> dict[str, Any]:
        """The value if it is a table, else an empty one, with the mistake told."""
        if isinstance(value, dict):
            return value
        dotted = ".".join(at)
        self.add(at, f"{dotted} = {value!r} is not a table", f"write it as a table: [{dotted}]")
        return {}

    def safe_name(self, at: Key, what: str, name: str) -> bool:
        """Whether a name can be a folder of the store; told if not."""
        if is_safe_name(name):
            return True
        self.add(
            at,
            f"{what} {shown(name)!r} cannot be the name of a folder",
            "use up to 100 letters, digits, '_', '.' and '-', not beginning or ending with '.', "
            "no name that Zarr, the store or Windows keeps for itself",
        )
        return False

    def validate(self, at: Key, model: type[M], raw: Mapping[str, Any]) -> M | None:
        """One table as a model; unknown keys are told and left out, other mistakes give None."""
        try:
            return model.model_validate(raw, context={"root": self.path.absolute().parent})
        except ValidationError as failure:
            errors = failure.errors()
        told: set[Key] = set()
        extra = [e["loc"] for e in errors if e["type"] == "extra_forbidden"]
        for error in sorted(errors, key=lambda e: -len(e["loc"])):  # the innermost first
            loc = tuple(str(part) for part in error["loc"])
            if error["type"] == "extra_forbidden":
                known = _fields(model, loc[:-1])
                self.unknown_keys((*at, *loc[:-1]), [loc[-1]], known)
                continue
            loc = tuple(part for part in loc if not _ARM.search(part))
            if loc in told:
                continue  # one mistake gives an error for each arm of a union
            told |= {loc[:i] for i in range(1, len(loc) + 1)}
            if error["type"] == "missing":
                what = f"[{'.'.join((*at, *loc[:-1]))}] lacks {loc[-1]!r}"
            else:
                what = f"{'.'.join((*at, *loc))} = {_value(raw, loc)!r}: {error['msg']}"
            self.add((*at, *loc), what, _mend(model, loc))
        if len(extra) < len(errors):
            return None
        return self.validate(at, model, _without(raw, extra))


def _fields(model: type[BaseModel], loc: Key) -> list[str]:
    for part in loc:
        field = model.model_fields.get(part)
        if field is None:
            continue  # a name of the user's within a mapping, such as that of a variant set
        arms = (field.annotation, *get_args(field.annotation))
        found = [a for a in arms if isinstance(a, type) and issubclass(a, BaseModel)]
        if not found:
            return []
        model = found[0]
    return list(model.model_fields)


def _value(raw: Any, loc: Key) -> Any:
    for part in loc:
        raw = raw.get(part) if isinstance(raw, Mapping) else raw
    return raw


def _mend(model: type[BaseModel], loc: Key) -> str:
    known = ", ".join(_fields(model, loc[:-1]))
    told = f"; known keys: {known}" if known else ""
    return f"correct {loc[-1]!r}{told}" if loc else f"known keys: {known}"


def _without(raw: Mapping[str, Any], locs: Iterable[tuple[str | int, ...]]) -> dict[str, Any]:
    copy: dict[str, Any] = {k: dict(v) if isinstance(v, dict) else v for k, v in raw.items()}
    for loc in locs:
        inner = copy
        for part in loc[:-1]:
            inner = inner[str(part)]
        inner.pop(str(loc[-1]), None)
    return copy
