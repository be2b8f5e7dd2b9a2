"""Finds embedders by entry point (group ``meristem.embedders``) and makes configured ones."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

from featurestore.embedders.base import Embedder
from featurestore.errors import InputError, MeristemError, MissingDependencyError, unknown_name

GROUP: Final = "meristem.embedders"


@dataclass(frozen=True)
class EmbedderListing:
    """One line of ``fs embedders``: available, or why not, and which path would compute it here."""

    type: str
    available: bool
    summary: str
    parameters: dict[str, Any]
    origin: str
    reason: str = ""
    path: str = ""


def _types() -> Mapping[str, EntryPoint]:
    return _types_on(tuple(sys.path))


@lru_cache(maxsize=4)
def _types_on(path: tuple[str, ...]) -> Mapping[str, EntryPoint]:
    """Registered types; reading what every installed package declares takes 40 ms each time."""
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)}


def embedder_class(type_name: str) -> type[Any]:
    """The class registered under a type.

    Raises
    ------
    UnknownNameError
        With the nearest registered type.
    MissingDependencyError
        If its module cannot be imported.
    """
    known = _types()
    if type_name not in known:  # it may have been installed meanwhile
        _types_on.cache_clear()
        known = _types()
    if type_name not in known:
        raise unknown_name("embedder type", type_name, known)
    try:
        loaded: type[Any] = known[type_name].load()
    except Exception as error:
        raise MissingDependencyError(
            f"embedder {type_name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return loaded


def make_embedder(name: str, config: Mapping[str, Any] | None = None) -> Embedder:
    """An embedder from its configuration (``[embedders.NAME]`` of a data set).

    Parameters
    ----------
    name : str
        Group name in the store; also the type where the configuration names none.
    config : mapping
        ``type`` and constructor parameters.
    """
    settings = dict(config or {})
    cls = embedder_class(str(settings.pop("type", name)))
    accepted = inspect.signature(cls).parameters
    for key in settings:
        if key not in accepted:
            raise InputError(f"[embedders.{name}]: {unknown_name('setting', key, accepted)}")
    try:
        embedder: Embedder = cls(**settings)
    except TypeError as error:
        raise InputError(f"[embedders.{name}]: {error}") from error
    return embedder


def list_embedders() -> list[EmbedderListing]:
    """Every registered type; one that cannot be used says why.

    A type that needs a checkpoint is asked by its ``availability()``, which says in words what
    would compute it on this machine; any other one is made and loaded.
    """
    rows = []
    _types_on.cache_clear()
    for name, point in _types().items():
        origin = point.dist.name if point.dist else "?"
        try:
            cls = embedder_class(name)
            if (ask := getattr(cls, "availability", None)) is not None:
                path = str(ask())
            else:
                path = ""
                make_embedder(name).load("cpu")
        except (MeristemError, OSError) as error:
            rows.append(EmbedderListing(name, False, "", {}, origin, str(error)))
            continue
        summary = (inspect.getdoc(cls) or "").split("\n")[0]
        defaults = {k: p.default for k, p in inspect.signature(cls).parameters.items()}
        rows.append(EmbedderListing(name, True, summary, defaults, origin, path=path))
    return rows
