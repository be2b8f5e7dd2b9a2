"""What counts as the same gene id, on names as the sources write them."""

from __future__ import annotations

import pytest

from featurestore.inputs.ids import clean, meet, strip_version


@pytest.mark.parametrize(
    ("name", "bare"),
    [
        ("AT1G01010.1", "AT1G01010"),
        ("AT1G01010", "AT1G01010"),
        ("Sobic.001G000100.v3.2", "Sobic.001G000100"),
        ("Potri.001G000100.1.v4.1", "Potri.001G000100"),
        ("Glyma.01G000100.Wm82.a2.v1", "Glyma.01G000100"),
        ("AT1G01010.Araport11.447", "AT1G01010"),
        ("LOC_Os01g01010.1", "LOC_Os01g01010"),
        ("Zm00001d027230", "Zm00001d027230"),
        ("BraA01000003", "BraA01000003"),
        ("ENSG00000000003.15", "ENSG00000000003"),
        ("AC148152.3_FG001", "AC148152.3_FG001"),
    ],
)
def test_versions(name, bare):
    assert strip_version(name) == bare


def test_prefixes():
    assert clean(" gene:AT1G01010 ") == "AT1G01010"
    assert clean("transcript:AT1G01010.1") == "AT1G01010.1"
    assert clean("general") == "general"


def test_ids_that_meet_are_left_alone():
    meeting = meet({"id": ["AT1G01010", "AT1G01020"]}, ["gene:AT1G01010", "AT1G01020.1"])
    assert meeting is not None
    assert (meeting.met, meeting.how) == (1, "")


def test_versions_of_the_table_are_stripped_only_if_nothing_meets_otherwise():
    meeting = meet({"id": ["AT1G01010", "AT1G01020"]}, ["AT1G01010.1", "AT1G01020.2"])
    assert meeting is not None
    assert meeting.met == 2
    assert "stripped from its ids" in meeting.how


def test_versions_of_the_genes_are_stripped_but_never_so_that_two_become_one():
    meeting = meet({"id": ["P.1G1.v4.1", "P.1G2.v4.1"]}, ["P.1G1", "P.1G2"])
    assert meeting is not None
    assert meeting.key == ["P.1G1", "P.1G2"]
    assert "from the gene ids" in meeting.how
    assert meet({"id": ["evm.1", "evm.2"]}, ["evm"]) is None


def test_both_sides():
    meeting = meet({"id": ["P.1G1.v4.1"]}, ["P.1G1.1"])
    assert meeting is not None
    assert meeting.transform("P.1G1.1") == meeting.key[0]


def test_another_name_of_the_gene():
    meeting = meet({"id": ["LOC1", "LOC2"], "GeneID": ["101", "102"]}, ["101", "102", "103"])
    assert meeting is not None
    assert meeting.met == 2
    assert "GeneID" in meeting.how


def test_ncbi_prefix_in_the_table():
    meeting = meet({"id": ["LOC1"]}, ["gene-LOC1"])
    assert meeting is not None
    assert "NCBI" in meeting.how


def test_records_go_before_genes_one_by_one():
    meeting = meet(
        {"id": ["g1", "g1", "g2"]}, ["g1_T1", "g1", "g2"], own=["g1_T1", "g1_T2", "g2_T1"]
    )
    assert meeting is not None
    assert meeting.key == ["g1_T1", "g1", "g2"]


def test_no_meeting():
    assert meet({"id": ["AT1G01010"]}, ["BraA01000003"]) is None


def test_notes_count_and_show_either_side():
    genes = ["a", "b", "c"]
    meeting = meet({"id": genes}, ["a", "x", "y"])
    assert meeting is not None
    notes = meeting.notes("expression", genes, ["a", "x", "y"])
    assert notes == [
        "expression: 2 of 3 genes have no row, for example b, c.",
        "expression: 2 of 3 ids name no gene of this data set, for example x, y.",
    ]
