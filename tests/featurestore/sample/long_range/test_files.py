"""The files of the long-range world agree with one another and with the rule written again."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import zarr
from click.testing import CliRunner

from featurestore.cli import cli
from tests.oracles import long_range as oracle
from tests.oracles import sample as plain

pyBigWig = pytest.importorskip("pyBigWig")

SPECIES = ("simulated_gamma", "simulated_delta")


@pytest.fixture(scope="module")
def genome(world):
    return {
        name: text.upper()
        for species in SPECIES
        for name, text in plain.read_fasta(world / f"{species}.fa").items()
    }


@pytest.fixture(scope="module")
def rule(world):
    return json.loads((world / "truth" / "grammar.json").read_text())


@pytest.fixture(scope="module")
def genes(world):
    found = {}
    for species in SPECIES:
        found |= {gene.name: gene for gene in plain.read_genes(world / f"{species}.gff3").values()}
    return found


@pytest.fixture(scope="module")
def truth(world):
    names = ("genes", "elements", "pairs", "variants")
    return {name: oracle.table(world / "truth" / f"{name}.tsv") for name in names}


@pytest.fixture(scope="module")
def elements(world):
    lines = (world / "elements.bed").read_text().splitlines()
    rows = [line.split("\t") for line in lines]
    assert {(len(row), row[4], row[5]) for row in rows} == {(6, "0", ".")}
    return {row[3]: (row[0], int(row[1]), int(row[2])) for row in rows}


def test_expression_is_what_the_rule_gives_on_the_files(genome, rule, genes, truth, elements):
    for row in truth["genes"][:2] + truth["genes"][-2:]:
        gene = genes[row["gene"]]
        tss = gene.boundaries()[0]
        assert (tss, gene.contig) == (int(row["tss"]), row["contig"])
        contig = genome[gene.contig]
        promoter = oracle.promoter(contig, tss, gene.strand, rule)
        distal = sum(
            oracle.contribution(contig, tss, start, end, rule)
            for name, start, end in elements.values()
            if name == gene.contig and abs(tss - start) < 81_000
        )
        assert promoter == pytest.approx(float(row["promoter"]), abs=2e-6)
        assert distal == pytest.approx(float(row["distal"]), abs=2e-6)
        assert promoter * (1 + distal) == pytest.approx(float(row["expression"]), abs=2e-6)


def test_tpm_is_expression_with_noise(world, truth):
    for species in SPECIES:
        rows = [row for row in truth["genes"] if row["species"] == species]
        table = oracle.table(world / f"{species}.tpm.tsv")
        assert [row["gene"] for row in table] == [row["gene"] for row in rows]
        measured = np.array([[float(row["sim_rep1"]), float(row["sim_rep2"])] for row in table])
        true = np.array([float(row["tpm"]) for row in rows])
        np.testing.assert_allclose(measured.sum(axis=0), 40 * len(rows), atol=0.1)
        error = np.log10(measured / true[:, None])
        assert 0.12 < error.std() < 0.22


def test_pairs_have_every_element_in_reach_and_its_effect(world, truth, elements, genes):
    pairs = oracle.table(world / "pairs.tsv")
    value = {row["gene"]: row for row in truth["genes"]}
    wanted = set()
    for row in truth["genes"]:
        for name, (contig, start, end) in elements.items():
            distance = abs(int(row["tss"]) - (start + end) / 2)
            if contig == row["contig"] and 5_000 <= distance <= 100_000:
                wanted.add((row["gene"], name, str(int(distance))))
    assert {(row["gene"], row["name"], row["distance"]) for row in pairs} == wanted
    assert len(pairs) == len(wanted)
    for row, true in zip(pairs, truth["pairs"], strict=True):
        assert (row["contig"], int(row["start"]), int(row["end"])) == elements[row["name"]]
        lost = float(true["contribution"]) / (1 + float(value[row["gene"]]["distal"]))
        assert float(row["effect"]) == pytest.approx(-lost, abs=3e-6)
        if abs(lost - 0.05) > 1e-5:
            assert row["significant"] == ("true" if lost > 0.05 else "false")
        if true["kind"] != "enhancer":
            assert float(row["effect"]) == 0
    assert 0.05 < np.mean([row["significant"] == "true" for row in pairs]) < 0.4


def test_variants_change_expression_as_the_rule_says(world, genome, rule, genes, truth, elements):
    lines = (world / "variants.vcf").read_text().splitlines()
    assert lines[0] == "##fileformat=VCFv4.2"
    calls = [line.split("\t") for line in lines if not line.startswith("#")]
    by_name = {row["variant"]: row for row in truth["variants"]}
    expression = {row["gene"]: row for row in truth["genes"]}
    assert [call[2] for call in calls] == list(by_name)
    assert {call[7] for call in calls} == {"."}
    checked = dict.fromkeys(("distal", "proximal", "direction"), 0)
    for contig, position, name, ref, alt, *_ in calls:
        at, row = int(position) - 1, by_name[name]
        assert genome[contig][at] == ref != alt
        effect = float(row["log2_fold_change"])
        if row["kind"] in ("decoy", "background"):
            assert (effect, row["gene"]) == (0, ".")
            continue
        assert abs(effect) >= 0.1
        if checked[row["kind"]] == 6:
            continue
        checked[row["kind"]] += 1
        mutated = genome[contig][:at] + alt + genome[contig][at + 1 :]
        reference = expression[row["gene"]]
        tss, strand = genes[row["gene"]].boundaries()[0], genes[row["gene"]].strand
        promoter, distal = float(reference["promoter"]), float(reference["distal"])
        if row["kind"] == "proximal":
            after = oracle.promoter(mutated, tss, strand, rule) * (1 + distal)
        else:
            span = elements[row["element"]][1:]
            assert span[0] <= at < span[1]
            old, new = (
                oracle.contribution(text, tss, *span, rule) for text in (genome[contig], mutated)
            )
            after = promoter * (1 + distal - old + new)
        ratio = after / float(reference["expression"])
        assert effect == pytest.approx(math.log2(ratio), abs=1e-5)
    assert min(checked.values()) >= 3


def test_tracks_show_what_they_measure(world, truth):
    table = oracle.table(world / "tracks.tsv")
    assert [(row["species"], row["track"]) for row in table] == [
        ("simulated_gamma", "accessibility"),
        ("simulated_gamma", "enhancer_mark"),
        ("simulated_gamma", "cage"),
        ("simulated_delta", "accessibility"),
        ("simulated_delta", "cage"),
    ]
    for row in table:
        with pyBigWig.open(str(world / row["file"])) as track:
            _check_track(track, row, truth)


def _check_track(track, row, truth) -> None:
    def level(contig: str, start: int, end: int) -> float:
        return float(np.mean(track.values(contig, start, end, numpy=True)))

    for contig, size in track.chroms().items():
        values = track.values(contig, 0, size, numpy=True)
        assert np.isfinite(values).all()
        assert values.min() >= 0
    at_kind: dict[str, list[float]] = {}
    sites, ahead = [], []
    for element in truth["elements"]:
        if element["species"] == row["species"]:
            start = int(element["start"])
            found = level(element["contig"], start + 86, start + 214)
            at_kind.setdefault(element["kind"], []).append(found)
            if element["kind"] != "inert_decoy" and element["orientation"] == "+":
                sides = [
                    level(element["contig"], start + at, start + at + 128) for at in (214, -42)
                ]
                ahead.append(sides[0] - sides[1])
            if element["kind"] == "enhancer":
                sites.append((float(element["activators"]), found))
    mean = {kind: np.mean(values) for kind, values in at_kind.items()}
    if row["track"] == "cage":
        assert max(mean.values()) < 0.1
        _check_cage(track, row, truth)
        return
    assert mean["inert_decoy"] < 1 < 5 < mean["enhancer"] < 50
    assert np.corrcoef(np.array(sites).T)[0, 1] > 0.85
    # Peaks stand towards where an element points.
    assert np.mean(ahead) > 2
    if row["track"] == "accessibility":
        assert 0.75 < mean["accessible_decoy"] / mean["enhancer"] < 1.33
    else:
        assert mean["accessible_decoy"] < 1


def _check_cage(track, row, truth) -> None:
    """Counts at TSSs scatter about expression as Poisson counts do; there are few elsewhere."""
    total, deviations = 0.0, []
    for gene in truth["genes"]:
        if gene["species"] == row["species"]:
            tss = int(gene["tss"])
            low, high = (tss - 64) // 32 * 32, -(-(tss + 64) // 32) * 32
            counts = float(np.sum(track.values(gene["contig"], low, high, numpy=True))) / 32
            expected = 4 * 2.5 * float(gene["expression"])
            total += counts
            deviations.append((counts - expected) ** 2 / expected)
    assert 0.5 < np.mean(deviations) < 2.0
    everywhere = track.header()["sumData"] / 32
    assert total / everywhere > 0.8


def test_reading_frames_are_open_and_genes_have_one_tss(genome, genes):
    for gene in genes.values():
        assert len(gene.transcripts) == 1
        parts = [genome[gene.contig][a:b] for a, b, _ in sorted(gene.transcripts[0].cds)]
        coding = "".join(parts)
        coding = plain.reverse_complement(coding) if gene.strand == "-" else coding
        codons = [coding[i : i + 3] for i in range(0, len(coding), 3)]
        assert codons[0] == "ATG"
        assert codons[-1] in plain.CODON_STOPS
        assert not plain.CODON_STOPS.intersection(codons[:-1])


def test_bytes_do_not_depend_on_the_process(tmp_path):
    code = (
        "import sys; from pathlib import Path; "
        "from featurestore.sample.long_range import write_long_range; "
        "write_long_range(Path(sys.argv[1]), seed=int(sys.argv[2]), genes=20)"
    )
    contents = []
    for folder, seed, salt in (("a", 7, "0"), ("b", 7, "4711"), ("c", 8, "0")):
        environment = {**os.environ, "PYTHONHASHSEED": salt}
        command = [sys.executable, "-c", code, str(tmp_path / folder), str(seed)]
        subprocess.run(command, check=True, env=environment)
        files = sorted(p for p in (tmp_path / folder).rglob("*") if p.is_file())
        contents.append({p.relative_to(tmp_path / folder): p.read_bytes() for p in files})
    assert contents[0] == contents[1]
    grammar = next(path for path in contents[0] if path.name == "grammar.json")
    same = [path for path in contents[0] if contents[0][path] == contents[2][path]]
    assert grammar in same
    assert not [path for path in same if path.suffix in {".fa", ".bw", ".vcf", ".bed", ".gff3"}]


def test_the_command_writes_a_data_set_that_builds(tmp_path):
    runner, folder, store = CliRunner(), tmp_path / "w", tmp_path / "s.zarr"
    made = runner.invoke(cli, ["init", str(folder), "--world", "long-range", "--genes", "40"])
    assert made.exit_code == 0, made.output
    assert "SIMULATED" in made.output
    assert "long-range" in made.output
    built = runner.invoke(cli, ["build", str(folder / "dataset.toml"), "--store", str(store)])
    assert built.exit_code == 0, built.output
    group = zarr.open_group(store, mode="r")["simulated_gamma"]
    text = plain.read_fasta(folder / "simulated_gamma.fa")["simG_chr1"]
    assert "".join("ACGT"[c] for c in group["genome/code"][: len(text)]) == text.upper()
    again = runner.invoke(cli, ["init", str(folder), "--world", "long-range"])
    assert again.exit_code == 2
    assert "not empty" in again.output
    lines = runner.invoke(cli, ["init", "x", "--world", "long-range", "--lines", "3"])
    assert lines.exit_code == 2
