"""The error tree of the project.

Every error derives from :class:`MeristemError` *and* from the built-in exception it is,
so a caller may catch either. ``exit_code`` is what the commands return: 1 failed,
2 usage or input, 3 incomplete or damaged store, 4 leakage.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Iterable


class MeristemError(Exception):
    """Base of all errors that this project raises on purpose."""

    exit_code = 1

    def __str__(self) -> str:
        # KeyError would show the repr of its argument; a message is for people.
        return str(self.args[0]) if self.args else self.__class__.__name__


class InputError(MeristemError, ValueError):
    """Something a user gave is wrong: a file, a value, a combination of options."""

    exit_code = 2


class InputFileNotFoundError(InputError, FileNotFoundError):
    """A file that a user named does not exist."""


class UnknownNameError(InputError, KeyError):
    """A name (species, embedder, learner, feature, gene …) that nothing is registered under."""


class MissingDependencyError(MeristemError, ImportError):
    """An optional dependency is not installed; the message gives the install line."""

    exit_code = 2


class StoreError(MeristemError):
    """Base of errors about a store on disk."""

    exit_code = 3


class StoreNotFoundError(StoreError, FileNotFoundError):
    """There is no store at the path given."""

    exit_code = 2


class SchemaVersionError(StoreError, ValueError):
    """The store was written by a schema this version cannot read right."""


class RemoteStoreError(StoreError, ConnectionError):
    """A store on the network does not answer, or may not be read or written."""

    exit_code = 1


class DamagedStoreError(StoreError, OSError):
    """A file of the store is missing, short, or not what the manifest says."""


class IncompleteStoreError(StoreError, RuntimeError):
    """A build has shards that were not finished."""


class StoreLockedError(MeristemError, BlockingIOError):
    """Another process is building this store."""


class StorageError(MeristemError, OSError):
    """The place where a store is built is full, may not be written, or is gone."""


class ClusterError(MeristemError, RuntimeError):
    """The cluster that should build a store cannot be used, or was lost."""


class FetchError(MeristemError, ConnectionError):
    """A public file cannot be had, or is not what is published."""


class LeakageError(MeristemError, ValueError):
    """A gene family stands on two sides of a split."""

    exit_code = 4


# Likeness takes the product of two names' lengths, for every name that there is.
_LONGEST_COMPARED = 100
_MOST_COMPARED = 5000


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the closest known name, or an empty string.

    Names longer than a person types are not compared, nor more than the first few thousand.
    """
    if len(name) > _LONGEST_COMPARED:
        return ""
    by_folded = {k.casefold(): k for k in known if len(k) <= _LONGEST_COMPARED}
    if name.casefold() in by_folded:
        return f" Did you mean {by_folded[name.casefold()]!r}?"
    first = list(itertools.islice(by_folded, _MOST_COMPARED))
    close = [by_folded[k] for k in difflib.get_close_matches(name.casefold(), first, 1, 0.6)]
    return f" Did you mean {close[0]!r}?" if close else ""


def unknown_name(what: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """Build the error for a name that is not in a registry, with the nearest and all known ones."""
    names = sorted(known)
    told = [n if n.isprintable() else repr(n) for n in (n[:_LONGEST_COMPARED] for n in names[:20])]
    listing = ", ".join(told) + (f", … ({len(names)} in all)" if len(names) > 20 else "")
    return UnknownNameError(
        f"unknown {what} {name[:_LONGEST_COMPARED]!r}.{did_you_mean(name, names)} Known: {listing or 'none'}."
    )
