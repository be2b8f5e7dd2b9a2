"""What a check of a store found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One thing wrong: the file (path within the store) and what is wrong with it."""

    file: str
    what: str
