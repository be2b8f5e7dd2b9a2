"""Gene models as the big sources write them; every boundary below was worked out by hand."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from featurestore.inputs.annotation import read_annotation
from featurestore.inputs.problems import Problems
from tests.builders.inputs_annotation import Gene, Transcript, gff3, gtf
from tests.builders.inputs_files import bgzip, only
from tests.oracles.inputs_annotation import boundaries


def tabs(text: str) -> str:
    """Columns apart by two or more blanks become tabs."""
    import re

    return "\n".join(re.sub(r" {2,}", "\t", line.strip()) for line in text.strip().split("\n"))


def read(folder, text, problems, contigs=None, name="a.gff3"):
    return read_annotation(folder.write(name, text), problems, contigs)


def facts(annotation):
    return {g.gene: (g.contig, g.strand, g.tss, g.tts, g.transcript) for g in annotation.genes}


ENSEMBL = tabs("""
##gff-version 3
##sequence-region   1 1 30427671
1  TAIR10  chromosome  1  30427671  .  .  .  ID=chromosome:1;Alias=CP002684.1
###
1  araport11  gene  3631  5899  .  +  .  ID=gene:AT1G01010;Name=NAC001;biotype=protein_coding;gene_id=AT1G01010
1  araport11  mRNA  3631  5899  .  +  .  ID=transcript:AT1G01010.1;Parent=gene:AT1G01010;biotype=protein_coding;tag=Ensembl_canonical
1  araport11  five_prime_UTR  3631  3759  .  +  .  Parent=transcript:AT1G01010.1
1  araport11  exon  3631  5899  .  +  .  Parent=transcript:AT1G01010.1;Name=AT1G01010.1.exon1
1  araport11  CDS  3760  3913  .  +  0  ID=CDS:AT1G01010.1;Parent=transcript:AT1G01010.1
###
1  araport11  gene  6788  9130  .  -  .  ID=gene:AT1G01020;biotype=protein_coding
1  araport11  mRNA  6788  8737  .  -  .  ID=transcript:AT1G01020.6;Parent=gene:AT1G01020;tag=Ensembl_canonical
1  araport11  mRNA  6788  9130  .  -  .  ID=transcript:AT1G01020.1;Parent=gene:AT1G01020
1  araport11  exon  6788  9130  .  -  .  Parent=transcript:AT1G01020.1,transcript:AT1G01020.6
1  araport11  CDS  6915  9000  .  -  0  ID=CDS:AT1G01020.1;Parent=transcript:AT1G01020.1
###
1  araport11  ncRNA_gene  11101  11372  .  +  .  ID=gene:AT1G03987;biotype=lncRNA
1  araport11  lnc_RNA  11101  11372  .  +  .  ID=transcript:AT1G03987.1;Parent=gene:AT1G03987
""")  # fmt: skip


def test_ensembl_plants(folder, problems):
    annotation = read(folder, ENSEMBL + "\n", problems)
    assert not problems.items
    assert facts(annotation) == {
        "AT1G01010": ("1", 1, 3630, 5899, "AT1G01010.1"),
        # canonical goes before the longer CDS of .1
        "AT1G01020": ("1", -1, 8737, 6787, "AT1G01020.6"),
    }
    assert [(s.gene, s.stage, s.reason) for s in annotation.skipped] == [
        ("AT1G03987", "annotated", "is a ncRNA_gene")
    ]


def test_phytozome(folder, problems):
    text = tabs("""
    ##gff-version 3
    ##annot-version v4.1
    Chr01  phytozomev13  gene  1660  2502  .  -  .  ID=Potri.001G000100.v4.1;Name=Potri.001G000100
    Chr01  phytozomev13  mRNA  1660  2502  .  -  .  ID=Potri.001G000100.2.v4.1;Name=Potri.001G000100.2;pacid=1;longest=0;Parent=Potri.001G000100.v4.1
    Chr01  phytozomev13  mRNA  1700  2400  .  -  .  ID=Potri.001G000100.1.v4.1;Name=Potri.001G000100.1;pacid=2;longest=1;Parent=Potri.001G000100.v4.1
    Chr01  phytozomev13  CDS  1700  2400  .  -  0  ID=Potri.001G000100.1.v4.1.CDS.1;Parent=Potri.001G000100.1.v4.1;pacid=2
    """)  # fmt: skip
    annotation = read(folder, text, problems)
    assert facts(annotation) == {
        "Potri.001G000100.v4.1": ("Chr01", -1, 2400, 1699, "Potri.001G000100.1.v4.1")
    }
    assert annotation.genes[0].alias["Name"] == "Potri.001G000100"


def test_ncbi_refseq(folder, problems):
    text = tabs("""
    ##gff-version 3
    NC_1.1  RefSeq  region  1  9000  .  +  .  ID=NC_1.1:1..9000;Dbxref=taxon:3702;gbkey=Src;Is_circular=true
    NC_1.1  Gnomon  gene  101  500  .  +  .  ID=gene-LOC101;Dbxref=GeneID:101;Name=LOC101;gbkey=Gene;gene=LOC101;gene_biotype=protein_coding
    NC_1.1  Gnomon  mRNA  101  480  .  +  .  ID=rna-XM_1.2;Parent=gene-LOC101;Dbxref=GeneID:101,GenBank:XM_1.2;gbkey=mRNA;gene=LOC101
    NC_1.1  Gnomon  exon  101  480  .  +  .  ID=exon-XM_1.2-1;Parent=rna-XM_1.2
    NC_1.1  Gnomon  CDS  200  300  .  +  0  ID=cds-XP_1;Parent=rna-XM_1.2
    NC_1.1  RefSeq  gene  600  700  .  -  .  ID=gene-psbA;Name=psbA;gbkey=Gene;gene_biotype=protein_coding;locus_tag=ArthCp002
    NC_1.1  RefSeq  CDS  600  700  .  -  0  ID=cds-NP_1;Parent=gene-psbA
    NC_1.1  Gnomon  gene  800  900  .  -  .  ID=gene-LOC102;Name=LOC102;gbkey=Gene;gene_biotype=lncRNA
    NC_1.1  Gnomon  lnc_RNA  800  900  .  -  .  ID=rna-XR_1;Parent=gene-LOC102
    NC_1.1  RefSeq  gene  1000  1100  .  -  .  ID=gene-rps12;gbkey=Gene;gene_biotype=protein_coding;exception=trans-splicing;part=1
    NC_1.1  RefSeq  gene  2000  2100  .  +  .  ID=gene-rps12;gbkey=Gene;gene_biotype=protein_coding;exception=trans-splicing;part=2
    NC_1.1  RefSeq  gene  8900  9100  .  +  .  ID=gene-ori;gbkey=Gene;gene_biotype=protein_coding
    """)  # fmt: skip
    annotation = read(folder, text, problems, {"NC_1.1": 9000})
    assert not problems.items
    assert facts(annotation) == {
        "LOC101": ("NC_1.1", 1, 100, 480, "rna-XM_1.2"),
        "psbA": ("NC_1.1", -1, 700, 599, ""),
    }
    assert annotation.genes[0].alias["GeneID"] == "101"
    assert {s.gene: s.reason for s in annotation.skipped} == {
        "LOC102": "has the biotype lncRNA",
        "rps12": "is trans-spliced from several places",
        "ori": "crosses the origin of a circular contig",
    }
    assert any("no transcript" in note and "psbA" in note for note in annotation.notes)


def test_araport11_and_tair10(folder, problems):
    text = tabs("""
    Chr1  Araport11  gene  3631  5899  .  +  .  ID=AT1G01010;Name=AT1G01010;Note=NAC domain %28containing%29 protein%3B 1;symbol=NAC001;locus_type=protein_coding
    Chr1  Araport11  mRNA  3631  5899  .  +  .  ID=AT1G01010.1;Parent=AT1G01010;Name=AT1G01010.1
    Chr1  Araport11  protein  3760  5630  .  +  .  ID=AT1G01010.1-Protein;Derives_from=AT1G01010.1
    Chr1  TAIR10  gene  6000  6100  .  -  .  ID=AT1G01020;Note=protein_coding_gene;Name=AT1G01020
    Chr1  TAIR10  mRNA  6000  6100  .  -  .  ID=AT1G01020.1;Parent=AT1G01020;Name=AT1G01020.1;Index=1
    Chr1  TAIR10  gene  7000  7100  .  +  .  ID=AT1G01046;Note=miRNA;Name=AT1G01046
    Chr1  TAIR10  miRNA  7000  7100  .  +  .  ID=AT1G01046.1;Parent=AT1G01046
    Chr1  TAIR10  transposable_element_gene  8000  8100  .  +  .  ID=AT1G01500;Note=transposable_element_gene
    Chr1  Araport11  pseudogene  9000  9100  .  +  .  ID=AT1G01600
    Chr1  Araport11  pseudogenic_transcript  9000  9100  .  +  .  ID=AT1G01600.1;Parent=AT1G01600
    """)  # fmt: skip
    annotation = read(folder, text, problems)
    assert not problems.items
    assert facts(annotation) == {
        "AT1G01010": ("Chr1", 1, 3630, 5899, "AT1G01010.1"),
        "AT1G01020": ("Chr1", -1, 6100, 5999, "AT1G01020.1"),
    }
    assert {s.gene: s.reason for s in annotation.skipped} == {
        "AT1G01046": "has the biotype miRNA",
        "AT1G01500": "is a transposable_element_gene",
        "AT1G01600": "is a pseudogene",
    }


def test_ensembl_gtf_with_comments_and_version_lines(folder, problems):
    text = tabs("""
    #!genome-build TAIR10
    1  araport11  gene  3631  5899  .  +  .  gene_id "AT1G01010"; gene_name "NAC001"; gene_biotype "protein_coding"; # first
    1  araport11  transcript  3631  5899  .  +  .  gene_id "AT1G01010"; transcript_id "AT1G01010.1"; tag "basic"; tag "Ensembl_canonical";
    1  araport11  exon  3631  5899  .  +  .  gene_id "AT1G01010"; transcript_id "AT1G01010.1"; exon_number "1";
    1  araport11  transcript  3000  5899  .  +  .  gene_id "AT1G01010"; transcript_id "AT1G01010.2";
    1  araport11  CDS  3000  5899  .  +  0  gene_id "AT1G01010"; transcript_id "AT1G01010.2";
    1  araport11  start_codon  3760  3762  .  +  0  gene_id "AT1G01010"; transcript_id "AT1G01010.1";
    1  araport11  gene  7000  7100  .  -  .  gene_id "AT1G2"; gene_biotype "tRNA";
    """)  # fmt: skip
    annotation = read(folder, text, problems, name="a.gtf")
    assert not problems.items
    assert facts(annotation) == {"AT1G01010": ("1", 1, 3630, 5899, "AT1G01010.1")}
    assert [s.reason for s in annotation.skipped] == ["has the biotype tRNA"]


spans = st.tuples(st.integers(1, 900), st.integers(0, 99)).map(lambda x: (x[0], x[0] + x[1]))


@st.composite
def gene_lists(draw):
    genes = []
    for i in range(draw(st.integers(1, 5))):
        transcripts = [
            Transcript(
                f"g{i}.{j}",
                draw(st.lists(spans, min_size=1, max_size=3)),
                draw(st.lists(spans, max_size=2)),
            )
            for j in range(draw(st.integers(1, 4)))
        ]
        contig = draw(st.sampled_from(["c2", "c1"]))
        genes.append(Gene(f"g{i}", contig, draw(st.sampled_from("+-")), transcripts))
    return genes


def _read_lines(tmp_path_factory, lines, line_end, pack=bytes):
    path = tmp_path_factory.mktemp("gff") / "a"
    path.write_bytes(pack((line_end.join(lines) + line_end).encode()))
    problems = Problems()
    annotation = read_annotation(path, problems, {"c2": 1000, "c1": 1000})
    assert not problems.items
    return annotation


def _check(annotation, genes):
    found = {g.gene: (g.transcript, g.tss, g.tts, g.strand) for g in annotation.genes}
    assert found == {g.name: (*boundaries(g), 1 if g.strand == "+" else -1) for g in genes}
    places = [(["c2", "c1"].index(g.contig), min(g.tss, g.tts), g.gene) for g in annotation.genes]
    assert places == sorted(places)


@given(gene_lists(), st.randoms(), st.sampled_from(["\n", "\r\n"]), st.sampled_from([bytes, bgzip]))
def test_gff3_in_any_order(tmp_path_factory, genes, shuffler, line_end, pack):
    lines = gff3(genes, "gene:", "transcript:")
    shuffler.shuffle(lines)
    lines = ["##gff-version 3", *lines, "###", "# done", "##FASTA", ">c1", "ACGT\tACGT"]
    _check(_read_lines(tmp_path_factory, lines, line_end, pack), genes)


@given(gene_lists(), st.randoms(), st.booleans(), st.booleans())
def test_gtf_in_any_order_with_or_without_gene_lines(
    tmp_path_factory, genes, shuffler, gene_lines, transcript_lines
):
    # Without transcript lines the span is that of the parts, so CDS must lie within exons.
    genes = [
        Gene(g.name, g.contig, g.strand, [Transcript(t.name, t.exons, t.cds and [t.exons[0]])
         for t in g.transcripts])
        for g in genes
    ]  # fmt: skip
    lines = gtf(genes, gene_lines, transcript_lines)
    shuffler.shuffle(lines)
    annotation = _read_lines(tmp_path_factory, lines, "\n")
    _check(annotation, genes)
    assert gene_lines or "have no line of their own" in annotation.notes[0]


def line(kind="gene", start=1, end=100, strand="+", text="ID=g", contig="c1"):
    return f"{contig}\tx\t{kind}\t{start}\t{end}\t.\t{strand}\t.\t{text}\n"


@pytest.mark.parametrize(
    ("bad", "what", "mend", "place"),
    [
        (line(start=200, end=100), "start > end: gene 200 > 100", "smaller one first", "line 3"),
        (line(start="1e3"), "no whole number: gene '1e3'", "whole numbers", "line 3"),
        (line(start=0), "a start below 1: gene 0", "1-based", "line 3"),
        (line(strand="?"), "neither + nor -: g has strand '?'", "+ or - in column 7", "line 3"),
        (line(end=5000), "g ends at 5,000 on c1 of 1,000 bp", "same assembly", "line 3"),
        (line(text="ID=ok"), "given twice: ok (also line 2)", "its own id", "line 3"),
        (line(text="ID=gene:ok"), "given twice: ok (also line 2)", "its own id", "line 3"),
        (line(text="Note=x"), "a gene without ID", "ID=", "line 3"),
        ("c1 x gene 1 100 . + . ID=g\n", "wrong column count: 1 column", "tabs", "line 3"),
        (line(contig="C1"), "1 of 2 genes lie on 1 contig that the FASTA lacks: C1; it has c1", "same contig names", "line 3"),
    ],
)  # fmt: skip
def test_problems(folder, problems, bad, what, mend, place):
    text = "##gff-version 3\n" + line(text="ID=ok") + bad
    path = folder.path / "a.gff3"
    read(folder, text, problems, {"c1": 1000})
    problem = only(problems)
    assert problem.file == str(path)
    assert what in problem.what
    assert mend in problem.mend
    assert problem.place == place


def test_many_mistakes_of_a_kind_are_one_problem_with_a_count(folder, problems):
    text = line(text="ID=ok") + "".join(line(start=9, end=i % 8 + 1) for i in range(500))
    read(folder, text, problems)
    problem = only(problems)
    assert problem.place == "lines 2, 3, 4"
    assert "(500 in all)" in problem.what


def test_gtf_problems(folder, problems):
    text = "".join(
        line(kind, contig=contig, text=text)
        for kind, contig, text in [
            ("exon", "c1", 'gene_id "g"; transcript_id "t";'),
            ("exon", "c2", 'gene_id "g"; transcript_id "t";'),
            ("exon", "c1", 'gene_id "g";'),
        ]
    )
    read(folder, text, problems)
    assert [p.place for p in problems.items] == ["line 2", "line 3"]
    assert "a transcript at two places: t (also line 1)" in problems.items[0].what


@pytest.mark.parametrize("text", ["", "# nothing\n", "hello\n", "a\tb\tc\n"])
def test_no_annotation_at_all(folder, problems, text):
    assert read(folder, text, problems) is None
    assert "no feature of a GFF3 or GTF file" in only(problems).what


def test_no_gene_in_it(folder, problems):
    assert read(folder, line("exon", text="ID=e;Parent=t") * 3, problems) is None
    assert "feature types: 3 exon" in only(problems).what


def test_parts_that_trail_off(folder, problems):
    text = (
        line(text="ID=g # a comment")
        + line("mRNA", 5, 90, text="ID=t;Parent=g # another")
        + "c1\tx\tCDS\t10\t20\t.\t+\t0\tParent=t\t# a tenth column\n\n"
    )
    annotation = read(folder, text, problems)
    assert not problems.items
    assert facts(annotation) == {"g": ("c1", 1, 4, 90, "t")}


def test_percent_encoding_in_ids(folder, problems):
    text = line(text="ID=g%2C1") + line("mRNA", 5, 90, text="ID=t%3B1;Parent=g%2C1")
    annotation = read(folder, text, problems)
    assert facts(annotation) == {"g,1": ("c1", 1, 4, 90, "t;1")}


def test_a_hundred_thousand_lines_are_linear(folder, problems):
    import time

    rng = random.Random(0)
    genes = [
        Gene(f"g{i}", "c", rng.choice("+-"), [Transcript(f"g{i}.1", [(i * 10 + 1, i * 10 + 9)] * 4, [(i * 10 + 1, i * 10 + 9)] * 4)])
        for i in range(10_000)
    ]  # fmt: skip
    path = folder.write("a.gff3", "\n".join(gff3(genes)))
    begun = time.process_time()
    annotation = read_annotation(path, problems)
    assert len(annotation.genes) == 10_000
    assert time.process_time() - begun < 3
