"""Mistakes of one kind in one file: the first few are shown with their lines, the rest counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from featurestore.inputs.problems import Problems, shown

MOST_EXAMPLES = 3
_LONGEST_TEXT = 300


@dataclass
class _Kind:
    mend: str
    count: int = 0
    lines: list[int] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


@dataclass
class Findings:
    """Collects the mistakes of one file by kind; :meth:`report` makes one problem of each kind.

    Parameters
    ----------
    file : Path
    problems : Problems
        Where :meth:`report` puts them.
    """

    file: Path
    problems: Problems
    kinds: dict[str, _Kind] = field(default_factory=dict)

    def add(self, kind: str, mend: str, line: int, text: str) -> None:
        """Record one mistake of a kind at a 1-based line; ``text`` shows the values."""
        entry = self.kinds.setdefault(kind, _Kind(mend))
        entry.count += 1
        if len(entry.lines) < MOST_EXAMPLES:
            entry.lines.append(line)
            entry.texts.append(shown(text, _LONGEST_TEXT))

    def report(self) -> None:
        """Add one problem for each kind found, in the order of first finding."""
        for kind, entry in self.kinds.items():
            more = f", … ({entry.count:,} in all)" if entry.count > len(entry.lines) else ""
            place = "line" if len(entry.lines) == 1 else "lines"
            self.problems.add(
                self.file,
                f"{kind}: {'; '.join(entry.texts)}{more}",
                entry.mend,
                f"{place} {', '.join(map(str, entry.lines))}",
            )
        self.kinds.clear()
