"""Whole data sets: everything read, everything told, and the real ones with their known counts."""

from __future__ import annotations

import hashlib
import time

import numpy as np
import pytest

from featurestore.inputs.dataset import load_config
from featurestore.inputs.load import dataset_digest, load_dataset, open_dataset
from featurestore.inputs.problems import DataSetError
from featurestore.sequence import iupac
from tests.builders.inputs_annotation import Gene, Transcript, gff3
from tests.builders.inputs_files import Folder, fasta

TOML = """
[species.plant]
genome = "g.fa.gz"
annotation = "a.gff3"
expression = "e.tsv"
samples = "s.tsv"
families = "f.tsv"
variants.mutants = "v.vcf"
"""


def write_good(folder: Folder) -> None:
    genes = [
        Gene("g1", "c2", "-", [Transcript("g1.1", [(11, 20)])]),
        Gene("g2", "c1", "+", [Transcript("g2.1", [(11, 20)])]),
        Gene("g0", "c1", "-", [Transcript("g0.1", [(11, 30)])]),
        Gene("g3", "c1", "+", [Transcript("g3.1", [(1, 5)])]),
    ]
    folder.write("g.fa.gz", fasta({"c2": "ACGT" * 10, "c1": "GGCA" * 10}))
    folder.write("a.gff3", "\n".join(gff3(genes, "gene:", "transcript:")))
    folder.rows("e.tsv", "gene s1 s2", "g2 1 2", "g1 3 4", "g3 5 6", "h 7 8")
    folder.rows("s.tsv", "sample tissue", "s2 root", "s1 leaf")
    folder.rows("f.tsv", "gene family", "g1 F1", "g2 F1", "g0 F2")
    folder.rows(
        "v.vcf", "#CHROM POS ID REF ALT QUAL FILTER INFO FORMAT m1", "c1 1 . G A . . . GT 1"
    )
    folder.write("dataset.toml", TOML)


def test_a_good_data_set(folder):
    write_good(folder)
    (data,) = load_dataset(folder.path)
    assert data.gene == ["g1", "g3", "g0", "g2"]  # contig as in the FASTA, start, id
    assert data.locus == data.gene
    assert data.contig == ["c2", "c1", "c1", "c1"]
    assert data.strand.tolist() == [-1, 1, -1, 1]
    assert data.tss.tolist() == [20, 0, 30, 10]
    assert data.tts.tolist() == [10, 5, 10, 20]
    assert data.family == ["F1", "", "F2", "F1"]
    np.testing.assert_array_equal(data.expression.value, [[3, 4], [5, 6], [np.nan, np.nan], [1, 2]])
    assert data.expression.labelled.tolist() == [True, True, False, True]
    assert data.expression.tissue == ["leaf", "root"]
    assert iupac.decode(data.genome.code[40:48]) == "GGCAGGCA"
    assert data.variants == {"mutants": folder.path / "v.vcf"}
    assert [r.name for r in data.regions] == ["promoter", "terminator"]
    told = "\n".join(data.notes)
    assert "1 of 4 genes have no row, for example g0" in told
    assert "1 of 4 ids name no gene of this data set, for example h" in told
    assert "1 of 4 genes have no family and stand as singletons, for example g3" in told
    assert data.input_digest == {
        role: hashlib.sha256((folder.path / name).read_bytes()).hexdigest()
        for role, name in {
            "genome": "g.fa.gz", "annotation": "a.gff3", "expression": "e.tsv",
            "samples": "s.tsv", "families": "f.tsv", "variants/mutants": "v.vcf",
        }.items()
    }  # fmt: skip


def test_every_mistake_of_every_species_in_one_report(folder):
    write_good(folder)
    folder.write(
        "dataset.toml",
        TOML + TOML.replace("plant]", "other]").replace("g.fa.gz", "no.fa") + "x = 1\n",
    )
    folder.write(
        "a.gff3", (folder.path / "a.gff3").read_text().replace("c2\tx\tgene\t11", "c2\tx\tgene\t99")
    )
    folder.rows("e.tsv", "gene s1 s2", "g2 1 oops")
    folder.rows("s.tsv", "sample tissue", "q root")
    folder.rows("f.tsv", "gene family", "q F1")
    folder.rows("v.vcf", "#CHROM POS ID REF ALT QUAL FILTER INFO", "c1 1 . T A . . .")
    with pytest.raises(DataSetError) as caught:
        load_dataset(folder.path)
    told = [str(p) for p in caught.value.problems]
    for part in (
        "unknown key 'x' in [species.other]", "start > end: gene 99 > 20", "'oops' in column 's2'",
        "the table has q", "REF T, genome G", "no.fa: the file does not exist",
    ):  # fmt: skip
        assert sum(part in line for line in told) == 1, (part, told)


def test_configuration_comes_along(folder):
    write_good(folder)
    config, species = open_dataset(folder.path / "dataset.toml")
    assert [s.name for s in species] == list(config.species) == ["plant"]
    assert load_dataset(config)[0].gene == species[0].gene


