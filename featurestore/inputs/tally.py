"""Counts what could not be used as it stands, by reason, with the first examples of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

MOST_EXAMPLES: Final = 3


@dataclass
class Tally:
    """Counts by reason; nothing is dropped that does not stand here."""

    counts: dict[str, int] = field(default_factory=dict)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, example: str = "", count: int = 1) -> None:
        """Count ``count`` cases of a reason."""
        self.counts[reason] = self.counts.get(reason, 0) + count
        shown = self.examples.setdefault(reason, [])
        if example and len(shown) < MOST_EXAMPLES:
            # What files hold is shown, and must do nothing to a terminal.
            shown.append(example if example.isprintable() else ascii(example))

    def facts(self) -> list[dict[str, Any]]:
        """As plain JSON types, in order of reason."""
        return [
            {"reason": reason, "count": count, "examples": self.examples[reason]}
            for reason, count in sorted(self.counts.items())
        ]

    def sentences(self) -> list[str]:
        """One sentence a reason."""
        return [
            f"{count:,} × {reason}"
            + (
                f", for example {'; '.join(self.examples[reason])}."
                if self.examples[reason]
                else "."
            )
            for reason, count in sorted(self.counts.items())
        ]
