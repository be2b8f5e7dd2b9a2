"""Bgzip: gzip in blocks of at most 64 kB, which ``tabix`` and ``bcftools`` can seek in.

SAM specification, section 4.1. What is written depends on the content alone, not on the time.
"""

from __future__ import annotations

import struct
import zlib
from typing import IO, Final

END: Final = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
"""The empty block that ends every complete file."""

_BLOCK: Final = 0xFF00
_HEAD: Final = bytes.fromhex("1f8b08040000000000ff0600424302") + b"\x00"


def is_bgzf(start: bytes) -> bool:
    """Whether the first 18 bytes of a file are those of a bgzip block."""
    return start[:4] == _HEAD[:4] and start[12:16] == _HEAD[12:16]


class BgzfWriter:
    """Writes bgzip blocks to a stream.

    Parameters
    ----------
    stream : binary file
        Not closed by this class.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._held = bytearray()

    def write(self, data: bytes) -> None:
        """Add bytes."""
        self._held += data
        while len(self._held) >= _BLOCK:
            self._block(bytes(self._held[:_BLOCK]))
            del self._held[:_BLOCK]

    def finish(self) -> None:
        """Write what is left and the end block."""
        if self._held:
            self._block(bytes(self._held))
            self._held.clear()
        self._stream.write(END)

    def _block(self, data: bytes) -> None:
        packer = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        body = packer.compress(data) + packer.flush()
        size = len(_HEAD) + 2 + len(body) + 8
        self._stream.write(_HEAD + struct.pack("<H", size - 1) + body)
        self._stream.write(struct.pack("<II", zlib.crc32(data), len(data)))
