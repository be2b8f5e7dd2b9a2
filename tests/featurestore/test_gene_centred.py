"""Embedders that read one long window a gene: what is stored, what is reused, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import featurestore
from featurestore.build.engine import build
from featurestore.build.shards import compute
from featurestore.build.shards.recompute import verify_values
from featurestore.errors import IncompleteStoreError, InputError
from featurestore.schema import registered
from featurestore.store.verify import verify
from tests.builders.dataset import write_dataset
from tests.builders.gene_embedder import registered_composition
from tests.builders.species import random_species
from tests.featurestore.test_build import tree_digest

WINDOW, BINS, GENES = 3200, 5, 30
SETTINGS = '[embedders.long]\ntype = "composition"\n'
MIRROR = str.maketrans("ACGTN", "TGCAN")


@pytest.fixture
def kind():
    with registered_composition() as made:
        yield made


def dataset(folder: Path, settings: str = SETTINGS, **species) -> Path:
    options = {"genes": GENES, "contigs": 3, "contig_bp": 5000} | species
    return write_dataset(
        folder, random_species("plant", **options), embedders='["onehot", "long"]', extra=settings
    )


def contigs(fasta: Path) -> dict[str, str]:
    parts = fasta.read_text().split(">")[1:]
    return {p.split("\n", 1)[0]: p.split("\n", 1)[1].replace("\n", "") for p in parts}


def window(sequence: str, boundary: int, strand: int, length: int = WINDOW) -> str:
    """A window around a boundary, cut from the FASTA by plain slicing."""
    padded = "N" * length + sequence + "N" * length
    at = boundary + length
    piece = padded[at - length // 2 : at + length // 2]
    return piece if strand > 0 else piece[::-1].translate(MIRROR)


def shares(text: str) -> np.ndarray:
    """Share of each base by bin."""
    size = len(text) // BINS
    bins = [text[i * size : (i + 1) * size] for i in range(BINS)]
    return np.array([[b.count(letter) / size for letter in "ACGT"] for b in bins])


def test_what_is_stored_is_what_the_model_gives_of_windows_cut_by_hand(tmp_path, kind):
    build(dataset(tmp_path / "in"), tmp_path / "s.zarr")
    store = featurestore.open(tmp_path / "s.zarr")
    genome, genes = contigs(tmp_path / "in" / "plant.fa"), store.genes("plant")
    values = store.features("plant", "long")
    assert values.shape == (GENES, BINS, 4)
    assert values.dtype == np.float16
    padded = store.array("plant", "long/padded")
    for i in range(GENES):
        text = window(genome[str(genes.contig[i])], int(genes.tss[i]), int(genes.strand[i]))
        np.testing.assert_allclose(values[i], shares(text), atol=5e-4)
        low = int(genes.tss[i]) - WINDOW // 2
        assert padded[i] == max(0, -low) + max(0, low + WINDOW - 5000)
    assert set(genes.strand.tolist()) == {1, -1}
    assert (padded > 0).any()
    assert (padded == 0).any()
    np.testing.assert_array_equal(store.status("plant", "long"), np.zeros((GENES, 1)))
    np.testing.assert_allclose(store.features("plant", "long.gc"), values[..., 1] + values[..., 2], atol=1e-3)  # fmt: skip
    assert kind.largest == 4, "never more windows at once than a batch"


def test_bin_start_is_where_a_marker_stands(tmp_path, kind):
    """A run of C that begins 480 bp downstream of the TSS fills the bin that begins there."""
    path = dataset(tmp_path / "in", contigs=2, genes=2, contig_bp=8000)
    folder, one = path.parent, "T" * 4000 + "T" * 320 + "C" * 640 + "T" * 3040
    (folder / "plant.fa").write_text(f">chr1\n{one}\n>chr2\n{one[::-1].translate(MIRROR)}\n")
    rows = [("chr1", 4001, 4600, "+", "G00000"), ("chr2", 3401, 4000, "-", "G00001")]
    with (folder / "plant.gff3").open("w") as gff:
        for contig, low, high, strand, gene in rows:
            for what, about in (("gene", f"ID={gene}"), ("mRNA", f"ID={gene}.1;Parent={gene}"), ("exon", f"Parent={gene}.1")):  # fmt: skip
                gff.write(f"{contig}\tx\t{what}\t{low}\t{high}\t.\t{strand}\t.\t{about}\n")
    build(path, tmp_path / "s.zarr")
    store = featurestore.open(tmp_path / "s.zarr")
    start = store.array("plant", "long/bin_start")
    assert start.dtype == np.int32
    np.testing.assert_array_equal(start, [-1600, -960, -320, 320, 960])
    for row in store.features("plant", "long"):
        np.testing.assert_array_equal(row[:, 1], (start == 320).astype(np.float16))


def test_the_store_is_read_by_name_by_xarray_and_as_one_region_by_learners(tmp_path, kind):
    build(dataset(tmp_path / "in"), tmp_path / "s.zarr")
    store = featurestore.open(tmp_path / "s.zarr")
    tree = xr.open_datatree(tmp_path / "s.zarr", engine="zarr")
    group = tree["plant/long"]
    assert group.embedding.dims == ("gene", "bin", "channel")
    assert group.gc.dims == ("gene", "bin")
    assert group.input_digest.dims == ("gene", "byte")
    assert group.status.dims == group.padded.dims == ("gene",)
    assert group.bin_start.dims == ("bin",)
    for name in ("embedding", "gc", "status", "padded", "input_digest", "bin_start"):
        assert registered(f"long/{name}", group[name].dims).path.startswith("<gene-embedder>/")
    values = store.features("plant", "long")
    np.testing.assert_array_equal(group.embedding.values, values)
    np.testing.assert_array_equal(store["plant"]["long"].embedding.values, values)
    source = store.feature_source("plant", "long")
    assert (source.kind, source.dims) == ("bins", ("region", "bin", "channel"))
    assert source.shape == (1, BINS, 4)
    rows = np.array([7, 0, 29, 7])
    np.testing.assert_array_equal(source.read(rows)[:, 0], values[rows])
    into = np.empty((4, *source.shape), np.float16)
    source.read_into(rows, into)
    np.testing.assert_array_equal(into[:, 0], values[rows])
    assert source.coords["region"].tolist() == ["tss"]
    np.testing.assert_array_equal(source.coords["bin_start"], [group.bin_start.values])
    assert store.feature_source("plant", "long.gc").shape == (1, BINS, 1)
    names = store.genes("plant").gene
    asked = [str(names[i]) for i in (5, 2)]
    np.testing.assert_array_equal(store.features("plant", "long", asked), values[[5, 2]])
    attrs = store.embedder_attrs("plant", "long")
    assert (attrs["context"], attrs["anchor"], attrs["input_bp"]) == ("gene", "tss", WINDOW)


def test_one_vector_a_gene_and_the_other_anchor(tmp_path, kind):
    settings = f'{SETTINGS}anchor = "tts"\nbins = 1\napart = false\n'
    build(dataset(tmp_path / "in", settings), tmp_path / "s.zarr")
    store = featurestore.open(tmp_path / "s.zarr")
    genome, genes = contigs(tmp_path / "in" / "plant.fa"), store.genes("plant")
    values = store.features("plant", "long")
    assert values.shape == (GENES, 1, 4)
    for i in range(GENES):
        text = window(genome[str(genes.contig[i])], int(genes.tts[i]), int(genes.strand[i]))
        np.testing.assert_allclose(
            values[i, 0], [text.count(x) / WINDOW for x in "ACGT"], atol=5e-4
        )
    np.testing.assert_array_equal(store.array("plant", "long/bin_start"), [-WINDOW // 2])
    assert store.feature_source("plant", "long").coords["region"].tolist() == ["tts"]


def test_windows_of_nothing_but_n_have_no_vector_and_are_told(tmp_path, kind):
    path = dataset(tmp_path / "in")
    genome = contigs(tmp_path / "in" / "plant.fa")
    genome["chr2"] = "N" * len(genome["chr2"])
    (tmp_path / "in" / "plant.fa").write_text("".join(f">{n}\n{s}\n" for n, s in genome.items()))
    result = build(path, tmp_path / "s.zarr")
    store = featurestore.open(tmp_path / "s.zarr")
    bare = store.genes("plant").contig == "chr2"
    assert 0 < bare.sum() < GENES
    np.testing.assert_array_equal(store.feature_status("plant", "long"), ~bare)
    np.testing.assert_array_equal(np.isnan(store.features("plant", "long")).all(axis=(1, 2)), bare)
    assert store.feature_status_reason("plant", "long")[int(np.flatnonzero(bare)[0])] == "tss: no_sequence"  # fmt: skip
    embedded = next(s for s in result.funnel["plant"] if s["stage"] == "embedded")
    assert embedded["count"] == GENES - bare.sum()


def test_a_flipped_byte_is_found_and_mended_and_values_are_computed_again(tmp_path, kind):
    path, target = dataset(tmp_path / "in"), tmp_path / "s.zarr"
    build(path, target)
    whole = tree_digest(target)
    assert verify_values(target, 0.3).intact
    assert verify_values(target, 0.3).recomputed == 9
    for name in ("embedding/c/1/0/0", "status/c/0", "padded/c/2", "input_digest/c/0/0", "bin_start/c/0"):  # fmt: skip
        file = target / "plant" / "long" / name
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(bytes(data))
        assert [f.file for f in verify(target).findings] == [f"plant/long/{name}"]
        data[len(data) // 2] ^= 1
        file.write_bytes(bytes(data))
    assert tree_digest(target) == whole
    kind.seen.clear()
    (target / "plant" / "long" / "embedding" / "c" / "1" / "0" / "0").unlink()
    build(path, target)
    assert tree_digest(target) == whole
    assert len(kind.seen) == 8, "one shard is made again"


def test_a_build_that_dies_goes_on_where_it_was(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(compute, "KEEP_SECONDS", -1.0)
    path = dataset(tmp_path / "in")
    build(path, tmp_path / "never.zarr")
    windows = len(kind.seen)
    kind.seen.clear()
    kind.fails_after = 19
    with pytest.raises(IncompleteStoreError):
        build(path, tmp_path / "s.zarr")
    done = len(kind.seen)
    kind.fails_after = None
    kind.seen.clear()
    result = build(path, tmp_path / "s.zarr")
    assert result.resumed > 0
    assert len(kind.seen) <= windows - done + 3 * 4, "at most the batches that were begun"
    assert len(kind.seen) < windows
    assert tree_digest(tmp_path / "s.zarr") == tree_digest(tmp_path / "never.zarr")


def test_only_the_windows_that_change_are_computed_again(tmp_path, kind):
    path, target = dataset(tmp_path / "in"), tmp_path / "s.zarr"
    build(path, target)
    assert len(kind.seen) == len(set(kind.seen))
    genome = contigs(tmp_path / "in" / "plant.fa")
    changed = list(genome["chr2"])
    changed[2500] = "A" if changed[2500] != "A" else "C"
    genome["chr2"] = "".join(changed)
    (tmp_path / "in" / "plant.fa").write_text("".join(f">{n}\n{s}\n" for n, s in genome.items()))
    genes = featurestore.open(target).genes("plant")
    near = (genes.contig == "chr2") & (np.abs(genes.tss - 2500.5) < WINDOW / 2)
    kind.seen.clear()
    build(path, target)
    assert len(kind.seen) == near.sum() > 0
    build(path, tmp_path / "anew.zarr")
    assert tree_digest(target) == tree_digest(tmp_path / "anew.zarr")

    kind.seen.clear()  # other regions are none of its business
    text = path.read_text().replace("upstream = 400, downstream = 100", "upstream = 300, downstream = 100")  # fmt: skip
    path.write_text(text.replace("bin = 100", "bin = 50"))
    build(path, target)
    assert not kind.seen
    assert verify(target).intact
    assert verify_values(target, 0.2).intact


def test_an_unfinished_build_of_another_genome_serves_the_next(tmp_path, kind):
    path, target = dataset(tmp_path / "in"), tmp_path / "s.zarr"
    kind.fails_after = 24
    with pytest.raises(IncompleteStoreError):
        build(path, target)
    genome = contigs(tmp_path / "in" / "plant.fa")
    genome["chr3"] = genome["chr3"][::-1]
    (tmp_path / "in" / "plant.fa").write_text("".join(f">{n}\n{s}\n" for n, s in genome.items()))
    before = set(kind.seen)
    kind.fails_after = None
    kind.seen.clear()
    build(path, target)
    again = before & set(kind.seen)
    assert len(kind.seen) < GENES
    assert len(again) <= 8, "of shards that were finished nothing is computed again"
    build(path, tmp_path / "anew.zarr")
    assert tree_digest(target) == tree_digest(tmp_path / "anew.zarr")


def test_without_a_genome_it_says_what_is_missing(tmp_path, kind):
    (tmp_path / "data.csv").write_text("gene,chrom,strand,promoter\nG1,1,+,ACGTACGT\n")
    (tmp_path / "dataset.toml").write_text(
        f'embedders = ["onehot", "long"]\n[regions]\nbin = 4\n{SETTINGS}[species.plant]\nsequences = "data.csv"\n'
    )
    with pytest.raises(InputError, match=r"3,200 bp around the TSS.*genome and annotation"):
        build(tmp_path / "dataset.toml", tmp_path / "s.zarr")


def test_a_specification_that_cannot_be_laid_out_is_refused(tmp_path, kind):
    for settings, told in ((f"{SETTINGS}bins = 7\n", "7 bins"), (f'{SETTINGS}anchor = "start"\n', "tss or tts")):  # fmt: skip
        with pytest.raises(InputError, match=told):
            build(dataset(tmp_path / "in", settings), tmp_path / "s.zarr")


def test_reasons_of_the_plan(tmp_path, kind):
    from featurestore.build.planning.estimate import estimate

    path, target = dataset(tmp_path / "in"), tmp_path / "s.zarr"
    facts = next(g for g in estimate(path, target, (), ())["groups"] if g["group"] == "long")
    assert facts["windows"] == GENES
    assert facts["bytes_a_gene"] == BINS * 5 * 2
    assert facts["seconds"] > 0
    json.dumps(facts)
    build(path, target)
    path.write_text(path.read_text().replace("[embedders.long]", '[embedders.long]\nkey = "b"'))
    facts = next(g for g in estimate(path, target, (), ())["groups"] if g["group"] == "long")
    assert any("checkpoint differs" in r for r in facts["reasons"])
    assert facts["windows_to_compute"] == GENES
