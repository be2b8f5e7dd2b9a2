"""Sequence mode: tables, PhytoExpr's data.csv, one file a region."""

from __future__ import annotations

import numpy as np
import pytest

from featurestore.inputs.dataset import read_config
from featurestore.inputs.load import load_species
from featurestore.inputs.model import Region
from featurestore.sequence import iupac
from tests.builders.inputs_files import only

REGIONS = """[regions]
promoter   = { anchor = "tss", upstream = 6, downstream = 2 }
terminator = { anchor = "tts", upstream = 2, downstream = 2 }
bin = 2
"""


def load(folder, problems, species, regions="", name="x"):
    path = folder.write("dataset.toml", regions + f"[species.{name}]\n{species}\n")
    config = read_config(path, problems)
    return load_species(config, name, problems)


def letters(data, region):
    """The sequences of a region as text, cut to their lengths; the rest must be N."""
    found = []
    for i in range(len(data.gene)):
        length = int(data.region_length[i, region])
        assert (data.region_code[i, region, length:] == iupac.N).all()
        found.append(iupac.decode(data.region_code[i, region, :length]))
    return found


def test_one_table(folder, problems):
    folder.rows(
        "s.tsv",
        "record gene chrom strand tss1 promoter terminator family fold extra",
        "r2 gene:g1 c2 - 10 ACGTRYN acgt F1 0 q",
        "r1 g1 c2 + 10 AAAA NA F1 1 q",
        "r3 g2 c1 . NA TTTTTTTT GG NA 1 q",
    )
    data = load(folder, problems, 'sequences = "s.tsv"', REGIONS)
    assert not problems.items
    assert data.gene == ["r1", "r2", "r3"]  # c2 comes first in the table; then start
    assert data.locus == ["g1", "g1", "g2"]
    assert data.contig == ["c2", "c2", "c1"]
    assert data.strand.tolist() == [1, -1, 0]
    assert data.tss.tolist() == [9, 10, -1]
    assert data.family == ["F1", "F1", ""]
    assert data.fold == ["1", "0", "1"]
    assert data.region_code.shape == (3, 2, 8)
    assert letters(data, 0) == ["AAAA", "ACGTRYN", "TTTTTTTT"]
    assert letters(data, 1) == ["", "ACGT", "GG"]
    assert data.regions == (Region("promoter", "tss", 6, 2), Region("terminator", "tts", 2, 2))
    told = " ".join(data.notes)
    assert "columns extra are not used" in told
    assert "1 of 3 records have no terminator, for example r1" in told
    assert "2 records have a promoter shorter than 8 bp" in told
    assert "1 of 3 genes have no family" in told


PHYTOEXPR = (
    '"","gene","species","transcript","promoter","terminator","median_TPM","gene_family",'
    '"group_for_cross_validation"\n'
    '"1","G2","Ath","G2.1","ACGTACGT","AACC","2.5","OG1","3"\n'
    '"2","G1","Ath","G1.1","TTTTTTTT","GGTT",NA,"OG2","1"\n'
    '"3","B1","Bra","B1.1","CCCCCCCC","GGGG","7","OG1","3"\n'
)


@pytest.mark.parametrize(
    ("name", "extra"), [("ath", ""), ("ATH", ""), ("arabidopsis", 'species_code = "Ath"')]
)
def test_phytoexpr(folder, problems, name, extra):
    folder.write("data.csv", PHYTOEXPR)
    data = load(folder, problems, f'sequences = "data.csv"\n{extra}', REGIONS, name)
    assert not problems.items
    assert data.gene == ["G1", "G2"]
    assert data.family == ["OG2", "OG1"]
    assert data.fold == ["1", "3"]
    assert letters(data, 0) == ["TTTTTTTT", "ACGTACGT"]
    assert data.expression.unit == "TPM"
    assert data.expression.sample == ["median_TPM"]
    np.testing.assert_array_equal(data.expression.value, [[np.nan], [2.5]])
    assert data.expression.labelled.tolist() == [False, True]


def test_phytoexpr_expression_of_a_file_goes_first(folder, problems):
    folder.write("data.csv", PHYTOEXPR)
    folder.rows("e.tsv", "gene s1 s2", "G1 1 2", "G2 3 4")
    data = load(folder, problems, 'sequences = "data.csv"\nexpression = "e.tsv"', name="ath")
    assert data.expression.value.tolist() == [[1, 2], [3, 4]]


def test_species_that_the_table_has_not(folder, problems):
    folder.write("data.csv", PHYTOEXPR)
    assert load(folder, problems, 'sequences = "data.csv"', name="zma") is None
    assert "it has Ath, Bra" in only(problems).what
    assert "species_code" in only(problems).mend


def test_genes_of_several_transcripts_are_called_by_these(folder, problems):
    folder.rows("s.tsv", "gene transcript promoter", "g1 t1 AC", "g1 t2 AG")
    data = load(folder, problems, 'sequences = "s.tsv"')
    assert (data.gene, data.locus) == (["t1", "t2"], ["g1", "g1"])
    assert any("records are called by column 'transcript'" in note for note in data.notes)


