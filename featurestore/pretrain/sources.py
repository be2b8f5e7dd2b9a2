"""Reads what a model is pre-trained on: data sets, FASTA files, plain lines of bases."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featurestore.errors import InputError
from featurestore.inputs.fasta import read_fasta
from featurestore.inputs.files import file_digest, read_bytes
from featurestore.inputs.model import SpeciesData
from featurestore.inputs.problems import Problems, shown
from featurestore.pretrain.corpus import Corpus, Source, join
from featurestore.sequence import iupac
from featurestore.sequence.windows import cut_window, window_span


def read_corpus(
    paths: Sequence[Path], *, whole_contigs: bool = False, keep_repeats: bool = False
) -> Corpus:
    """All sequences of some files.

    Parameters
    ----------
    paths : sequence of Path
        Each a ``dataset.toml`` (or its folder), a FASTA file, or a text file with one sequence a
        line; plain or compressed.
    whole_contigs : bool
        Of a data set with a genome take its contigs, not the regions of its genes.
    keep_repeats : bool
        Remember which bases of FASTA files are soft-masked (lower case).

    Raises
    ------
    InputError
        With all mistakes of the files.
    """
    if not paths:
        raise InputError("nothing to pre-train on: name a dataset.toml or FASTA files")
    parts: list[Corpus] = []
    for path in paths:
        if path.is_dir() or path.suffix == ".toml":
            parts += _dataset(path, whole_contigs)
        else:
            parts.append(_file(path, keep_repeats))
    return join(parts)


def _dataset(path: Path, whole_contigs: bool) -> list[Corpus]:
    from featurestore.inputs.load import load_dataset

    found = []
    for species in load_dataset(path / "dataset.toml" if path.is_dir() else path):
        if whole_contigs and species.genome is not None:
            found.append(_contigs(species))
        elif species.genome is not None or species.region_code is not None:
            found.append(_regions(species))
    if not found:
        raise InputError(f"{path}: no species of it has sequence; name a genome or sequences")
    return found


def _groups(species: SpeciesData) -> list[str]:
    """Family of each gene, else the gene itself."""
    pairs = zip(species.family, species.locus, strict=True)
    return [f"family {f}" if f else f"gene {g}" for f, g in pairs]


def _source(species: SpeciesData, kind: str) -> tuple[Source, ...]:
    wanted = [role for role in species.input_digest if role.split(".")[0] not in ("expression", "samples", "variants")]  # fmt: skip
    return (Source(species.name, kind, {r: species.input_digest[r] for r in wanted}),)


def _corpus(pieces: list[NDArray[np.uint8]], group: list[str], source: tuple[Source, ...]) -> Corpus:  # fmt: skip
    length = np.array([len(p) for p in pieces], np.int64)
    start = np.cumsum(length) - length
    return Corpus(
        np.concatenate(pieces) if pieces else np.zeros(0, np.uint8),
        start, length, group, np.zeros(len(pieces), np.int64), source,
    )  # fmt: skip


def _regions(species: SpeciesData) -> Corpus:
    groups, kind = _groups(species), "regions of genes, grouped by gene family"
    pieces, owners = [], []
    for i, own in enumerate(groups):
        for j, region in enumerate(species.regions):
            if species.region_code is not None and species.region_length is not None:
                codes = species.region_code[i, j, : species.region_length[i, j]]
            else:
                contig = _contig(species, species.contig[i])
                anchor = int((species.tss if region.anchor == "tss" else species.tts)[i])
                strand = int(species.strand[i])
                span = window_span(anchor, strand, region.upstream, region.downstream)
                codes, _ = cut_window(contig, *span, strand)
            if (codes < iupac.N).any():
                pieces.append(codes)
                owners.append(own)
    return _corpus(pieces, owners, _source(species, kind))


def _contig(species: SpeciesData, name: str) -> NDArray[np.uint8]:
    genome = species.genome
    assert genome is not None  # noqa: S101 # the caller has looked
    i = genome.contig_id.index(name)
    start = int(genome.contig_start[i])
    return genome.code[start : start + int(genome.contig_length[i])]


def _contigs(species: SpeciesData) -> Corpus:
    """Contigs; one whose genes are all of one family belongs to that family."""
    genome = species.genome
    assert genome is not None  # noqa: S101 # the caller has looked
    families: dict[str, set[str]] = {}
    for contig, own in zip(species.contig, _groups(species), strict=True):
        families.setdefault(contig, set()).add(own)
    group = [
        next(iter(families[c])) if len(families.get(c, ())) == 1 else f"contig {species.name} {c}"
        for c in genome.contig_id
    ]
    n = len(group)
    kind = "contigs; those of genes of one family grouped by gene family"
    return Corpus(
        genome.code, genome.contig_start, genome.contig_length, group,
        np.zeros(n, np.int64), _source(species, kind),
    )  # fmt: skip


def _file(path: Path, keep_repeats: bool) -> Corpus:
    problems = Problems()
    data = read_bytes(path, problems)
    problems.raise_if_any()
    assert data is not None  # noqa: S101 # a problem was raised otherwise
    if not data.lstrip().startswith(b">"):
        return _lines(path, data)
    records = read_fasta(path, problems, "contig")
    problems.raise_if_any()
    assert records is not None  # noqa: S101 # a problem was raised otherwise
    source = (Source(path.name, "contigs", {"fasta": file_digest(path)}),)
    group = [f"contig {path.name} {name}" for name in records.name]
    n = len(group)
    return Corpus(
        records.code, records.start, records.length, group, np.zeros(n, np.int64), source,
        _lower_case(data) if keep_repeats else None,
    )  # fmt: skip


def _lower_case(data: bytes) -> NDArray[np.bool_]:
    """Whether each base of a FASTA file is soft-masked, in the order of the file."""
    lines = (x for x in data.replace(b"\r", b"\n").split(b"\n") if not x.startswith(b">"))
    letters = np.frombuffer(b"".join(lines).translate(None, b" \t"), np.uint8)
    lower: NDArray[np.bool_] = letters >= ord("a")
    return lower


def _lines(path: Path, data: bytes) -> Corpus:
    pieces: list[NDArray[np.uint8]] = []
    group: list[str] = []
    for number, line in enumerate(data.splitlines(), 1):
        if not (text := line.strip()):
            continue
        codes = iupac.encode(text)
        if (codes == iupac.UNKNOWN).any():
            what = shown(text[:40].decode("latin-1"))
            raise InputError(
                f"{path}, line {number}: {what!r} is neither a FASTA header nor bases; give FASTA, "
                "one sequence a line, or a dataset.toml that names the table"
            )
        pieces.append(codes)
        group.append(f"line {path.name} {number}")
    if not pieces:
        raise InputError(f"{path}: the file is empty; give FASTA, or one sequence a line")
    source = (Source(path.name, "one sequence a line", {"lines": file_digest(path)}),)
    return _corpus(pieces, group, source)
