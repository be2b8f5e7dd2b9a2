"""Progress of long work: one line that moves on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Final, TextIO

QUIET_SECONDS: Final = 10.0
"""Between two lines about one step where lines stay."""


class Progress:
    """Counts steps of known number, with rate and time left.

    Parameters
    ----------
    total : int
    stream : text stream
        stderr by default, so that stdout stays clean for ``--json``.
    each : str
        What a step is called.
    """

    def __init__(self, total: int, stream: TextIO | None = None, each: str = "fold") -> None:
        self.total = total
        self._each = each
        self.done = 0
        self._stream = sys.stderr if stream is None else stream
        self._moves = self._stream.isatty()
        self._start = time.monotonic()
        self._timed = 0
        self._said = self._start

    def step(self, text: str, *, timed: bool = True) -> None:
        """Say what was done; untimed steps (found from before) do not count for the rate."""
        self.done += 1
        self._timed += timed
        line = f"[{self.done}/{self.total}] {text}{self._left()}"
        if self._moves:
            self._stream.write("\r\x1b[K" + line[:200])
        else:
            self._stream.write(line + "\n")
        self._stream.flush()

    def during(self, text: str) -> None:
        """Say how a step is coming on: on a terminal each time, elsewhere every ten seconds."""
        now = time.monotonic()
        if self._moves:
            self._stream.write("\r\x1b[K" + f"[{self.done}/{self.total}] {text}"[:200])
        elif now - self._said >= QUIET_SECONDS:
            self._said = now
            self._stream.write(text + "\n")
        self._stream.flush()

    def say(self, text: str) -> None:
        """Say something that stays."""
        self._stream.write(("\r\x1b[K" if self._moves else "") + text + "\n")
        self._stream.flush()

    def close(self) -> None:
        """End the moving line."""
        if self._moves and self.done:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _left(self) -> str:
        if not self._timed or self.done >= self.total:
            return ""
        each = (time.monotonic() - self._start) / self._timed
        left = round(each * (self.total - self.done))
        minutes, seconds = divmod(left, 60)
        hours, minutes = divmod(minutes, 60)
        clock = f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
        return f" · {each:.1f} s a {self._each}, {clock} left"
