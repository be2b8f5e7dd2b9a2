"""PhytoExpr's data.csv to a data set and a store: the right 5 kb, every row kept or told."""

from __future__ import annotations

import csv
import gzip
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import featurestore
from featurestore.build.engine import build
from featurestore.cli import cli
from featurestore.errors import InputError
from featurestore.inputs.deposits.phytoexpr import import_phytoexpr
from featurestore.sequence import iupac
from tests.builders.deposits import Gene, dna, genes, write_data_csv

MARK = "GATTACAGATTACAGATTACA"


def marked(at: int) -> str:
    """10,000 A with a marker that begins ``at`` bp from the anchor, negative upstream."""
    start = 5000 + at
    return "A" * start + MARK + "A" * (10_000 - start - len(MARK))


def bins_with_marker(store, species, gene) -> dict[str, list[int]]:
    code = store[species]["sequence"]["code"].sel(gene=gene).values
    names = store[species]["sequence"]["region"].values.tolist()
    found = {}
    for region, name in enumerate(names):
        text = iupac.decode(code[region])
        found[name] = [text.index(MARK) // 250] if MARK in text else []
    return found


def test_the_window_is_the_documented_one_and_not_its_mirror(tmp_path):
    """A marker at −3,500 of the TSS lies in bin 2; one at +3,500 lies in no bin of the promoter."""
    places = {"far": -3500, "near": -4000, "last": 979, "over": 3500, "under": -4001}
    rows = [Gene(name, "Ath", marked(at), marked(-at), "5", "", "1") for name, at in places.items()]
    write_data_csv(tmp_path / "data.csv", rows)
    made = import_phytoexpr(tmp_path / "data.csv", tmp_path / "out")
    build(made.dataset, tmp_path / "s.zarr", embedders=["kmer"])
    store = featurestore.open(tmp_path / "s.zarr")
    found = {name: bins_with_marker(store, "arabidopsis_thaliana", name) for name in places}
    assert {name: one["promoter"] for name, one in found.items()} == {
        "far": [2], "near": [0], "last": [19], "over": [], "under": []
    }  # fmt: skip
    # The terminator is −1,000 … +4,000 of the TTS: the marker at +3,500 lies in bin 18.
    assert {name: one["terminator"] for name, one in found.items()} == {
        "far": [18], "near": [], "last": [0], "over": [], "under": []
    }  # fmt: skip


def test_ids_families_folds_and_tpm_arrive_by_species(tmp_path):
    rows = genes(30)
    write_data_csv(tmp_path / "data.csv", rows)
    made = import_phytoexpr(tmp_path / "data.csv", tmp_path / "out")
    assert made.genes == {
        "arabidopsis_thaliana": 10, "brachypodium_distachyon": 10, "zea_mays": 10
    }  # fmt: skip
    build(made.dataset, tmp_path / "s.zarr", embedders=["kmer"])
    store = featurestore.open(tmp_path / "s.zarr")
    code = {"arabidopsis_thaliana": "Ath", "brachypodium_distachyon": "Bdi", "zea_mays": "Zma"}
    for species, short in code.items():
        by_gene = {r.gene: r for r in rows if r.species == short}
        table = store.genes(species)
        assert sorted(table.gene.tolist()) == sorted(by_gene)
        assert table.family.tolist() == [by_gene[g].family for g in table.gene]
        assert table.fold.tolist() == [by_gene[g].group for g in table.gene]
        expression = store.expression(species)
        assert expression.unit == "TPM"
        wanted = np.array([float(by_gene[g].tpm) for g in table.gene], np.float32)
        assert expression.value[:, 0].tolist() == wanted.tolist()
        first = by_gene[table.gene[0]]
        text = iupac.decode(store[species]["sequence"]["code"].values[0, 1])
        assert text == first.terminator[4000:9000]


def test_rows_that_cannot_be_used_are_told_and_listed(tmp_path):
    rows = genes(12)
    write_data_csv(
        tmp_path / "data.csv", rows,
        promoter={1: "NA", 2: "ACGT"}, terminator={3: "", 4: "x" * 10_000, 5: "A" * 10_001},
        median_TPM={6: "NA"},
    )  # fmt: skip
    made = import_phytoexpr(tmp_path / "data.csv", tmp_path / "out")
    with (tmp_path / "out" / "dropped.tsv").open() as file:
        listed = list(csv.DictReader(file, delimiter="\t"))
    assert [(r["line"], r["gene"], r["reason"]) for r in listed] == [
        ("3", rows[1].gene, "promoter is NA"),
        ("4", rows[2].gene, "promoter is not 10,000 bp long"),
        ("5", rows[3].gene, "terminator is NA"),
        ("6", rows[4].gene, "terminator has a letter that is no IUPAC nucleotide"),
        ("7", rows[5].gene, "terminator is not 10,000 bp long"),
    ]
    assert sum(made.genes.values()) + made.dropped.total == 12
    assert any("1 rows dropped, promoter is NA" in note for note in made.notes)
    # A gene without a value is kept, without a label.
    build(made.dataset, tmp_path / "s.zarr", embedders=["kmer"])
    view = featurestore.open(tmp_path / "s.zarr").expression("arabidopsis_thaliana")
    assert np.isnan(view.value).sum() == 1


def test_inferred_names_say_so_and_others_may_be_given(tmp_path):
    write_data_csv(tmp_path / "data.csv", genes(4, ("Ath", "Xyz")))
    told = CliRunner().invoke(
        cli, ["import", "phytoexpr", str(tmp_path / "data.csv"), "--out", str(tmp_path / "a")]
    )
    assert told.exit_code == 0, told.output
    text = (tmp_path / "a" / "dataset.toml").read_text()
    assert '[species."arabidopsis_thaliana"]  # inferred from the code Ath' in text
    assert '[species."Xyz"]  # the code itself' in text
    assert "inferred from their codes" in told.output
    assert set(tomllib.loads(text)["species"]) == {"arabidopsis_thaliana", "Xyz"}
    told = CliRunner().invoke(
        cli, ["import", "phytoexpr", str(tmp_path / "data.csv"), "--out", str(tmp_path / "b"),
              "--species-name", "Ath=thale_cress", "--species-name", "Xyz=zea_mays", "--json"],
    )  # fmt: skip
    assert '"thale_cress": 2' in told.output
    assert "inferred" not in (tmp_path / "b" / "dataset.toml").read_text()


@pytest.mark.parametrize("pack", [False, True])
def test_the_same_table_gives_the_same_bytes(tmp_path, pack):
    write_data_csv(tmp_path / "data.csv", genes(6))
    source = tmp_path / "data.csv"
    if pack:
        source = tmp_path / "data.csv.gz"
        source.write_bytes(gzip.compress((tmp_path / "data.csv").read_bytes()))
    for name in ("a", "b"):
        import_phytoexpr(source, tmp_path / name)
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert len(files) == 5
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    assert not list(tmp_path.rglob("*.partial"))


def test_a_data_set_that_is_there_is_not_overwritten(tmp_path):
    write_data_csv(tmp_path / "data.csv", genes(6))
    import_phytoexpr(tmp_path / "data.csv", tmp_path / "a")
    before = (tmp_path / "a" / "dataset.toml").read_bytes()
    with pytest.raises(InputError, match="not overwritten"):
        import_phytoexpr(tmp_path / "data.csv", tmp_path / "a")
    assert (tmp_path / "a" / "dataset.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda t: t.replace('"promoter"', '"promotor"', 1), "Did you mean 'promotor'"),
        (lambda t: "PK\x03\x04" + t, "a zip archive"),
        (lambda t: t.replace("\r\n", ',"more"\r\n', 2), "cells where the header has"),
        (lambda t: t + '"' + "A" * 2_000_000, "quote not closed"),
        (lambda t: t.split("\r\n")[0] + "\r\n", "no row of it"),
        (lambda t: t.replace('"Ath"', '"../x"'), "--species-name CODE=NAME"),
        (lambda t: "", "no column gene"),
    ],
    ids=["column", "zip", "width", "quote", "rows", "code", "nothing"],
)
def test_other_files_are_refused_and_nothing_is_left(tmp_path, change, why):
    write_data_csv(tmp_path / "data.csv", genes(3))
    text = (tmp_path / "data.csv").read_bytes().decode()
    (tmp_path / "data.csv").write_bytes(change(text).encode())
    with pytest.raises(InputError, match=why):
        import_phytoexpr(tmp_path / "data.csv", tmp_path / "a")
    assert [p for p in (tmp_path / "a").rglob("*") if p.is_file()] == []


