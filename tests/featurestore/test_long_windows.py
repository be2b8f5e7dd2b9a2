"""Long windows around a boundary, against plain slices of strings."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import featurestore
from featurestore.build.engine import build
from featurestore.errors import InputError, UnknownNameError
from featurestore.score import genome as genome_blocks
from featurestore.sequence.iupac import decode
from featurestore.sequence.long_windows import LongWindows
from tests.builders.dataset import write_dataset
from tests.builders.species import random_species

UPSTREAM, DOWNSTREAM = "ACCGTTTA", "GGATRYKC"
MIRROR = str.maketrans("ACGTNRYSWKMBDHV", "TGCANYRSWMKVHDB")


def plain(sequence: str, boundary: int, strand: int, length: int, shift: int) -> str:
    """What a window reads, letter by letter from the middle outwards."""
    letters = []
    for offset in range(-(length // 2) + shift, length - length // 2 + shift):
        at = boundary + offset if strand > 0 else boundary - 1 - offset
        letter = sequence[at] if 0 <= at < len(sequence) else "N"
        letters.append(letter if strand > 0 else letter.translate(MIRROR))
    return "".join(letters)


def test_a_marker_reads_alike_on_both_strands():
    before, after = "T" * 50, "A" * 41
    reverse = (UPSTREAM + DOWNSTREAM)[::-1].translate(MIRROR)
    windows = LongWindows(
        {"plus": before + UPSTREAM + DOWNSTREAM + after, "minus": before + reverse + after}
    )
    for contig, boundary, strand in (("plus", 58, 1), ("minus", 50 + len(DOWNSTREAM), -1)):
        assert decode(windows.read(contig, boundary, strand, 16)) == UPSTREAM + DOWNSTREAM
        assert decode(windows.read(contig, boundary, strand, 7)) == UPSTREAM[-3:] + DOWNSTREAM[:4]
        later = decode(windows.read(contig, boundary, strand, 8, shift=3))
        assert later == (UPSTREAM + DOWNSTREAM)[7:15]
        earlier = decode(windows.read(contig, boundary, strand, 8, shift=-2))
        assert earlier == (UPSTREAM + DOWNSTREAM)[2:10]


def test_every_place_length_and_shift_is_the_plain_slice():
    rng = np.random.default_rng(0)
    sequence = "".join(rng.choice(list("ACGTNRYSWKMBDHV"), 61))
    windows = LongWindows({"c": sequence})
    for strand in (1, -1):
        for length in (1, 2, 7, 40, 61, 130):
            for shift in (-70, -3, 0, 2, 5):
                for boundary in (0, 1, 30, 60, 61):
                    wanted = plain(sequence, boundary, strand, length, shift)
                    assert decode(windows.read("c", boundary, strand, length, shift)) == wanted
                    off = sum(
                        not 0 <= (boundary + o if strand > 0 else boundary - 1 - o) < len(sequence)
                        for o in range(shift - length // 2, shift + length - length // 2)
                    )
                    assert windows.padded("c", boundary, strand, length, shift) == off


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    folder = tmp_path_factory.mktemp("long")
    one = random_species(genes=20, contigs=3, contig_bp=4000)
    path = write_dataset(folder / "in", one, embedders='["onehot"]')
    build(path, folder / "s.zarr")
    return one, folder


def test_a_store_read_by_blocks_a_fasta_and_a_genome_give_the_same(built, monkeypatch):
    one, folder = built
    monkeypatch.setattr(genome_blocks, "BLOCK", 700)
    monkeypatch.setattr(genome_blocks, "MOST_BLOCKS", 3)
    store = featurestore.open(folder / "s.zarr")
    stored = LongWindows(store)
    assert stored.contigs == {"chr1": 4000, "chr2": 4000, "chr3": 4000}
    others = [LongWindows(one.genome), LongWindows(folder / "in" / "test_plant.fa")]
    others += [LongWindows(folder / "s.zarr", "test_plant"), pickle.loads(pickle.dumps(stored))]  # noqa: S301 - our own bytes
    text = {
        name: decode(one.genome.code[start : start + 4000])
        for name, start in zip(one.genome.contig_id, one.genome.contig_start, strict=True)
    }
    shifts = np.arange(len(one.gene)) % 5 - 2
    found = stored.batch(one.contig, one.tss, one.strand, 3001, shifts)
    for row, contig, tss, strand, shift in zip(
        found, one.contig, one.tss, one.strand, shifts, strict=True
    ):
        assert decode(row) == plain(text[contig], int(tss), int(strand), 3001, int(shift))
    for windows in others:
        np.testing.assert_array_equal(
            windows.batch(one.contig, one.tss, one.strand, 3001, shifts), found
        )
    with ThreadPoolExecutor(4) as pool:  # few blocks, many readers
        rows = pool.map(stored.read, one.contig, one.tss.tolist(), one.strand.tolist(), [3001] * 20)
        np.testing.assert_array_equal(
            np.stack(list(rows)), others[0].batch(one.contig, one.tss, one.strand, 3001)
        )


def test_what_cannot_be_read_is_told(built):
    windows = LongWindows(built[0].genome)
    with pytest.raises(UnknownNameError, match="chr1"):
        windows.read("chr", 5, 1, 10)
    with pytest.raises(InputError, match="length from 1"):
        windows.read("chr1", 5, 1, 0)
    with pytest.raises(ValueError, match="C-contiguous"):
        windows.batch(["chr1"], 5, 1, 10, out=np.empty((1, 11), np.uint8))


def test_a_species_without_a_genome_says_what_it_needs(tmp_path):
    (tmp_path / "data.csv").write_text("gene,chrom,strand,promoter\nG1,1,+,ACGTACGT\n")
    (tmp_path / "dataset.toml").write_text(
        'embedders = ["onehot"]\n[regions]\nbin = 4\n[species.p]\nsequences = "data.csv"\n'
    )
    build(tmp_path / "dataset.toml", tmp_path / "s.zarr")
    with pytest.raises(InputError, match="genome and annotation"):
        LongWindows(featurestore.open(tmp_path / "s.zarr"))
