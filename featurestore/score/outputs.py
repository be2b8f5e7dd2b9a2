"""Scores as an annotated VCF or as a table; a file appears whole or not at all."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from featurestore.score.alleles import REASONS, Site, base_code
from featurestore.score.bgzf import BgzfWriter
from featurestore.score.records import Record

ENDINGS: Final = (".vcf", ".vcf.gz", ".vcf.bgz", ".tsv", ".tsv.gz", ".tsv.bgz")

COLUMNS: Final = (
    "contig", "pos", "id", "ref", "alt", "llr", "p_ref", "p_alt", "entropy", "status", "reason",
)  # fmt: skip

INFO: Final = {
    "MERISTEM_LLR": ("A", "Float", "ln(P_alt / P_ref) of the masked base; negative: the model expects ALT less than REF"),
    "MERISTEM_PREF": ("1", "Float", "Probability of REF among A, C, G, T at the masked position"),
    "MERISTEM_PALT": ("A", "Float", "Probability of ALT among A, C, G, T at the masked position"),
    "MERISTEM_ENTROPY": ("1", "Float", "Entropy in bits of the four probabilities: 0 certain, 2 uniform"),
    "MERISTEM_NOTE": ("1", "String", "Why alleles of a SNV record have no score, or a remark; words joined by &: " + ", ".join(REASONS)),
}  # fmt: skip
"""Number, type, description of each key."""

_OURS: Final = re.compile(rb"##(?:meristem_score=|INFO=<ID=MERISTEM_[A-Z]+,)")


class Writer(Protocol):
    """Where bytes go."""

    def write(self, data: bytes) -> Any:
        """Add bytes."""


class Output(Protocol):
    """A format of scores."""

    def header(self, lines: Sequence[bytes], facts: Mapping[str, Any]) -> None:
        """Write what stands on top: the header of the VCF is given with its endings."""

    def write(self, record: Record, site: Site, values: NDArray[np.float64] | None) -> None:
        """Write one record; ``values`` are four log-probabilities, or None where nothing is scored."""


def number(value: float) -> str:
    """Six significant digits."""
    return f"{value + 0.0:.6g}"  # no negative zero


def entropy_bits(values: NDArray[np.float64]) -> float:
    """Entropy in bits of four log-probabilities."""
    return abs(float(-(np.exp(values) * values).sum() / math.log(2)))


def llr(values: NDArray[np.float64], ref: str, alt: str) -> float:
    """ln(P_alt / P_ref)."""
    return float(values[base_code(alt)] - values[base_code(ref)])


class VcfOutput:
    """The VCF as it came, with INFO keys; records that hold no SNV keep every byte."""

    def __init__(self, stream: Writer) -> None:
        self._stream = stream

    def header(self, lines: Sequence[bytes], facts: Mapping[str, Any]) -> None:
        """Header lines of the file, then ours, then ``#CHROM``."""
        kept = [line for line in lines[:-1] if not _OURS.match(line)]
        ending = lines[-1][len(lines[-1].rstrip(b"\r\n")) :] or b"\n"
        if not kept or not kept[0].startswith(b"##fileformat="):
            kept.insert(0, b"##fileformat=VCFv4.2" + ending)
        own = [
            f'##INFO=<ID={key},Number={count},Type={kind},Description="{what}">'
            for key, (count, kind, what) in INFO.items()
        ]
        fields = ",".join(f"{key}={_quoted(value)}" for key, value in facts.items())
        own.append(f"##meristem_score=<ID=score,{fields}>")
        added = [line.encode() + ending for line in own]
        self._stream.write(b"".join([*kept, *added, lines[-1]]))

    def write(self, record: Record, site: Site, values: NDArray[np.float64] | None) -> None:
        """One line of the file."""
        info = _without_ours(record.info)
        if site.is_snv:
            added = ";".join(f"{k}={v}" for k, v in _info(site, values).items()).encode()
            info = added if info in {b".", b""} else info + b";" + added
        self._stream.write(record.with_info(info))


def _without_ours(info: bytes) -> bytes:
    """INFO without keys of an earlier run."""
    if b"MERISTEM_" not in info:
        return info
    own = {key.encode() for key in INFO}
    return b";".join(f for f in info.split(b";") if f.partition(b"=")[0] not in own) or b"."


def _quoted(value: object) -> str:
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'


def _info(site: Site, values: NDArray[np.float64] | None) -> dict[str, str]:
    found: dict[str, str] = {}
    pairs = list(zip(site.alts, site.reasons, strict=True))
    if values is not None:
        probability = np.exp(values)
        found = {
            "MERISTEM_LLR": ",".join(
                "." if why else number(llr(values, site.ref, alt)) for alt, why in pairs
            ),
            "MERISTEM_PREF": number(probability[base_code(site.ref)]),
            "MERISTEM_PALT": ",".join(
                "." if why else number(probability[base_code(alt)]) for alt, why in pairs
            ),
            "MERISTEM_ENTROPY": number(entropy_bits(values)),
        }
    notes = dict.fromkeys(r for r in (*site.reasons, site.remark) if r)
    return found | ({"MERISTEM_NOTE": "&".join(notes)} if notes else {})


def rows(record: Record, site: Site, values: NDArray[np.float64] | None) -> Iterator[list[Any]]:
    """One row of :data:`COLUMNS` for each ALT; None where there is no value."""
    name = record.columns[2].decode("utf-8", "replace")
    for alt, reason in zip(site.alts, site.reasons, strict=True):
        numbers: list[float | None] = [None] * 4
        if not reason and values is not None:
            probability = np.exp(values)
            numbers = [
                llr(values, site.ref, alt), float(probability[base_code(site.ref)]),
                float(probability[base_code(alt)]), entropy_bits(values),
            ]  # fmt: skip
        status = "not_scored" if reason else "scored"
        yield [
            site.contig, site.position + 1, name, site.ref, alt, *numbers, status,
            reason or site.remark,
        ]  # fmt: skip


class TsvOutput:
    """A table, one row for each ALT; NA where there is no value, ``.`` for no reason."""

    def __init__(self, stream: Writer) -> None:
        self._stream = stream

    def header(self, lines: Sequence[bytes], facts: Mapping[str, Any]) -> None:
        """Names of the columns."""
        self._stream.write(("\t".join(COLUMNS) + "\n").encode())

    def write(self, record: Record, site: Site, values: NDArray[np.float64] | None) -> None:
        """Rows of one record."""
        for row in rows(record, site, values):
            cells = [number(c) if isinstance(c, float) else str(c) for c in row]
            cells[5:9] = ["NA" if c == "None" else c for c in cells[5:9]]
            cells[-1] = cells[-1] or "."
            self._stream.write(("\t".join(cells) + "\n").encode())


def form_of(path: Path) -> str:
    """``vcf`` or ``tsv``, by the ending of a file.

    Raises
    ------
    InputError
        For any other ending.
    """
    for ending in ENDINGS:
        if path.name.endswith(ending):
            return ending.split(".")[1]
    raise InputError(f"{path}: what format is this? Let --out end in one of {', '.join(ENDINGS)}")


@contextmanager
def whole_file(path: Path) -> Iterator[Writer]:
    """A file that takes its name once all of it is written; ``.gz`` and ``.bgz`` are bgzip."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb", buffering=1 << 20) as stream:
            if path.suffix in {".gz", ".bgz"}:
                packed = BgzfWriter(stream)
                yield packed
                packed.finish()
            else:
                yield stream
            _settle(stream)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _settle(stream: IO[bytes]) -> None:
    stream.flush()
    os.fsync(stream.fileno())
