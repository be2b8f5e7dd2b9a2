"""Families as OrthoFinder and PLAZA write them."""

from __future__ import annotations

import pytest

from featurestore.inputs.families import read_families, singletons_note
from tests.builders.inputs_files import only

GENES = ["g1", "g2", "g3"]


def test_two_columns_by_name(folder, problems):
    path = folder.rows(
        "f.tsv.gz", "gene_id ath_best_hit family_id", "g2 AT1 F2", "g1 AT2 F1", "g2 AT1 F2"
    )
    family, notes = read_families(path, {"id": GENES}, problems)
    assert (family, notes) == (["F1", "F2", ""], [])
    assert singletons_note(GENES, family) == [
        "families: 1 of 3 genes have no family and stand as singletons, for example g3."
    ]


def test_orthofinder_orthogroups(folder, problems):
    text = "Orthogroup\tAth\tBra\nOG0\tg1.1, g3.1\tb1, b2\nOG1\t\tb3\nOG2\tg2.1\t\n"
    family, notes = read_families(folder.write("Orthogroups.tsv", text), {"id": GENES}, problems)
    assert family == ["OG0", "OG2", "OG0"]
    assert "version suffixes" in notes[0]
    family, _ = read_families(folder.path / "Orthogroups.tsv", {"id": ["b3", "b1"]}, problems)
    assert family == ["OG1", "OG0"]


def test_orthofinder_hierarchical(folder, problems):
    text = "HOG\tOG\tGene Tree Parent Clade\tAth\r\nN0.HOG1\tOG0\tn1\tg1, g2\r\n"
    family, _ = read_families(folder.write("N0.tsv", text), {"id": GENES}, problems)
    assert family == ["N0.HOG1", "N0.HOG1", ""]


def test_plaza(folder, problems):
    text = "# PLAZA 5.0\n#\n#gf_id\tspecies\tgene_id\nHOM1\tath\tg1\nHOM1\tbra\tb1\nHOM2\tath\tg3\n"
    family, _ = read_families(folder.write("f.csv", text), {"id": GENES}, problems)
    assert family == ["HOM1", "", "HOM2"]


def test_only_genes_of_the_data_set_must_have_one_family(folder, problems):
    path = folder.rows("f.tsv", "gene family", "b1 F1", "b1 F2", "g1 F1")
    family, _ = read_families(path, {"id": GENES}, problems)
    assert family == ["F1", "", ""]


@pytest.mark.parametrize(
    ("rows", "what", "mend", "place"),
    [
        (["gene family", "g1 F1", "g1 F2"], "a gene in two families: g1 is in F1 (line 2) and F2", "one family", "line 3"),
        (["gene group", "g1 F1"], "no column for the family: the header is 'gene', 'group'", "'family'", "header"),
        (["gene family", "b1 F1"], "genes are g1, g2, g3; the table has b1", "fs families", ""),
        (["gene family", "g1 F1 x"], "wrong column count: 3 cells", "header has 2", "line 2"),
    ],
)  # fmt: skip
def test_problems(folder, problems, rows, what, mend, place):
    path = folder.rows("f.tsv", *rows)
    assert read_families(path, {"id": GENES}, problems) is None
    problem = only(problems)
    assert what in problem.what
    assert mend in problem.mend
    assert (problem.file, problem.place) == (str(path), place)
