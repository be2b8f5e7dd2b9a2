"""Variants applied to a window: bases shift away from the anchor, which stays at its base.

An edit replaces the bases ``low`` … ``high`` (0-based half-open on the forward strand of the
contig) by others. What an insertion pushes out of a window is lost at the window's far end; what
a deletion pulls in comes from beyond it. An insertion exactly at the anchor follows the base
before it on the forward strand, as a VCF writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from featurestore.sequence.iupac import COMPLEMENT, N


class Edit(NamedTuple):
    """One variant as it stands on one copy of a contig; ``alt`` holds IUPAC codes.

    ``name`` is ``contig:pos:REF>ALT`` with the 1-based position of the VCF.
    """

    low: int
    high: int
    alt: bytes
    name: str

    @property
    def gain(self) -> int:
        """Bases that it adds; negative for a deletion."""
        return len(self.alt) - (self.high - self.low)


def spans(edit: Edit, anchor: int) -> bool:
    """Whether the edit takes away bases on both sides of a boundary."""
    return edit.low < anchor < edit.high


def is_left(edit: Edit, anchor: int) -> bool:
    """Whether an edit lies left of a boundary (all edits do, or do not, that do not span it)."""
    return edit.high <= anchor


def reached(edits: Sequence[Edit], anchor: int, left: int, right: int) -> set[Edit]:
    """Those edits that change, or put into another place, a base of the edited window.

    Parameters
    ----------
    edits : sequence of Edit
        In order of ``low``; none overlaps another and none spans the anchor.
    anchor : int
    left, right : int
        Bases of the window on either side of the anchor, on the forward strand.
    """
    found: set[Edit] = set()
    reach = anchor - left
    for edit in reversed([e for e in edits if is_left(e, anchor)]):
        if edit.high <= reach:
            break
        found.add(edit)
        reach += edit.gain  # an insertion pushes bases out, a deletion pulls them in
    reach = anchor + right
    for edit in [e for e in edits if not is_left(e, anchor)]:
        if edit.low >= reach:
            break
        found.add(edit)
        reach -= edit.gain
    return found


def cut_edited(
    contig: NDArray[np.uint8],
    edits: Sequence[Edit],
    anchor: int,
    strand: int,
    upstream: int,
    downstream: int,
) -> NDArray[np.uint8]:
    """A window of the edited contig in transcript orientation, N where it runs off.

    Parameters
    ----------
    contig : uint8 array, shape (length,)
        Codes of the forward strand, not edited.
    edits : sequence of Edit
        In order of ``low``; none overlaps another and none spans the anchor.
    anchor : int
        Boundary, 0-based on the forward strand of the contig that is not edited.
    upstream, downstream : int
        Bases before and after the anchor in transcript direction, counted on the edited contig;
        either may be negative for a window that lies wholly on the other side.

    Returns
    -------
    uint8 array, shape (upstream + downstream,)
    """
    left, right = (upstream, downstream) if strand >= 0 else (downstream, upstream)
    lower = _lower_arm(contig, [e for e in edits if is_left(e, anchor)], anchor, max(left, 0))
    upper = _upper_arm(contig, [e for e in edits if not is_left(e, anchor)], anchor, max(right, 0))
    codes = np.concatenate([lower[: len(lower) + min(right, 0)], upper[max(-left, 0) :]])
    return COMPLEMENT[codes[::-1]] if strand < 0 else codes


def _lower_arm(
    contig: NDArray[np.uint8], edits: Sequence[Edit], anchor: int, size: int
) -> NDArray[np.uint8]:
    """The ``size`` bases left of the anchor."""
    out = np.full(size, N, np.uint8)
    need, at = size, anchor
    for edit in reversed(edits):
        if need <= 0:
            break
        for piece in (contig[edit.high : at], np.frombuffer(edit.alt, np.uint8)):
            taken = piece[max(len(piece) - need, 0) :] if need > 0 else piece[:0]
            out[need - len(taken) : need] = taken
            need -= len(taken)
        at = edit.low
    if need > 0:
        taken = contig[max(at - need, 0) : at]
        out[need - len(taken) : need] = taken
    return out


def _upper_arm(
    contig: NDArray[np.uint8], edits: Sequence[Edit], anchor: int, size: int
) -> NDArray[np.uint8]:
    """The ``size`` bases right of the anchor."""
    out = np.full(size, N, np.uint8)
    done, at = 0, anchor
    for edit in edits:
        if done >= size:
            break
        for piece in (contig[at : edit.low], np.frombuffer(edit.alt, np.uint8)):
            taken = piece[: size - done]
            out[done : done + len(taken)] = taken
            done += len(taken)
        at = edit.high
    if done < size:
        taken = contig[at : at + size - done]
        out[done : done + len(taken)] = taken
    return out
