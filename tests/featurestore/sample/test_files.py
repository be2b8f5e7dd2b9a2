"""The files of the simulated sample: same bytes everywhere, consistent with one another."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from featurestore.errors import InputError
from featurestore.sample import write_sample
from tests.oracles import sample as oracle

SPECIES = ("simulated_alpha", "simulated_beta")

# Of the data of write_sample(seed=7, genes=40, lines=3): the promise of the same bytes on every
# machine. It changes when the model changes, never with Python, numpy or the processor.
GOLDEN = "6161d39b207feeaec4a262cb755de8119cdf72a8adb098c65c88033b310d191c"


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.suffix in {".toml", ".md"}:  # prose may be reworded
            continue
        total.update(f"{path.relative_to(folder).as_posix()}\n".encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


@pytest.mark.parametrize("hash_seed", ["0", "4711"])
def test_bytes_do_not_depend_on_the_process(tmp_path, hash_seed):
    code = (
        "import sys; from pathlib import Path; from featurestore.sample import write_sample; "
        "write_sample(Path(sys.argv[1]), seed=7, genes=40, lines=3)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, env=environment)
    assert digest(tmp_path) == GOLDEN


def test_seeds_differ_and_keep_the_grammar(tmp_path):
    for seed in (1, 2):
        write_sample(tmp_path / str(seed), seed=seed, genes=40, lines=2)
    texts = [(tmp_path / s / "simulated_alpha.fa").read_text() for s in "12"]
    assert texts[0] != texts[1]
    grammars = [(tmp_path / s / "truth" / "grammar.json").read_text() for s in "12"]
    assert grammars[0] == grammars[1]


def test_more_lines_leave_genomes_and_controls_alone(tmp_path):
    for lines in (0, 3):
        write_sample(tmp_path / str(lines), genes=30, lines=lines)
    for name in ("simulated_alpha.fa", "simulated_beta.tpm.tsv", "truth/genes.tsv"):
        assert (tmp_path / "0" / name).read_bytes() == (tmp_path / "3" / name).read_bytes()
    tables = [oracle.read_table(tmp_path / s / "simulated_alpha.tpm.tsv") for s in "03"]
    assert all(b[k] == a[k] for a, b in zip(*tables, strict=True) for k in a)
    assert not (tmp_path / "0" / "simulated_alpha.mutants.vcf").exists()
    assert "variants" not in (tmp_path / "0" / "dataset.toml").read_text()


def test_refuses_a_folder_with_files(tmp_path):
    (tmp_path / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match=r"not empty \(mine.txt\)"):
        write_sample(tmp_path, genes=20, lines=0)
    write_sample(tmp_path, genes=20, lines=0, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == "keep"
    with pytest.raises(InputError, match="is a file"):
        write_sample(tmp_path / "mine.txt", overwrite=True)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"genes": 5}, "at least 20"), ({"lines": -1}, "0 to 999"), ({"seed": -1}, "seed = -1")],
)
def test_refuses_numbers_out_of_range(tmp_path, wrong, message):
    with pytest.raises(InputError, match=message):
        write_sample(tmp_path / "new", **wrong)
    assert not (tmp_path / "new").exists()


def test_package_imports_nothing_heavy():
    code = "import featurestore.sample, sys; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_called_simulated_wherever_it_shows(sample):
    for path in sample.rglob("*"):
        if path.suffix in {".fa", ".gff3", ".vcf", ".toml", ".md", ".json"}:
            assert re.search("simulated", path.read_text()[:400], re.IGNORECASE), path
        elif path.suffix == ".tsv" and path.parent == sample and path.name != "families.tsv":
            assert "simulated" in path.name
    for name in SPECIES:
        headers = re.findall("^>.*", (sample / f"{name}.fa").read_text(), re.MULTILINE)
        assert all("SIMULATED" in header for header in headers)


def test_dataset_description(sample):
    described = tomllib.loads((sample / "dataset.toml").read_text())
    assert described["embedders"] == ["onehot", "kmer"]
    assert described["regions"] == {
        "promoter": {"anchor": "tss", "upstream": 1000, "downstream": 500},
        "terminator": {"anchor": "tts", "upstream": 500, "downstream": 1000},
        "bin": 250,
    }
    assert tuple(described["species"]) == SPECIES
    for table in described["species"].values():
        files = [table[k] for k in ("genome", "annotation", "samples", "families")]
        files += [table["expression"]["file"], *table.get("variants", {}).values()]
        assert all((sample / name).is_file() for name in files)


def test_reader_of_the_project_finds_the_same_genes(sample):
    from featurestore.inputs.load import load_dataset

    truth = oracle.read_table(sample / "truth" / "genes.tsv")
    for data in load_dataset(sample / "dataset.toml"):
        rows = [row for row in truth if row["species"] == data.name]
        assert data.gene == [row["gene"] for row in rows]
        assert data.tss.tolist() == [int(row["tss"]) for row in rows]
        assert data.tts.tolist() == [int(row["tts"]) for row in rows]
        assert data.family == [row["family"] for row in rows]
        assert not data.skipped
        assert data.expression is not None
        assert data.expression.labelled.all()


def test_reading_frames(genomes, genes):
    """Every transcript: ATG, a stop at the end and none before, phases, splice sites."""
    strands = []
    for name in SPECIES:
        for gene in genes[name].values():
            strands.append(gene.strand)
            sequence = genomes[name][gene.contig]
            for transcript in gene.transcripts:
                segments = [(start, end) for start, end, _ in transcript.cds]
                coding = oracle.spliced(sequence, gene.strand, segments)
                codons = [coding[i : i + 3] for i in range(0, len(coding), 3)]
                assert codons[0] == "ATG"
                assert codons[-1] in oracle.CODON_STOPS
                assert not oracle.CODON_STOPS & set(codons[:-1])
                done = 0
                for start, end, phase in sorted(transcript.cds, reverse=gene.strand == "-"):
                    assert (done + phase) % 3 == 0
                    done += end - start
                exons = sorted(transcript.exons)
                assert (exons[0][0], exons[-1][1]) == (transcript.start, transcript.end)
    assert 0.4 < strands.count("+") / len(strands) < 0.6


def test_introns_are_spliced_as_usual(genomes, genes):
    name = SPECIES[0]
    for gene in genes[name].values():
        exons = sorted(gene.representative().exons)
        for (_, donor), (acceptor, _) in pairwise(exons):
            intron = genomes[name][gene.contig][donor:acceptor].upper()
            ends = intron if gene.strand == "+" else oracle.reverse_complement(intron)
            assert (ends[:2], ends[-2:]) == ("GT", "AG")


def test_choosing_the_representative_transcript_matters(genes):
    every = [gene for name in SPECIES for gene in genes[name].values()]
    several = [gene for gene in every if len(gene.transcripts) > 1]
    assert 0.1 < len(several) / len(every) < 0.4
    longest = [max(gene.transcripts, key=lambda t: t.end - t.start) for gene in several]
    wrong = [g for g, t in zip(several, longest, strict=True) if t is not g.representative()]
    first = [gene for gene in several if gene.transcripts[0] is not gene.representative()]
    assert len(wrong) > 20
    assert len(first) > 20


def test_layout_has_the_awkward_cases(genomes, genes, windows):
    """Windows that run off, overlap a neighbour's gene, hold N; soft-masked bases; tandem copies."""
    off = [g for pair in windows.values() for g in pair if g.startswith("N") or g.endswith("N")]
    assert 8 < len(off) < 0.1 * len(windows)
    crowded = 0
    for name in SPECIES:
        ordered = list(genes[name].values())
        for left, right in pairwise(ordered):
            gap = right.representative().start - left.representative().end
            assert right.contig != left.contig or gap > 250
            crowded += right.contig == left.contig and gap < 1500
        assert any(base.islower() for sequence in genomes[name].values() for base in sequence)
    assert 0.05 < crowded / len(windows) < 0.3


