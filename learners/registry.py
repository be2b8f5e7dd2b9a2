"""Which learners there are: entry points of the group ``meristem.learners``.

Listing imports the modules that define learners, not what these need to fit.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from featurestore.errors import InputError, MissingDependencyError, unknown_name
from learners.base import Learner, LearnerInfo

GROUP: Final = "meristem.learners"

Parameter = str | int | float | bool | None

_EXTRAS: Final = {"torch": "torch", "xgboost": "boosting", "lightgbm": "boosting"}
"""Extra of this project that brings a module."""

_PACKAGES: Final = {"sklearn": "scikit-learn"}
"""Distribution of a module where the two are named differently."""

_WORDS: Final = {
    "true": True, "yes": True, "on": True, "1": True,
    "false": False, "no": False, "off": False, "0": False,
}  # fmt: skip


@dataclass(frozen=True)
class Unavailable:
    """A learner that is registered and cannot run here.

    Parameters
    ----------
    reason : str
        Why, and what mends it.
    info : LearnerInfo or None
        What it would be, where it could be imported.
    """

    reason: str
    info: LearnerInfo | None = None


def list_learners() -> dict[str, LearnerInfo | Unavailable]:
    """Every registered learner, by name; one that cannot run says why.

    A broken entry point of another package is listed as such and takes none of the others
    down. Where two packages register one name, the project's own wins and the other is listed
    as ``name (package)``.
    """
    found: dict[str, LearnerInfo | Unavailable] = {}
    for name, points in sorted(_points().items()):
        found[name] = _describe(points[0])
        for other in points[1:]:
            found[f"{name} ({_distribution(other)})"] = Unavailable(
                f"{other.value}: the name {name!r} is taken by {points[0].value}; the package "
                f"{_distribution(other)} must register another"
            )
    return found


def get_learner(name: str) -> type[Learner]:
    """The class behind a registered name, or behind ``package.module:Class``.

    The folder one stands in is searched too for ``package.module``.

    Raises
    ------
    UnknownNameError
        If nothing is registered under the name; with the nearest one.
    MissingDependencyError
        If the learner needs a module that is not installed; with the install line.
    InputError
        If the learner cannot be imported, or is not one.
    """
    if ":" in name:
        found = _user_class(name)
    else:
        points = _points()
        if name not in points:
            raise unknown_name("learner", name, points)
        try:
            found = points[name][0].load()
        except Exception as error:
            raise InputError(_broken(points[name][0], error)) from error
    info = _info_of(found, name)
    if missing := _missing(info):
        raise MissingDependencyError(f"learner {name!r}: {missing}")
    learner: type[Learner] = found
    return learner


def make_learner(name: str, params: Mapping[str, Parameter] | None = None) -> Learner:
    """Construct a learner; parameters are checked and converted by the types of its defaults.

    Strings (from a command line) become what the default is: ``"3"`` a whole number where the
    default is one, ``"true"`` a truth value, ``"none"`` None where the default is None.

    Raises
    ------
    UnknownNameError
        For an unknown learner or parameter.
    InputError
        For a value that is not of the default's type.
    """
    cls = get_learner(name)
    defaults = cls.info.defaults
    values = {}
    for key, value in (params or {}).items():
        if key not in defaults:
            raise unknown_name(f"parameter of learner {name!r}", key, defaults)
        values[key] = _convert(f"{name}: parameter {key}", value, defaults[key])
    return cls(**values)


def _points() -> dict[str, list[EntryPoint]]:
    """Entry points by name, the project's own first."""
    points: dict[str, list[EntryPoint]] = {}
    for point in entry_points(group=GROUP):
        known = points.setdefault(point.name, [])
        if all(point.value != other.value for other in known):
            known.append(point)
    for known in points.values():
        known.sort(key=lambda p: (not p.value.startswith("learners."), p.value))
    return points


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "unknown package"


def _describe(point: EntryPoint) -> LearnerInfo | Unavailable:
    try:
        info = _info_of(point.load(), point.name)
    except Exception as error:  # noqa: BLE001 - another package's import may raise anything
        return Unavailable(_broken(point, error))
    missing = _missing(info)
    return Unavailable(missing, info) if missing else info


def _broken(point: EntryPoint, error: Exception) -> str:
    return (
        f"broken: {point.value} of {_distribution(point)} fails on import "
        f"({type(error).__name__}: {error}); update or uninstall that package"
    )


def _info_of(found: Any, name: str) -> LearnerInfo:
    info = getattr(found, "info", None)
    if not isinstance(found, type) or not isinstance(info, LearnerInfo):
        raise InputError(
            f"{name}: {found!r} is no learner: a class with a class attribute `info` of "
            "learners.base.LearnerInfo is needed (docs/learners.md)"
        )
    return info


def _missing(info: LearnerInfo) -> str:
    """Why the modules it requires keep it from running, or an empty string."""
    absent = [module for module in info.requires if not _importable(module)]
    if not absent:
        return ""
    return f"needs {', '.join(absent)}, not installed here: {_install_line(absent)}"


def _importable(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def _install_line(modules: Iterable[str]) -> str:
    extras = sorted({_EXTRAS[m] for m in modules if m in _EXTRAS})
    others = [_PACKAGES.get(m, m) for m in modules if m not in _EXTRAS]
    wanted = ([f"'meristem[{','.join(extras)}]'"] if extras else []) + others
    return f"pip install {' '.join(wanted)}"


def _user_class(name: str) -> Any:
    module, _, attribute = name.partition(":")
    here = os.getcwd()
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        loaded = importlib.import_module(module)
    except Exception as error:
        raise InputError(
            f"learner {name!r}: cannot import {module!r} ({type(error).__name__}: {error}); "
            "give it as package.module:Class, installed or in this folder"
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    if not hasattr(loaded, attribute):
        public = [x for x in vars(loaded) if not x.startswith("_")]
        raise unknown_name(f"class of module {module!r}", attribute, public)
    return getattr(loaded, attribute)


def _convert(what: str, value: Parameter, default: Any) -> Parameter:
    """A value in the type of the default; a default of None takes a number, word or None."""
    if value is None or (isinstance(value, str) and value.lower() == "none" and default is None):
        if default is None:
            return None
        raise InputError(f"{what}: None is not taken; it is {default!r} by default")
    if default is None:
        return _literal(value) if isinstance(value, str) else value
    try:
        return _as_type(value, type(default))
    except (ValueError, KeyError, TypeError) as error:
        kind = {bool: "true or false", int: "a whole number", float: "a number"}
        wanted = kind.get(type(default), "text")
        raise InputError(
            f"{what}: {value!r} is not {wanted}; it is {default!r} by default"
        ) from error


def _as_type(value: str | int | float | bool, wanted: type) -> Parameter:
    if wanted is bool:
        return value if isinstance(value, bool) else _WORDS[str(value).lower()]
    if isinstance(value, bool):
        raise TypeError(value)
    if wanted is int:
        if isinstance(value, float):
            if not value.is_integer():
                raise ValueError(value)
            return int(value)
        return int(value)
    if wanted is str and isinstance(value, list | dict):
        return json.dumps(value)  # a text that is a list or an object, given as JSON
    return float(value) if wanted is float else str(value)


def _literal(text: str) -> Parameter:
    """A whole number, a number, a truth value or the text itself."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)
