"""Genes by position alone."""

from __future__ import annotations

import pytest

from featurestore.inputs.dataset import read_config
from featurestore.inputs.load import load_species
from featurestore.inputs.positions import read_positions
from tests.builders.inputs_files import only


def test_one_based_bases_become_boundaries(folder, problems):
    # A + gene of bases 11 … 20 and a − gene of the same bases: boundaries 10 and 20.
    path = folder.rows(
        "p.tsv", "gene chrom tss1 tts1 strand", "f 1 11 20 +", "r 1 20 11 -", "u 1 11 20 ."
    )
    found = read_positions(path, problems)
    assert found is not None
    assert found.tss.tolist() == [10, 20, 10]
    assert found.tts.tolist() == [20, 10, 20]
    assert found.strand.tolist() == [1, -1, 0]
    assert "1 of 3 genes have no strand, for example u" in found.notes[0]


def test_boundaries_are_taken_as_they_are(folder, problems):
    path = folder.rows("p.csv", "gene_id chr tss strand", "f 1 10 +", "r 1 20 -1")
    found = read_positions(path, problems)
    assert found is not None
    assert (found.tss.tolist(), found.tts.tolist()) == ([10, 20], [-1, -1])


def test_order_is_contig_by_appearance_then_start_then_id(folder, problems):
    folder.rows("p.tsv", "gene chrom tss", "b 2 9", "d 1 5", "c 1 3", "a 2 9")
    config = read_config(folder.write("d.toml", '[species.x]\npositions = "p.tsv"\n'), problems)
    data = load_species(config, "x", problems)
    assert data.gene == ["a", "b", "c", "d"]
    assert (data.kind, data.regions, data.region_code) == ("positions", (), None)


@pytest.mark.parametrize(
    ("rows", "what", "place"),
    [
        (["gene chrom tss", "a 1 5", "a 1 6"], "a gene given twice: a (also line 2)", "line 3"),
        (["gene chrom tss", "a 1 5.5"], "no position: '5.5' in column 'tss'", "line 2"),
        (["gene chrom tss1", "a 1 0"], "no position: '0' in column 'tss1'", "line 2"),
        (["gene chrom tss strand", "a 1 5 x"], "neither + nor -: 'x'", "line 2"),
        (["gene chrom start", "a 1 5"], "no column for the TSS", "header"),
        (["gene tss", "a 5"], "no column for the chromosome", "header"),
    ],
)
def test_problems(folder, problems, rows, what, place):
    path = folder.rows("p.tsv", *rows)
    assert read_positions(path, problems) is None
    assert what in only(problems).what
    assert (only(problems).file, only(problems).place) == (str(path), place)
    assert only(problems).mend