def test_regions_that_are_not_declared_are_as_long_as_the_sequences(folder, problems):
    folder.write("p.fa", ">g1\nACGTA\n>g2\nAC\n")
    folder.write("t.fa", ">g1\nGGG\n")
    files = 'sequences = { terminator = "t.fa", promoter = "p.fa" }'
    data = load(folder, problems, files)
    assert data.regions == (Region("promoter", "tss", 5, 0), Region("terminator", "tts", 0, 3))
    assert data.region_code.shape == (2, 2, 5)
    assert data.region_length.tolist() == [[5, 3], [2, 0]]


def test_fasta_descriptions(folder, problems):
    folder.write("p.fa", ">r1 gene=gene:g1 chrom=Chr1 strand=-\nACGT\n>r2 gene=g1\nAG\n")
    folder.rows("e.tsv", "gene s", "g1 7")
    data = load(folder, problems, 'sequences = { promoter = "p.fa" }\nexpression = "e.tsv"')
    assert (data.gene, data.locus) == (["r1", "r2"], ["g1", "g1"])
    assert (data.contig, data.strand.tolist()) == (["Chr1", ""], [-1, 0])
    assert data.expression.value.tolist() == [[7], [7]]


def test_one_promoter_serves_all_terminators_of_its_gene(folder, problems):
    folder.write("p.fa", ">g1\nAC\n>g2\nAG\n>g3\nAT\n")
    folder.rows(
        "t.tsv",
        "terminator_id gene_id chrom start1 end1 strand sequence",
        "g1_T1 g1 1 5 8 + CCCC",
        "g1_T2 g1 1 5 8 + GGGG",
        "g2 g2 2 5 8 - TTTT",
    )
    folder.rows("f.tsv", "gene family", "g1 F1", "g1_T2 F9", "g2 F2")
    files = 'sequences = { promoter = "p.fa", terminator = "t.tsv" }\nfamilies = "f.tsv"'
    data = load(folder, problems, files)
    assert not problems.items
    by_record = dict(
        zip(data.gene, zip(letters(data, 0), letters(data, 1), strict=True), strict=True)
    )
    assert by_record == {
        "g1_T1": ("AC", "CCCC"), "g1_T2": ("AC", "GGGG"), "g2": ("AG", "TTTT"), "g3": ("AT", ""),
    }  # fmt: skip
    assert dict(zip(data.gene, data.family, strict=True)) == {
        "g1_T1": "F1", "g1_T2": "F9", "g2": "F2", "g3": "",
    }  # fmt: skip
    assert any("1 records that stand for a whole gene" in note for note in data.notes)


def test_records_that_serve_each_other_stay_one(folder, problems):
    folder.write("p.fa", ">g1\nAC\n>p2 gene=g2\nAA\n")
    folder.write("t.fa", ">t1 gene=g1\nGG\n>t2 gene=g2\nTT\n")
    data = load(folder, problems, 'sequences = { promoter = "p.fa", terminator = "t.fa" }')
    assert data.gene == ["t1", "t2"]
    assert letters(data, 0) == ["AC", "AA"]


@pytest.mark.parametrize(
    ("rows", "what", "mend", "place"),
    [
        (["gene promoter", "g1 ACGTACGTA", "g2 AC"], "longer than its region of 8 bp: g1 has 9 bp of promoter", "declare promoter", "line 2"),
        (["gene promoter", "g1 AC", "g2 ACX"], "'X' at base 3 of promoter of g2", "replace unknown bases by N", "line 3"),
        (["gene promoter", "g1 AC", "g1 AG"], "a record given twice: g1 (also line 2)", "column `record`", "line 3"),
        (["gene promoter strand", "g1 AC x"], "neither + nor -: 'x'", "+ or -", "line 2"),
        (["gene promotor", "g1 AC"], "no column of a region: 'promoter' or 'terminator' expected; the header is 'gene', 'promotor'. Did you mean 'promotor'?", "[regions]", "header"),
        (["name promoter", "g1 AC"], "no column for the gene", "'gene'", "header"),
    ],
)  # fmt: skip
def test_table_problems(folder, problems, rows, what, mend, place):
    path = folder.rows("s.tsv", *rows)
    assert load(folder, problems, 'sequences = "s.tsv"', REGIONS) is None
    problem = only(problems)
    assert what in problem.what
    assert mend in problem.mend
    assert (problem.file, problem.place) == (str(path), place)


def test_file_problems(folder, problems):
    folder.write("p.fa", ">r1 strand=x\nAC\n")
    folder.rows("t.tsv", "gene seqence", "g1 AC")
    files = 'sequences = { promoter = "p.fa", terminator = "t.tsv" }'
    assert load(folder, problems, files) is None
    assert [p.place for p in problems.items] == ["line 1", "header"]
    assert "Did you mean 'seqence'?" in problems.items[1].what


def test_a_region_that_is_not_declared(folder, problems):
    folder.write("p.fa", ">g1\nAC\n")
    assert load(folder, problems, 'sequences = { promotor = "p.fa" }') is None
    assert "'promotor' that is not declared. Did you mean 'promoter'?" in only(problems).what


def test_median_tpm_that_is_none(folder, problems):
    folder.write("data.csv", PHYTOEXPR.replace('"2.5"', '"-1"'))
    assert load(folder, problems, 'sequences = "data.csv"', name="ath") is None
    assert "'-1' in column 'median_TPM'" in only(problems).what
    assert only(problems).place == "line 2"
