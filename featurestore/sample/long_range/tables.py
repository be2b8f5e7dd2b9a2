"""Tables of the long-range world: elements, pairs, variants, tracks, and their truth."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from featurestore.sample.files import SIMULATED, write_table, write_text
from featurestore.sample.long_range.grammar import Grammar
from featurestore.sample.long_range.settings import TRACKS, LongRangeSettings
from featurestore.sample.long_range.texts import truth_readme

if TYPE_CHECKING:
    from featurestore.sample.long_range.simulate import Simulated

UNITS = {
    "accessibility": "simulated reads per 32 bp",
    "enhancer_mark": "simulated reads per 32 bp",
    "cage": "simulated transcription starts per 32 bp",
}
"""Unit of each track."""


def write_track_table(path: Path) -> None:
    """Write ``tracks.tsv``; file names are relative to it."""
    rows = [
        [track, species, f"{species}.{track}.bw", UNITS[track]]
        for species, tracks in TRACKS.items()
        for track in tracks
    ]
    write_table(path, ["track", "species", "file", "unit"], rows)


def write_elements(path: Path, results: Sequence[Simulated]) -> None:
    """Write all elements as BED6; neither name, score nor strand tells their kind."""
    write_text(
        path,
        (
            "\t".join([contig, str(element.start), str(element.end), element.name, "0", "."])
            for result in results
            for element in result.world.elements
            for contig in [result.world.species.contigs[element.contig].name]
        ),
    )


def write_pairs(path: Path, results: Sequence[Simulated]) -> None:
    """Write tested pairs in the form of published CRISPRi tables."""
    header = ["species", "contig", "start", "end", "name"]
    header += ["gene", "effect", "significant", "distance"]

    def rows() -> Iterator[list[object]]:
        for result in results:
            contigs = result.world.species.contigs
            for pair in result.pairs:
                element = pair.element
                place = [contigs[element.contig].name, element.start, element.end, element.name]
                found = "true" if pair.significant else "false"
                tested = [pair.gene.gene, pair.effect, found, pair.distance]
                yield [result.world.name, *place, *tested]

    write_table(path, header, rows())


def write_variants(path: Path, result: Simulated) -> None:
    """Write the variants as VCF 4.2, without any of their truth."""
    contigs = result.world.species.contigs
    head = ["##fileformat=VCFv4.2", f"##source={SIMULATED}"]
    head += [f"##contig=<ID={c.name},length={c.code.size}>" for c in contigs]
    head += ["\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"])]
    rows = (
        "\t".join(
            [contigs[v.contig].name, str(v.position + 1), _id(i), v.ref, v.alt, ".", ".", "."]
        )
        for i, v in enumerate(result.variants)
    )
    write_text(path, [*head, *rows])


def _id(index: int) -> str:
    return f"sim_variant{index + 1:05d}"


def write_truth(folder: Path, settings: LongRangeSettings, results: Sequence[Simulated]) -> None:
    """Write all files of ``truth/``; its ``README.md`` names every one."""
    folder.mkdir(exist_ok=True)
    write_text(folder / "README.md", truth_readme(settings).splitlines())
    described = {"simulated": SIMULATED, **Grammar().describe()}
    write_text(folder / "grammar.json", [json.dumps(described, indent=2)])
    sizes = {"simulated": SIMULATED, **dataclasses.asdict(settings)}
    write_text(folder / "settings.json", [json.dumps(sizes, indent=2)])
    shares = {r.world.name: _rounded(r.expression.shares()) for r in results}
    text = json.dumps({"simulated": SIMULATED, "variance_of_log10_tpm": shares}, indent=2)
    write_text(folder / "shares.json", [text])
    _write_genes(folder / "genes.tsv", results)
    _write_elements(folder / "elements.tsv", results)
    _write_pairs(folder / "pairs.tsv", results)
    _write_variants(folder / "variants.tsv", results[0])


def _rounded(shares: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in shares.items()}


def _write_genes(path: Path, results: Sequence[Simulated]) -> None:
    header = ["species", "gene", "family", "leaf", "contig", "strand", "tss", "tts"]
    header += ["promoter", "distal", "expression", "tpm"]

    def rows() -> Iterator[list[object]]:
        for result in results:
            e = result.expression
            values = zip(e.promoter, e.distal, e.value, e.true_tpm, strict=True)
            for gene, row in zip(result.world.species.genes, values, strict=True):
                contig = result.world.species.contigs[gene.contig].name
                label = [result.world.name, gene.gene, gene.family, gene.leaf]
                yield [*label, contig, gene.strand, gene.tss, gene.tts, *map(float, row)]

    write_table(path, header, rows())


def _write_elements(path: Path, results: Sequence[Simulated]) -> None:
    header = ["species", "element", "contig", "start", "end", "kind"]
    header += ["activators", "openers", "strength", "orientation", "direction"]

    def rows() -> Iterator[list[object]]:
        for result in results:
            for contig, score in enumerate(result.scores):
                name = result.world.species.contigs[contig].name
                state = score.elements
                for i, element in enumerate(result.world.elements_of(contig)):
                    direction = float(state.direction[i])
                    orientation = "+" if direction > 0 else "-" if direction < 0 else "."
                    yield [
                        *(result.world.name, element.name, name, element.start, element.end),
                        *(element.kind, float(state.activators[i]), float(state.openers[i])),
                        *(float(state.strength[i]), orientation, direction),
                    ]

    write_table(path, header, rows())


def _write_pairs(path: Path, results: Sequence[Simulated]) -> None:
    header = ["species", "gene", "element", "kind", "distance", "contribution", "effect"]
    rows = (
        [
            *(result.world.name, pair.gene.gene, pair.element.name, pair.element.kind),
            *(pair.distance, pair.contribution, pair.effect),
        ]
        for result in results
        for pair in result.pairs
    )
    write_table(path, header, rows)


def _write_variants(path: Path, result: Simulated) -> None:
    header = ["species", "variant", "contig", "position", "ref", "alt"]
    header += ["kind", "element", "gene", "log2_fold_change"]
    contigs = result.world.species.contigs
    rows = (
        [
            *(result.world.name, _id(i), contigs[v.contig].name, v.position + 1, v.ref, v.alt),
            *(v.kind, v.element or ".", v.gene or ".", v.log2_fold_change),
        ]
        for i, v in enumerate(result.variants)
    )
    write_table(path, header, rows)