def test_tables_agree_in_their_ids(sample, genes):
    families = oracle.read_table(sample / "families.tsv")
    assert len(families) == len({row["gene"] for row in families}) == 1200
    assert {row["gene"] for row in families} == {g for name in SPECIES for g in genes[name]}
    for name in SPECIES:
        table = oracle.read_table(sample / f"{name}.tpm.tsv")
        assert [row["gene"] for row in table] == list(genes[name])
        samples = oracle.read_table(sample / f"{name}.samples.tsv")
        assert list(table[0])[1:] == [row["sample"] for row in samples]
        assert len({row["tissue"] for row in samples}) == 4
        controls = [row for row in samples if row["control"] == "1"]
        assert len(controls) == 8
        assert {row["genotype"] for row in controls} == {"wild_type"}
    shared = {row["family"] for row in families if row["gene"] in genes[SPECIES[0]]}
    assert len(shared & {r["family"] for r in families if r["gene"] in genes[SPECIES[1]]}) > 150


def test_columns_sum_to_a_part_of_a_transcriptome(sample):
    sums = []
    for name in SPECIES:
        table = np.loadtxt(sample / f"{name}.tpm.tsv", delimiter="\t", skiprows=1, dtype=str)
        sums.append(table[:, 1:].astype(float).sum(axis=0))
    assert sums[0] == pytest.approx(1e6 * 600 / 25_000, abs=1)
    assert sums[1] == pytest.approx(1e6 * 600 / 25_000 * 10**0.15, abs=1)


def test_families_resemble_one_another(sample, genomes, genes):
    """Shared 8-mers of transcripts: any two relatives share more than any two strangers."""
    words = {}
    for name in SPECIES:
        for gene in genes[name].values():
            transcript = gene.representative()
            segments = [(start, end) for start, end, _ in transcript.cds]
            coding = oracle.spliced(genomes[name][gene.contig], gene.strand, segments)
            words[gene.name] = {coding[i : i + 8] for i in range(len(coding) - 7)}
    family: dict[str, list[str]] = {}
    for row in oracle.read_table(sample / "families.tsv"):
        family.setdefault(row["family"], []).append(row["gene"])

    def shared(a: str, b: str) -> float:
        return len(words[a] & words[b]) / min(len(words[a]), len(words[b]))

    within = [shared(m[0], other) for m in family.values() for other in m[1:]]
    heads = [members[0] for members in family.values()]
    between = [shared(a, b) for a, b in pairwise(heads)]
    assert len(within) > 400
    assert min(within) > max(between)
    assert np.median(within) > 0.15 > 0.05 > np.median(between)
