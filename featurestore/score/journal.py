"""What has been computed, on disk, so that a run that was stopped goes on where it was.

Windows are met in the same order in every run over one VCF, so the journal is read beside the
run and nothing of it stays in memory. Each row holds the digest of the window: a row that is not
the one expected (another VCF, another genome) ends the reading, and the rest is computed.
"""

from __future__ import annotations

import fcntl
import json
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import StoreLockedError

_KEY: Final = 16

Values = NDArray[Any]


class Journal:
    """Rows of digest, values, checksum, after one line that says of what model.

    Parameters
    ----------
    path : Path
    identity : mapping
        Plain types: all that decides the values. A journal of another identity is written anew.
    width : int
        Values of a row; the four log-probabilities of a masked model.
    dtype : str
        Of the values, little-endian.

    Raises
    ------
    StoreLockedError
        If another process writes it.
    """

    def __init__(
        self, path: Path, identity: Mapping[str, Any], *, width: int = 4, dtype: str = "<f8"
    ) -> None:
        self.path, self._width, self._dtype = path, width, np.dtype(dtype)
        self._row = _KEY + width * self._dtype.itemsize + 4
        head = (json.dumps(identity, sort_keys=True) + "\n").encode()
        # The file is open for as long as the journal lives; close() ends both.
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "r+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.close()
            raise StoreLockedError(
                f"{path}: another run is writing the same output; wait for it or give another --out"
            ) from error
        self._head = len(head)
        self._replaying = self._file.read(len(head)) == head
        if not self._replaying:
            self._restart(0)
            self._file.write(head)

    def _restart(self, at: int) -> None:
        self._replaying = False
        self._file.seek(at)
        self._file.truncate()

    def replay(self, keys: Sequence[bytes]) -> list[Values]:
        """Values of the first of these windows, as far as the journal goes on with them."""
        found: list[Values] = []
        for key in keys:
            if not self._replaying:
                break
            at = self._file.tell()
            row = self._file.read(self._row)
            body, check = row[:-4], row[-4:]
            if len(row) < self._row or body[:_KEY] != key or zlib.crc32(body).to_bytes(4) != check:
                self._restart(at)
            else:
                found.append(np.frombuffer(body, self._dtype, self._width, _KEY))
        return found

    def append(self, keys: Sequence[bytes], values: Values) -> None:
        """Add what was computed, shape (n, width)."""
        for key, value in zip(keys, values, strict=True):
            body = key + value.astype(self._dtype).tobytes()
            self._file.write(body + zlib.crc32(body).to_bytes(4))
        self._file.flush()

    def rows(self) -> Values:
        """Values of all rows in the order they were added, shape (n, width), read as they are asked for."""
        self._file.flush()
        kind = np.dtype([
            ("key", f"V{_KEY}"), ("value", self._dtype, (self._width,)), ("check", "V4"),
        ])  # fmt: skip
        count = (self.path.stat().st_size - self._head) // self._row
        if not count:
            return np.zeros((0, self._width), self._dtype)
        held = np.memmap(self.path, kind, "r", self._head, (count,))
        values: Values = held["value"]
        return values

    def close(self, *, remove: bool) -> None:
        """Close; ``remove`` once the output is complete."""
        if remove:
            self.path.unlink(missing_ok=True)
        self._file.close()