def test_several_transcripts_of_a_gene_are_records(tmp_path):
    rows = genes(6, ("Ath",))
    rows[1].gene = rows[0].gene
    write_data_csv(tmp_path / "data.csv", rows)
    with (tmp_path / "data.csv").open() as file:
        text = file.read().replace(f'"{rows[0].gene}.1"', f'"{rows[0].gene}.2"', 1)
    (tmp_path / "data.csv").write_text(text)
    made = import_phytoexpr(tmp_path / "data.csv", tmp_path / "a")
    build(made.dataset, tmp_path / "s.zarr", embedders=["kmer"])
    table = featurestore.open(tmp_path / "s.zarr").genes("arabidopsis_thaliana")
    assert len(set(table.gene)) == 6
    assert table.locus.tolist().count(rows[0].gene) == 2


MEASURE = """
import resource, sys
from pathlib import Path
from featurestore.inputs.deposits.phytoexpr import import_phytoexpr
import_phytoexpr(Path(sys.argv[1]), Path(sys.argv[2]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_rows(tmp_path):
    """Five times the rows, 16 MB of text more: less than 6 MB of memory more."""
    rng = np.random.default_rng(0)
    sequence = dna(rng)
    peak = {}
    for count in (200, 1000):
        rows = [Gene(f"g{i}", "Ath", sequence, sequence, "1", "", "1") for i in range(count)]
        path: Path = tmp_path / f"{count}.csv"
        write_data_csv(path, rows)
        command = [sys.executable, "-c", MEASURE, str(path), str(tmp_path / str(count))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peak[count] = int(done.stdout) * (1 if sys.platform == "darwin" else 1024)
    assert peak[1000] - peak[200] < 6 << 20
