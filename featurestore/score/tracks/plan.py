"""Which rows a VCF makes, and which windows they share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from featurestore.score.alleles import Site
from featurestore.score.tracks.alleles import edit_of
from featurestore.score.tracks.genes import Genes, Tss
from featurestore.score.tracks.settings import Asked
from featurestore.score.tracks.windows import Place
from featurestore.sequence.edits import Edit, spans


@dataclass(frozen=True)
class Geometry:
    """Sizes of a model.

    Parameters
    ----------
    window : int
        Bases of a window.
    bin_bp : int
    bins : int
        Predicted ones, in the middle of the window.
    """

    window: int
    bin_bp: int
    bins: int

    def bin_of(self, place: Place, base: int) -> int:
        """Predicted bin of a base of the contig; below 0 or from ``bins`` on outside of them."""
        offset = base - (place.centre - self.window // 2)
        if place.strand < 0:
            offset = self.window - 1 - offset
        return (offset - (self.window - self.bins * self.bin_bp) // 2) // self.bin_bp

    def tss_bins(self, place: Place, tss: Tss) -> slice | None:
        """The bin of the first transcribed base and its neighbours; None outside of the predicted.

        For a window centred on the TSS of a gene of the + strand these are bins 447 to 449 of the
        published model's 896; on the − strand their mirror.
        """
        middle = self.bin_of(place, tss.first_base)
        if not 0 <= middle < self.bins:
            return None
        return slice(max(middle - 1, 0), min(middle + 2, self.bins))


@dataclass(slots=True)
class Row:
    """One row of the output: an allele, or an allele with a gene.

    Parameters
    ----------
    record, allele : int
        0-based number of the record in the VCF, and of the ALT in it.
    contig : str
    pos : int
        1-based, as in the VCF.
    distance : int or None
        Bases from the gene's first transcribed base to the first that changes, positive downstream.
    nearest_tss : int or None
        Bases to the nearest first transcribed base of any gene.
    reason : str
        Why there is no score; empty where there is.
    remark : str
    """

    record: int
    allele: int
    contig: str
    pos: int
    id: str
    ref: str
    alt: str
    gene: str = ""
    distance: int | None = None
    nearest_tss: int | None = None
    reason: str = ""
    remark: str = ""


@dataclass(slots=True)
class Item:
    """One allele in one window.

    Parameters
    ----------
    edit : Edit
    anchor : int
        Boundary that stays where it is.
    rows : list of (row, bins at the TSS of its gene or None)
    """

    edit: Edit
    anchor: int
    rows: list[tuple[int, slice | None]]


@dataclass
class Plan:
    """All rows in the order of the VCF, and the alleles of each window."""

    rows: list[Row] = field(default_factory=list)
    windows: dict[Place, list[Item]] = field(default_factory=dict)

    def units(self, batch: int) -> Iterator[tuple[Place, list[Item]]]:
        """Windows with some of their alleles, computed together and remembered together."""
        for place, items in self.windows.items():
            for start in range(0, len(items), batch):
                yield place, items[start : start + batch]

    @property
    def alleles(self) -> int:
        """Windows of alleles that are to be computed."""
        return sum(map(len, self.windows.values()))


def plan_of(
    records: Iterable[tuple[str, Site]], genes: Genes, asked: Asked, geometry: Geometry
) -> Plan:
    """Rows and windows of the records of a VCF, each given by its ID and what of it can be scored."""
    plan = Plan()
    wanted = genes.only(asked.genes)
    for number, (name, site) in enumerate(records):
        for allele, (alt, reason) in enumerate(zip(site.alts, site.reasons, strict=True)):
            row = Row(
                number, allele, site.contig, site.position + 1, name, site.ref, alt,
                reason=reason, remark="" if reason else site.remark,
            )  # fmt: skip
            if reason:
                plan.rows.append(row)
                continue
            edit = edit_of(site.contig, site.position, site.ref, alt)
            row.nearest_tss = genes.nearest(site.contig, edit.low)
            if asked.window == "gene":
                _around_genes(plan, row, edit, wanted, asked, geometry)
            else:
                _around_variant(plan, row, edit, wanted, asked, geometry)
    return plan


def _around_genes(
    plan: Plan, row: Row, edit: Edit, genes: Genes, asked: Asked, geometry: Geometry
) -> None:
    half = geometry.window // 2
    # An insertion changes the base after it.
    last = max(edit.high, edit.low + 1)
    found = genes.within(row.contig, last - half, edit.low + half)
    near = [t for t in found if t.position - half < last and edit.low < t.position + half]
    if not near:
        row.reason = "no_gene"
        plan.rows.append(row)
    for tss in near:
        own = _with_gene(row, tss, edit)
        if spans(edit, tss.position):
            own.reason = "spans_tss"
            plan.rows.append(own)
            continue
        strand = tss.strand if asked.orientation == "transcript" and tss.strand else 1
        place = Place(row.contig, tss.position, strand)
        item = Item(edit, tss.position, [(len(plan.rows), geometry.tss_bins(place, tss))])
        plan.windows.setdefault(place, []).append(item)
        plan.rows.append(own)


def _around_variant(
    plan: Plan, row: Row, edit: Edit, genes: Genes, asked: Asked, geometry: Geometry
) -> None:
    position = row.pos - 1
    centre = position
    if asked.share:
        centre = position // asked.share * asked.share + asked.share // 2
    place = Place(row.contig, centre, 1)
    near: list[tuple[Tss, slice]] = []
    if asked.by_gene:
        half = geometry.window // 2
        around = genes.within(row.contig, centre - half, centre + half)
        near = [(t, s) for t in around if (s := geometry.tss_bins(place, t)) is not None]
        if not near and asked.aggregations == ("tss",):
            row.reason = "no_gene"
            plan.rows.append(row)
            return
    # An insertion at the very boundary would push the bases before it.
    item = Item(edit, edit.low - (edit.low == edit.high), [])
    plan.windows.setdefault(place, []).append(item)
    if not near:
        row.remark = row.remark or ("no_gene" if asked.by_gene else "")
        item.rows.append((len(plan.rows), None))
        plan.rows.append(row)
    for tss, bins in near:
        item.rows.append((len(plan.rows), bins))
        plan.rows.append(_with_gene(row, tss, edit))


def _with_gene(row: Row, tss: Tss, edit: Edit) -> Row:
    return Row(
        row.record, row.allele, row.contig, row.pos, row.id, row.ref, row.alt, tss.gene,
        tss.distance(edit.low), row.nearest_tss, row.reason, row.remark,
    )  # fmt: skip
