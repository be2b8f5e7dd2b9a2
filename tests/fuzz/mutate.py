"""Changes to a valid file: pieces put in, taken out, doubled and moved, numbers made extreme."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass

PIECES = (
    b"\0", b"\t", b"\n", b"\r", b"\r\n", b'"', b"'", b",", b";", b":", b"=", b"#", b">", b" ", b"-", b"/", b"..",
    b"../", b"%0A", b"\xff", b"\xfe\xff", b"\x1b[31m", b"\xef\xbb\xbf", b"\xe2\x80\xae", b"\x1f\x8b", b"PK\x03\x04",
    b"NaN", b"inf", b"-inf", b"1e999", b"-1", b"1_0", b"0x10", b"9" * 30, b"9" * 5000, b"null", b"true", b"[]", b"{}",
    b"[" * 2000, b'{"a":' * 300, b"\n\n", b"\t" * 9, b'"""', b"\\", b"\\u0000", b"Parent=", b"ID=", b'gene_id "',
    b"gene", b"[[", b"{", b"}", b"]", "１２".encode(), "é".encode("latin-1"), b"=1+1", b"__proto__", b"\x80\x04",
)  # fmt: skip
NUMBERS = (
    b"0", b"-1", b"1", b"255", b"65536", b"2147483648", b"4294967296", b"9223372036854775807",
    b"9223372036854775808", b"18446744073709551616", b"1000000000000000", b"0.5", b"1e308", b"1e400", b"-0",
)  # fmt: skip
KINDS = 10


@dataclass(frozen=True)
class Change:
    """One change: what kind, where, how long, and which piece or number."""

    kind: int
    at: int
    length: int
    piece: int


def random_changes(rng: random.Random) -> list[Change]:
    """One to six changes."""
    return [
        Change(rng.randrange(KINDS), rng.randrange(1 << 20), rng.randrange(64), rng.randrange(256))
        for _ in range(rng.randint(1, 6))
    ]


def changed(seed: bytes, changes: Sequence[Change], pieces: Sequence[bytes] = ()) -> bytes:
    """The file with the changes made, one after the other."""
    data = seed
    for change in changes:
        data = _apply(data, change, (*pieces, *PIECES))[: 1 << 20]
    return data


def _apply(data: bytes, change: Change, pieces: Sequence[bytes]) -> bytes:
    at = change.at % (len(data) + 1)
    end = at + change.length
    piece = pieces[change.piece % len(pieces)]
    if change.kind == 0:
        return data[:at] + piece + data[at:]
    if change.kind == 1:
        return data[:at] + piece + data[end:]
    if change.kind == 2:
        return data[:at] + data[end:]
    if change.kind == 3:  # bits of one byte
        return (
            data[:at] + bytes(b ^ (change.piece or 1) for b in data[at : at + 1]) + data[at + 1 :]
        )
    if change.kind == 4:
        return data[:at] + data[at:end] * (2 + change.piece % 40) + data[end:]
    if change.kind == 5:
        return data[:at]
    if change.kind in (6, 7):
        return _other_number(data, change)
    return _moved_lines(data, change)


def _other_number(data: bytes, change: Change) -> bytes:
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data[: 1 << 16]))
    if not found:
        return data
    one = found[change.at % len(found)]
    return data[: one.start()] + NUMBERS[change.piece % len(NUMBERS)] + data[one.end() :]


def _moved_lines(data: bytes, change: Change) -> bytes:
    lines = data.split(b"\n")
    one = lines.pop(change.at % len(lines))
    times = 1 if change.kind == 8 else 2 + change.length % 8
    to = change.piece % (len(lines) + 1)
    return b"\n".join([*lines[:to], *([one] * times), *lines[to:]])
