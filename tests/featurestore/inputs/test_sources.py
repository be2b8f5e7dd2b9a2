"""Annotations and tables as the big sources write them are read right, not only without error."""

from __future__ import annotations

import numpy as np
import pytest

from featurestore.inputs.load import load_dataset
from tests.builders.inputs_files import fasta

CONTIG = 9000
TOML = '[species.plant]\ngenome = "g.fa"\nannotation = "a.gff3"\nexpression = "e.tsv"\n'


def lines(*rows: tuple[str, str, int, int, str, str]) -> str:
    """Contig, type, first, last (1-based), strand, ninth column."""
    return "".join(
        f"{c}\tsource\t{kind}\t{first}\t{last}\t.\t{strand}\t.\t{text}\n"
        for c, kind, first, last, strand, text in rows
    )


def read(folder, annotation, table_ids, contigs=("1",), newline="\n", bom=""):
    """The species, its genes labelled 1, 2, … in the order of ``table_ids``."""
    table = "".join(f"{name}\t{i}\n" for i, name in enumerate(table_ids, 1))
    texts = {
        "g.fa": fasta(dict.fromkeys(contigs, "ACGT" * (CONTIG // 4))),
        "a.gff3": annotation,
        "e.tsv": "gene\ts\n" + table,
        "dataset.toml": TOML,
    }
    for name, text in texts.items():
        folder.write(name, (bom + text.rstrip("\n").replace("\n", newline)).encode())
    (data,) = load_dataset(folder.path)
    return data


ENSEMBL = (
    "##gff-version 3\n##sequence-region   1 1 9000\n#!genome-build TAIR10\n"
    + lines(("1", "chromosome", 1, CONTIG, ".", "ID=chromosome:1;Alias=CP002684.1,Chr1"))
    + "###\n"
    + lines(
        ("1", "gene", 3631, 5899, "+", "ID=gene:AT1G01010;Name=NAC001;biotype=protein_coding;description=NAC%2C 1 [Source:NCBI gene %28Entrez%29%3BAcc:839580];gene_id=AT1G01010"),
        ("1", "mRNA", 3631, 5899, "+", "ID=transcript:AT1G01010.1;Parent=gene:AT1G01010;biotype=protein_coding;tag=Ensembl_canonical;transcript_id=AT1G01010.1"),
        ("1", "exon", 3631, 5899, "+", "Parent=transcript:AT1G01010.1;Name=AT1G01010.1.exon1;constitutive=1"),
        ("1", "CDS", 3760, 3913, "+", "ID=CDS:AT1G01010.1;Parent=transcript:AT1G01010.1"),
        ("1", "ncRNA_gene", 6001, 6100, "+", "ID=gene:AT1G03987;biotype=lncRNA"),
        ("1", "lnc_RNA", 6001, 6100, "+", "ID=transcript:AT1G03987.1;Parent=gene:AT1G03987"),
    )
)  # fmt: skip
PHYTOZOME = "##annot-version v13\n" + lines(
    ("1", "gene", 3631, 5899, "+", "ID=AT1G01010.TAIR10;Name=AT1G01010"),
    ("1", "mRNA", 3631, 5000, "+", "ID=AT1G01010.1.TAIR10;Name=AT1G01010.1;pacid=1;longest=1;Parent=AT1G01010.TAIR10"),
    ("1", "mRNA", 3731, 5899, "+", "ID=AT1G01010.2.TAIR10;Name=AT1G01010.2;pacid=2;longest=0;Parent=AT1G01010.TAIR10"),
)  # fmt: skip
ARAPORT = lines(
    ("1", "gene", 3631, 5899, "+", "ID=AT1G01010;Name=AT1G01010;Note=NAC domain;symbol=NAC001;locus_type=protein_coding"),
    ("1", "mRNA", 3631, 5899, "+", "ID=AT1G01010.1;Parent=AT1G01010;Name=AT1G01010.1"),
    ("1", "protein", 3760, 5630, "+", "ID=AT1G01010.1-Protein;Derives_from=AT1G01010.1"),
    ("1", "CDS", 3760, 3913, "+", "Parent=AT1G01010.1,AT1G01010.1-Protein;"),
)  # fmt: skip
MAIZE = lines(
    ("1", "gene", 3631, 5899, "+", "ID=gene:Zm00001eb000010;biotype=protein_coding;logic_name=cshl_gene"),
    ("1", "mRNA", 3631, 5899, "+", "ID=transcript:Zm00001eb000010_T001;Parent=gene:Zm00001eb000010;canonical_transcript=1"),
)  # fmt: skip
TOMATO = lines(
    ("1", "gene", 3631, 5899, "+", "ID=gene:Solyc01g004000.1;Alias=Solyc01g004000;Name=Solyc01g004000.1;length=2269"),
    ("1", "mRNA", 3631, 5899, "+", "ID=mRNA:Solyc01g004000.1.1;Parent=gene:Solyc01g004000.1;Note=Unknown protein%3B x;_QI=0|0.5"),
)  # fmt: skip
REFSEQ = "#!gff-spec-version 1.21\n" + lines(
    ("1", "region", 1, CONTIG, "+", "ID=1:1..9000;Is_circular=true;gbkey=Src"),
    ("1", "gene", 3631, 5899, "+", "ID=gene-AT1G01010;Dbxref=TAIR:AT1G01010,GeneID:839580;Name=NAC001;gbkey=Gene;gene_biotype=protein_coding;locus_tag=AT1G01010"),
    ("1", "mRNA", 3631, 5899, "+", "ID=rna-NM_099983.2;Parent=gene-AT1G01010;gbkey=mRNA"),
    ("1", "gene", 8900, 9100, "+", "ID=gene-origin;gbkey=Gene;gene_biotype=protein_coding"),
    ("1", "gene", 101, 200, "+", "ID=gene-nad1;gbkey=Gene;exception=trans-splicing;part=1"),
    ("1", "gene", 301, 400, "-", "ID=gene-nad1;gbkey=Gene;exception=trans-splicing;part=2"),
)  # fmt: skip
AUGUSTUS = lines(
    ("1", "gene", 3631, 5899, "+", "g1"),
    ("1", "transcript", 3631, 5899, "+", "g1.t1"),
    ("1", "CDS", 3760, 3913, "+", 'transcript_id "g1.t1"; gene_id "g1";'),
    ("1", "exon", 3631, 5899, "+", 'transcript_id "g1.t1"; gene_id "g1";'),
)
STRINGTIE = "# stringtie -o x.gtf\n# StringTie version 2.1\n" + lines(
    ("1", "transcript", 3631, 5899, "+", 'gene_id "STRG.1"; transcript_id "STRG.1.1"; cov "2.5"; TPM "2.0";'),
    ("1", "exon", 3631, 5899, "+", 'gene_id "STRG.1"; transcript_id "STRG.1.1"; exon_number "1";'),
    ("1", "transcript", 6001, 6100, ".", 'gene_id "STRG.2"; transcript_id "STRG.2.1";'),
)  # fmt: skip


@pytest.mark.parametrize(
    ("annotation", "gene", "in_table", "end"),
    [
        (ENSEMBL, "AT1G01010", "AT1G01010", 5899),
        (ENSEMBL, "AT1G01010", "gene:AT1G01010", 5899),
        (ENSEMBL, "AT1G01010", "AT1G01010.1", 5899),
        (ENSEMBL, "AT1G01010", "NAC001", 5899),
        (PHYTOZOME, "AT1G01010.TAIR10", "AT1G01010", 5000),  # longest=1, not the longer one
        (PHYTOZOME, "AT1G01010.TAIR10", "AT1G01010.1", 5000),
        (ARAPORT, "AT1G01010", "AT1G01010", 5899),
        (MAIZE, "Zm00001eb000010", "Zm00001eb000010", 5899),
        (TOMATO, "Solyc01g004000.1", "Solyc01g004000", 5899),
        (TOMATO, "Solyc01g004000.1", "Solyc01g004000.2", 5899),
        (TOMATO, "Solyc01g004000.1", "Solyc01g004000.1.1", 5899),
        (REFSEQ, "AT1G01010", "AT1G01010", 5899),
        (REFSEQ, "AT1G01010", "839580", 5899),
        (REFSEQ, "AT1G01010", "gene-AT1G01010", 5899),
        (AUGUSTUS, "g1", "g1", 5899),
        (STRINGTIE, "STRG.1", "STRG.1", 5899),
    ],
)
@pytest.mark.parametrize(
    ("newline", "bom"), [("\n", ""), ("\r\n", ""), ("\r", ""), ("\r\n", "\ufeff")]
)
def test_each_source(folder, annotation, gene, in_table, end, newline, bom):
    data = read(folder, annotation, [in_table], newline=newline, bom=bom)
    at = data.gene.index(gene)
    assert (data.tss[at], data.tts[at], data.strand[at]) == (3630, end, 1)
    assert data.expression.value[at, 0] == 1
    assert int(data.expression.labelled.sum()) == 1
    assert data.genome.contig_length.tolist() == [CONTIG]


def test_nothing_is_dropped_unsaid(folder):
    skipped = {s.gene: s.reason for s in read(folder, REFSEQ, ["AT1G01010"]).skipped}
    assert skipped == {
        "origin": "crosses the origin of a circular contig",
        "nad1": "is trans-spliced from several places",
    }
    skipped = {s.gene: s.reason for s in read(folder, STRINGTIE, ["STRG.1"]).skipped}
    assert skipped == {"STRG.2": "has no strand"}
    circular = ENSEMBL.replace("Alias=", "Is_circular=true;Alias=") + lines(
        ("1", "gene", 8900, 9100, "+", "ID=gene:o;biotype=protein_coding")
    )
    skipped = {s.gene: s.reason for s in read(folder, circular, ["AT1G01010"]).skipped}
    assert skipped == {
        "AT1G03987": "is a ncRNA_gene",
        "o": "crosses the origin of a circular contig",
    }


@pytest.mark.parametrize(
    "second", [("2", "+"), ("1", "-")], ids=["on two contigs", "on both strands"]
)
def test_one_gene_id_at_two_places_is_no_gene(folder, second):
    contig, strand = second
    text = STRINGTIE + lines(
        (contig, "transcript", 6001, 6100, strand, 'gene_id "STRG.3"; transcript_id "STRG.3.1";'),
        ("1", "transcript", 7001, 7100, "+", 'gene_id "STRG.3"; transcript_id "STRG.3.2";'),
    )
    data = read(folder, text, ["STRG.1"], contigs=("1", "2"))
    assert data.gene == ["STRG.1"]
    reasons = {s.gene: s.reason for s in data.skipped}
    assert reasons["STRG.3"] == "has parts on several contigs or on both strands"


def test_genes_at_the_ends_of_a_contig(folder):
    text = lines(("1", "gene", 1, 1, "+", "ID=a"), ("1", "gene", CONTIG, CONTIG, "-", "ID=b"))
    data = read(folder, text, ["a", "b"])
    assert list(zip(data.gene, data.tss.tolist(), data.tts.tolist(), strict=True)) == [
        ("a", 0, 1),
        ("b", CONTIG, CONTIG - 1),
    ]


@pytest.mark.parametrize("text", ["x # y", "x; # y", "x ;# it's a comment ", "x"])
def test_trailing_comments(folder, text):
    data = read(folder, lines(("1", "gene", 1, 9, "+", f"ID={text}")), ["x"])
    assert data.gene == ["x"]


def test_a_hash_within_a_value_is_no_comment(folder):
    text = lines(("1", "gene", 1, 9, "+", "ID=x#1;Note=no #1;Name=y"))
    data = read(folder, text, ["y"])
    assert data.gene == ["x#1"]
    assert data.expression.value[0, 0] == 1


def test_contig_names_beyond_ascii(folder):
    data = read(folder, lines(("Chrà 1", "gene", 1, 9, "+", "ID=x")).replace(" 1", ""), ["x"], contigs=("Chrà",))  # fmt: skip
    assert data.contig == ["Chrà"]


def test_a_spreadsheet_made_dates_of_genes(folder):
    text = lines(("1", "gene", 1, 9, "+", "ID=MARCH1"), ("1", "gene", 11, 19, "+", "ID=g"))
    notes = " ".join(read(folder, text, ["g", "1-Mar"]).notes)
    assert "1-Mar look like gene names that a spreadsheet turned into dates" in notes


@pytest.mark.parametrize(
    ("table", "samples"),
    [
        ("# made by x, 2020\ngene,a\ng,5\n", ["a"]),
        ("#gene\ta\ng\t5\n", ["a"]),
        ("a\tb\ng\t5\t6\n", ["a", "b"]),  # R writes no name over its row names
        ('"","a"\n"g",5\n', ["a"]),
        ("gene\ta\t\t\ng\t5\t\t\n", ["a"]),  # empty columns of a spreadsheet
        ("gene;a\r\ng;5\r\n", ["a"]),
        ('gene,a\n"g","5"\n', ["a"]),
        ("Geneid\tChr\tStart\tEnd\tStrand\tLength\ta.bam\ng\t1;1\t1;5\t4;9\t+;+\t9\t5\n", ["a.bam"]),  # featureCounts
    ],
)  # fmt: skip
def test_tables_as_programs_write_them(folder, table, samples):
    read(folder, lines(("1", "gene", 1, 9, "+", "ID=g")), ["g"])
    folder.write("e.tsv", table)
    (data,) = load_dataset(folder.path)
    assert data.expression.sample == samples
    np.testing.assert_array_equal(data.expression.value, [[5, 6][: len(samples)]])


def test_a_quoted_cell_of_several_lines(folder):
    """Legal, and no row is lost; only a quote that does not close is a mistake."""
    read(folder, lines(("1", "gene", 1, 9, "+", "ID=g")), ["g"])
    folder.write("e.tsv", 'gene,description,a\ng,"two\nlines, ""quoted""",5\n')
    (data,) = load_dataset(folder.path)
    assert data.expression.sample == ["a"]
    assert data.expression.value.tolist() == [[5]]
