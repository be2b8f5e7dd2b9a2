"""What is written is what every reader reads; what is damaged is found, named and never read as a value."""

from __future__ import annotations

import gc
import json
import pickle
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from click.testing import CliRunner

import featurestore
from featurestore.build.engine import build
from featurestore.build.sealing.replaced import replaced_folder, replaced_trees, sweep
from featurestore.build.shards.recompute import verify_values
from featurestore.cli import cli
from featurestore.embedders.kmer import Kmer
from featurestore.errors import (
    DamagedStoreError,
    SchemaVersionError,
    StoreError,
    StoreNotFoundError,
    UnknownNameError,
)
from featurestore.schema import REGISTRY, registered
from featurestore.store.verify import repair, verify
from tests.builders.dataset import write_dataset
from tests.builders.species import random_species


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("in"), random_species("plant", genes=40))


@pytest.fixture(scope="module")
def built(tmp_path_factory, dataset) -> Path:
    path = tmp_path_factory.mktemp("built") / "s.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featurestore.schema.SHARD_GENES", 16)
        build(dataset, path)
    return path


@pytest.fixture
def store(tmp_path, built) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(built, tmp_path / "s.zarr"))


def _files(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*") if p.is_file())


def test_every_array_names_its_dimensions_and_stands_in_the_registry(built):
    group = zarr.open_group(built, mode="r", use_consolidated=False)
    with warnings.catch_warnings():
        # without consolidated metadata zarr-python lists the root and wonders at manifest.json
        warnings.filterwarnings("ignore", message="Object at manifest.json")
        arrays = [(p, a) for p, a in group.members(max_depth=None) if isinstance(a, zarr.Array)]
    assert len(arrays) > 20
    for path, array in arrays:
        spec = registered(path.split("/", 1)[1])
        assert spec is not None, path
        assert array.metadata.dimension_names == spec.dims[: array.ndim]
        assert array.attrs["long_name"]
    fixed = {
        spec.path
        for spec in REGISTRY
        if not spec.when and "<" not in spec.path and "skipped" not in spec.path
    }
    assert fixed <= {p.split("/", 1)[1] for p, _ in arrays}


def test_xarray_zarr_and_the_fast_path_read_the_same(built):
    store = featurestore.open(built)
    tree = xr.open_datatree(built, engine="zarr")
    group = zarr.open_group(built, mode="r")
    fast = store.features("plant", "kmer")
    np.testing.assert_array_equal(tree["plant/kmer"].embedding.values, fast)
    np.testing.assert_array_equal(group["plant/kmer/embedding"][...], fast)
    np.testing.assert_array_equal(store["plant"]["kmer"].embedding.values, fast)
    assert fast.dtype == np.float16
    np.testing.assert_array_equal(
        tree["plant/genome"].code.values, store.array("plant", "genome/code")
    )
    assert tree["plant/expression"].value.attrs["unit"] == "TPM"
    assert set(tree["plant"].coords) == {"gene", "contig", "strand", "tss", "tts", "family"}
    assert "gene" in tree["plant/kmer"].coords, "children inherit the genes"


def test_genes_are_complete_and_in_order_of_contig_start_id(built, dataset):
    genes = featurestore.open(built).genes("plant")
    assert sorted(genes.gene) == [f"G{i:05d}" for i in range(40)]
    keys = list(zip(genes.contig, np.minimum(genes.tss, genes.tts), genes.gene, strict=True))
    assert keys == sorted(keys)


def test_features_come_in_the_order_asked_for_as_a_new_array(built):
    store = featurestore.open(built)
    everything = store.features("plant", "kmer")
    names = store.genes("plant").gene.tolist()
    asked = [names[i] for i in (39, 0, 17, 0)]
    some = store.features("plant", "kmer", asked)
    np.testing.assert_array_equal(some, everything[[39, 0, 17, 0]])
    assert some.flags.c_contiguous
    assert some.flags.owndata
    chosen = store["plant"]["kmer"].sel(gene=asked[:3]).embedding.values
    np.testing.assert_array_equal(chosen, some[:3])


def test_unknown_names_name_the_nearest(built):
    store = featurestore.open(built)
    with pytest.raises(UnknownNameError, match="Did you mean 'plant'"):
        store["plants"]
    with pytest.raises(UnknownNameError, match="Did you mean 'kmer'"):
        store.features("plant", "kmers")
    with pytest.raises(UnknownNameError, match="G00001"):
        store.features("plant", "kmer", ["G0001"])
    with pytest.raises(StoreNotFoundError, match="fs build"):
        featurestore.open("/nowhere/s.zarr")


def test_no_dtype_or_codec_that_breaks_a_reader(built):
    allowed = {"bytes", "crc32c", "zstd", "sharding_indexed", "vlen-utf8"}
    for path in built.rglob("zarr.json"):
        body = json.loads(path.read_text())
        assert body["zarr_format"] == 3
        if body["node_type"] == "array":
            assert {c["name"] for c in body["codecs"]} <= allowed
            assert body["data_type"] in {
                "uint8",
                "int8",
                "int32",
                "int64",
                "bool",
                "float16",
                "float32",
                "string",
            }


def test_an_intact_store_verifies_and_recomputes(built):
    result = verify_values(built, 0.3)
    assert result.intact
    assert result.recomputed == 12


def test_recomputing_finds_values_that_were_wrong_before_their_checksum(
    tmp_path, dataset, monkeypatch
):
    honest = Kmer._frequencies
    with monkeypatch.context() as patch:
        patch.setattr(Kmer, "_frequencies", lambda self, codes, k: honest(self, codes, k) + 0.01)
        build(dataset, tmp_path / "s.zarr")
    assert verify(tmp_path / "s.zarr").intact, "no checksum can know"
    result = verify_values(tmp_path / "s.zarr", 0.1)
    assert result.recomputed == 4
    assert len(result.findings) == 4
    assert all("differs by up to 0.01" in f.what for f in result.findings)


def test_a_flipped_bit_in_any_file_is_found_and_named(store):
    rng = np.random.default_rng(0)
    for path in _files(store):
        raw = path.read_bytes()
        spoilt = bytearray(raw)
        bit = int(rng.integers(len(raw) * 8))
        spoilt[bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoilt)
        result = verify(store)
        assert [f.file for f in result.findings] == [path.relative_to(store).as_posix()]
        path.write_bytes(raw)
    assert verify(store).intact


def test_a_missing_a_short_and_a_strange_file_are_named(store):
    for path in _files(store):
        raw = path.read_bytes()
        name = path.relative_to(store).as_posix()
        path.unlink()
        assert [f.file for f in verify(store).findings] == [name]
        path.write_bytes(raw[:-1])
        assert [f.file for f in verify(store).findings] == [name]
        path.write_bytes(raw)
    (store / "plant" / "notes.txt").write_text("x")
    assert [f.what for f in verify(store).findings] == ["does not belong to the store"]
    (store / "plant" / "notes.txt").unlink()
    (store / "plant" / "link").symlink_to("/etc/passwd")
    assert "symbolic link" in verify(store).findings[0].what


def _read_everything(path: Path) -> None:
    """Everything that the public reading interface gives."""
    _read_all_of(featurestore.open(path))


def _read_all_of(store: featurestore.Store) -> None:
    for species in store.species:
        store.genes(species)
        table = store.expression(species)
        assert table is not None
        _ = table.value, table.sample, table.labelled, store.funnel(species)
        for name in store.embedders(species):
            store.features(species, name)
            store.status(species, name)
        for group in store.groups(species):
            for variable in store[species][group].variables.values():
                _ = variable.values
        _ = store[species].genes.load()


@pytest.mark.parametrize("damage", ["flip", "remove", "cut"])
def test_reading_what_is_damaged_raises_and_never_gives_fill_values(store, damage):
    rng = np.random.default_rng(1)
    _read_everything(store)
    for path in _files(store):
        raw = path.read_bytes()
        if damage == "flip":
            spoilt = bytearray(raw)
            bit = int(rng.integers(len(raw) * 8))
            spoilt[bit // 8] ^= 1 << bit % 8
            path.write_bytes(spoilt)
        elif damage == "remove":
            path.unlink()
        else:
            path.write_bytes(raw[: len(raw) // 2])
        with pytest.raises((DamagedStoreError, ValueError), match=r"fs |hecksum"):
            _read_everything(path=store)
        path.write_bytes(raw)


def test_repair_and_build_mend_exactly_what_is_damaged(store, dataset, built, monkeypatch):
    monkeypatch.setattr("featurestore.schema.SHARD_GENES", 16)
    victims = ["plant/kmer/embedding/c/1/0/0/0", "plant/kmer/zarr.json", "plant/tss/c/0"]
    for name in victims:
        raw = bytearray((store / name).read_bytes())
        raw[5] ^= 1
        (store / name).write_bytes(raw)
    assert sorted(f.file for f in repair(store)) == sorted(victims)
    result = build(dataset, store)
    assert result.computed == 1
    assert verify(store).intact
    assert [p.read_bytes() for p in _files(store)] == [p.read_bytes() for p in _files(built)]


@pytest.mark.parametrize("kernel_exchanges", [True, False])
def test_a_reader_of_a_store_that_is_replaced_goes_on_undisturbed(
    store, tmp_path, monkeypatch, kernel_exchanges
):
    if not kernel_exchanges:
        monkeypatch.setattr(
            "featurestore.build.sealing.finalise._exchange", lambda one, other: False
        )
    reader = featurestore.open(store)
    before = reader.features("plant", "kmer")
    travelling = pickle.dumps(reader)
    other = write_dataset(tmp_path / "in2", random_species("plant", genes=40, seed=9))
    build(other, store)
    np.testing.assert_array_equal(reader.features("plant", "kmer"), before)
    np.testing.assert_array_equal(reader["plant"]["kmer"].embedding.values, before)
    assert reader.text("plant", "sequence/region").tolist() == ["promoter", "terminator"]
    _read_all_of(reader)
    new = featurestore.open(store)
    assert new.digest != reader.digest
    assert not np.array_equal(new.features("plant", "kmer"), before)
    with pytest.raises(StoreError, match="open it again"):
        pickle.loads(travelling)  # noqa: S301 - made two lines above
    sweep(store)
    assert len(replaced_trees(store)) == 1, "it is still read"
    del reader
    gc.collect()
    sweep(store)
    assert not replaced_folder(store).exists()


def test_newer_and_older_schemas_say_what_to_do(store, monkeypatch):
    monkeypatch.setattr("featurestore.store.nodes.SCHEMA_VERSION", "0.9.0")
    with pytest.raises(SchemaVersionError, match="pip install --upgrade"):
        featurestore.open(store)
    monkeypatch.setattr("featurestore.store.nodes.SCHEMA_VERSION", "2.0.0")
    with pytest.raises(SchemaVersionError, match="fs build"):
        featurestore.open(store)


class TestCommandLine:
    run = staticmethod(lambda *args: CliRunner().invoke(cli, [str(a) for a in args]))

    def test_verify_exits_three_and_names_the_file(self, store):
        assert self.run("verify", store).exit_code == 0
        victim = store / "plant/kmer/status/c/0/0"
        victim.write_bytes(victim.read_bytes()[:-1])
        result = self.run("verify", store)
        assert result.exit_code == 3
        assert "plant/kmer/status/c/0/0" in result.stdout
        assert "fs repair" in result.stderr
        facts = json.loads(self.run("verify", store, "--json").stdout)
        assert facts["findings"][0]["file"] == "plant/kmer/status/c/0/0"

    def test_ls_and_info_print_facts(self, built):
        rows = json.loads(self.run("ls", built, "--json").stdout)["groups"]
        assert [(r["embedder"], r["shape"]) for r in rows] == [
            ("onehot", [40, 2, 500]),
            ("kmer", [40, 2, 5, 84]),
        ]
        facts = json.loads(self.run("info", built, "--json").stdout)
        assert facts["species"]["plant"]["funnel"][0] == {
            "stage": "annotated",
            "count": 40,
            "lost": [],
        }
        assert "annotated 40" in self.run("info", built).stdout

    def test_query_by_gene_region_and_family(self, built, tmp_path):
        genes = featurestore.open(built).genes("plant")
        table = self.run("query", built, "--gene", "G00003", "--gene", "G00001").stdout.splitlines()
        assert table[0].startswith("species,gene,contig")
        assert [line.split(",")[1] for line in table[1:]] == ["G00001", "G00003"]
        low = int(min(genes.tss[5], genes.tts[5]))
        found = json.loads(
            self.run(
                "query",
                built,
                "--region",
                f"{genes.contig[5]}:{low + 1}-{low + 1}",
                "--format",
                "json",
            ).stdout
        )
        want = [
            str(genes.gene[i])
            for i in range(40)
            if genes.contig[i] == genes.contig[5]
            and min(genes.tss[i], genes.tts[i]) <= low < max(genes.tss[i], genes.tts[i])
        ]
        assert [r["gene"] for r in found] == want
        out = tmp_path / "f.npz"
        assert (
            self.run(
                "query",
                built,
                "--family",
                "F0001",
                "--embedder",
                "kmer",
                "--format",
                "npz",
                "--out",
                out,
            ).exit_code
            == 0
        )
        with np.load(out) as arrays:
            np.testing.assert_array_equal(
                arrays["kmer"],
                featurestore.open(built).features("plant", "kmer", arrays["gene"].tolist()),
            )
        assert self.run("query", built, "--gene", "nope").exit_code == 2

    def test_plan_tells_bytes_files_and_what_is_there(self, dataset, built, tmp_path):
        facts = json.loads(
            self.run("plan", dataset, "--store", tmp_path / "new.zarr", "--json").stdout
        )
        kmer = next(r for r in facts["groups"] if r["group"] == "kmer")
        assert kmer["windows"] == 40 * 2 * 5
        assert kmer["bytes"] >= 40 * 2 * 5 * 84 * 2
        assert kmer["shards_to_compute"] == kmer["shards"]
        assert facts["free_bytes"] > 0
        assert not (tmp_path / "new.zarr").exists()
        assert self.run("plan", dataset).exit_code == 0

    def test_embedders_are_listed(self):
        rows = json.loads(self.run("embedders", "--json").stdout)
        assert {"onehot", "kmer", "random"} <= {r["type"] for r in rows}

    def test_wrong_input_exits_two(self, tmp_path):
        assert (
            self.run("build", tmp_path / "none.toml", "--store", tmp_path / "s.zarr").exit_code == 2
        )
        assert self.run("ls", tmp_path / "none.zarr").exit_code == 2
        assert self.run("biuld").exit_code == 2
