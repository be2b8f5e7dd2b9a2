"""The light check of a VCF."""

from __future__ import annotations

import gzip

import pytest

from featurestore.inputs import variants
from featurestore.inputs.fasta import read_genome
from featurestore.inputs.variants import check_variants
from tests.builders.inputs_files import bgzip, only

HEAD = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"


def check(folder, problems, *records, head=HEAD + "\tFORMAT\tlineA\tlineB\n", pack=bytes):
    genome = read_genome(folder.write("g.fa", ">c1\nACGTN\n>c2\nTTTTT\n"), problems)
    rows = ["\t".join([*r.split(), *".", ".", ".", "GT", "0/1", "1/1"]) + "\n" for r in records]
    path = folder.write("v.vcf", pack((head + "".join(rows)).encode()))
    return check_variants(path, genome, problems)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bgzip])
def test_good(folder, problems, pack):
    summary = check(
        folder, problems, "c1 1 . A C", "c1 2 . cg C", "c1 5 . G T", "c2 3 . A <DEL>", pack=pack
    )
    assert not problems.items
    assert summary.lines == ["lineA", "lineB"]
    assert (summary.checked, summary.symbolic) == (4, 1)


def test_no_samples_and_no_records(folder, problems):
    summary = check(folder, problems, head=HEAD + "\r\n")
    assert (summary.lines, summary.checked) == ([], 0)


@pytest.mark.parametrize(
    ("record", "what", "mend"),
    [
        ("c1 2 . A T", "REF is not what the genome has: c1:2 REF A, genome C", "same assembly"),
        ("c1 2 . Q T", "REF is not what the genome has", "same assembly"),
        ("c1 5 . NA T", "beyond the end of its contig: c1:5 NA on 5 bp", "same assembly"),
        ("c1 0 . A T", "beyond the end", "same assembly"),
        ("Chr1 1 . A T", "contigs that the FASTA lacks: Chr1; it has c1, c2", "contig names"),
        ("c1 x . A T", "not a VCF record", "CHROM"),
    ],
)
def test_problems(folder, problems, record, what, mend):
    assert check(folder, problems, "c1 1 . A C", record) is None
    assert what in only(problems).what
    assert mend in only(problems).mend
    assert only(problems).place == "line 4"


def test_no_header(folder, problems):
    assert check(folder, problems, head="c1\t1\t.\tA\tC\n") is None
    assert "no VCF header line" in only(problems).what


def test_cut_short_and_missing(folder, problems):
    assert check(folder, problems, "c1 1 . A C", pack=lambda x: gzip.compress(x)[:-12]) is None
    assert "cut short" in only(problems).what
    problems.items.clear()
    genome = read_genome(folder.path / "g.fa", problems)
    assert check_variants(folder.path / "w.vcf", genome, problems) is None
    assert "did you mean 'v.vcf'" in only(problems).mend


def test_only_the_first_records_are_compared(folder, problems, monkeypatch):
    monkeypatch.setattr(variants, "MOST_RECORDS", 2)
    summary = check(folder, problems, "c1 1 . A C", "c1 2 . C A", "c1 3 . T A")
    assert summary.checked == 2