def test_digest_follows_content_and_settings_and_not_places(folder, tmp_path_factory):
    write_good(folder)
    first = dataset_digest(load_config(folder.path))
    elsewhere = Folder(tmp_path_factory.mktemp("elsewhere"))
    write_good(elsewhere)
    (elsewhere.path / "f.tsv").rename(elsewhere.path / "fam.tsv")
    elsewhere.write("dataset.toml", "embedders = ['kmer']\n" + TOML.replace("f.tsv", "fam.tsv"))
    assert dataset_digest(load_config(elsewhere.path)) == first
    changes = [
        ("dataset.toml", TOML.replace('"e.tsv"', '{ file = "e.tsv", duplicates = "mean" }')),
        ("dataset.toml", "[regions]\nbin = 100\n" + TOML),
        ("dataset.toml", TOML.replace("plant", "planta")),
        ("f.tsv", "gene\tfamily\ng1\tF1\n"),
    ]
    seen = {first}
    for name, content in changes:
        write_good(folder)
        folder.write(name, content)
        seen.add(dataset_digest(load_config(folder.path)))
    assert len(seen) == len(changes) + 1


ATH = """
expression = "{data}/ath_windows/tpm_leaf.tsv.gz"
families = "{data}/ath_windows/families_plaza5_hom.tsv.gz"
"""


def load_real(folder, shared_data, text):
    folder.write("dataset.toml", "[species.x]\n" + text.format(data=shared_data))
    (data,) = load_dataset(folder.path)
    return data


def labelled_with_family(data):
    return sum(
        bool(f) and bool(x) for f, x in zip(data.family, data.expression.labelled, strict=True)
    )


@pytest.mark.shared
def test_ath_windows(folder, shared_data):
    text = 'genome = "{data}/ath_windows/genome.fa.gz"\nannotation = "{data}/ath_windows/genes.gff3.gz"\n'
    data = load_real(
        folder, shared_data, text + ATH + 'variants.te = "{data}/ath_windows/te_variants.vcf.gz"'
    )
    assert len(data.gene) == 1373
    assert labelled_with_family(data) == 1335
    at = data.gene.index("AT1G01020")
    assert (data.tss[at], data.tts[at], data.strand[at]) == (8737, 5927, -1)
    # The start codon of AT1G01010 (bases 3760 … 3762 in TAIR10).
    assert iupac.decode(data.genome.code[3759:3762]) == "ATG"
    assert any("2,405 records" in note for note in data.notes)


@pytest.mark.shared
def test_ath_gene_contigs(folder, shared_data):
    text = 'genome = "{data}/ath_gene_contigs/genome.fa.gz"\nannotation = "{data}/ath_gene_contigs/genes.gff3.gz"\n'
    begun = time.process_time()
    data = load_real(folder, shared_data, text + ATH)
    assert time.process_time() - begun < 4
    assert len(data.gene) == len(data.genome.contig_id) == 10_773
    assert labelled_with_family(data) == 10_762
    assert len({f for f in data.family if f}) == 5_619


@pytest.mark.shared
def test_brassica_rapa(folder, shared_data):
    text = """
sequences = {{ promoter = "{data}/bra_flanks/promoters_1kb.fa.gz" }}
expression = {{ file = "{data}/bra_flanks/cpm_28samples.tsv.gz", unit = "CPM" }}
families = "{data}/bra_flanks/families_via_ath_plaza5.tsv.gz"
"""
    data = load_real(folder, shared_data, text)
    assert data.region_code.shape == (9263, 1, 1000)
    assert data.regions[0].length == 1000
    assert data.expression.value.shape == (9263, 28)
    assert data.expression.unit == "CPM"
    assert data.expression.labelled.all()
    assert labelled_with_family(data) == 9262


@pytest.mark.shared
def test_maize_terminators_have_several_records_a_gene(folder, shared_data):
    text = """
sequences = {{ terminator = "{data}/zma_flanks/terminators_170bp.tsv.gz" }}
expression = {{ file = "{data}/zma_flanks/fpkm_23tissues.tsv.gz", unit = "FPKM" }}
families = "{data}/zma_flanks/families_plaza_ortho04m.tsv.gz"
"""
    data = load_real(folder, shared_data, text)
    assert (len(data.gene), len(set(data.locus))) == (31_067, 25_852)
    of_gene: dict[str, set[str]] = {}
    for locus, family in zip(data.locus, data.family, strict=True):
        of_gene.setdefault(locus, set()).add(family)
    assert all(len(families) == 1 for families in of_gene.values())
    assert data.region_code.shape[2] == 170
    assert np.isnan(data.expression.value).any()


@pytest.mark.shared
@pytest.mark.parametrize(
    ("file", "region", "records"),
    [
        ("terminators_170bp", "terminator", 24_201),
        ("epd_promoters_m200_p50", "promoter", 7_402),
        ("tss_window_512bp", "promoter", 6_707),
    ],
)
def test_arabidopsis_flanks(folder, shared_data, file, region, records):
    text = f'sequences = {{{{ {region} = "{{data}}/ath_flanks/{file}.tsv.gz" }}}}\n'
    data = load_real(folder, shared_data, text)
    assert len(data.gene) == len(set(data.gene)) == records


@pytest.mark.shared
def test_positions_of_human_genes(folder, shared_data):
    text = """
positions = "{data}/gtex_like/genes_tss_hg38.tsv.gz"
expression = "{data}/gtex_like/gtex_29tissues_tpm.tsv.gz"
"""
    data = load_real(folder, shared_data, text)
    assert (data.kind, len(data.gene)) == ("positions", 18_413)
    at = data.gene.index("ENSG00000000003")
    assert (data.contig[at], data.tss[at], data.strand[at]) == ("chrX", 100_636_751, -1)
