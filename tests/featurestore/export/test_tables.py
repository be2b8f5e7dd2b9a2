"""Tables for other tools hold what the store holds, as the libraries of these tools read it."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import featurestore
from featurestore.cli import cli
from featurestore.errors import InputError, UnknownNameError
from featurestore.export.tables import export_tables


def run(*words: object) -> list[dict[str, object]]:
    result = CliRunner().invoke(cli, ["export", *map(str, words), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def pooled(built) -> np.ndarray:
    values = featurestore.open(built).features("plant", "kmer").astype(np.float64)
    return values.mean(axis=2).reshape(len(values), -1)


def test_parquet_holds_genes_expression_and_pooled_features(built, tmp_path):
    files = run(built, "--to", "parquet", "--out", tmp_path)
    assert {f["file"] for f in files} == {
        str(tmp_path / f"plant.{n}.parquet") for n in ("genes", "kmer")
    }
    store = featurestore.open(built)
    genes = pd.read_parquet(tmp_path / "plant.genes.parquet")
    table = store.genes("plant")
    for name in ("gene", "contig", "strand", "tss", "tts", "family"):
        assert genes[name].tolist() == getattr(table, name).tolist()
    expression = store.expression("plant")
    np.testing.assert_array_equal(genes[[f"TPM:{s}" for s in expression.sample]], expression.value)
    kmer = pd.read_parquet(tmp_path / "plant.kmer.parquet")
    assert kmer.gene.tolist() == table.gene.tolist()
    assert list(kmer.columns[1:4]) == ["promoter.A", "promoter.C", "promoter.G"]
    np.testing.assert_allclose(kmer.iloc[:, 1:], pooled(built), rtol=1e-6)
    file = pq.ParquetFile(tmp_path / "plant.kmer.parquet")
    assert file.num_row_groups == 3, "a row group a shard"
    assert file.schema_arrow.metadata[b"meristem.store_digest"].decode() == store.digest


def test_every_bin_has_its_column(built, tmp_path):
    export_tables(featurestore.open(built), tmp_path, "parquet", per_bin=True)
    kmer = pd.read_parquet(tmp_path / "plant.kmer.parquet")
    values = featurestore.open(built).features("plant", "kmer")
    np.testing.assert_array_equal(
        kmer.iloc[:, 1:], values.reshape(len(values), -1).astype(np.float32)
    )
    assert kmer.columns[1] == "promoter.0.A"
    assert kmer["terminator.4.T"].tolist() == values[:, 1, 4, 3].astype(float).tolist()


def test_npz_is_read_without_pickle_and_has_the_same_bytes_each_time(built, tmp_path):
    for folder in ("one", "two"):
        run(
            built,
            "--to",
            "npz",
            "--out",
            tmp_path / folder,
            "--embedder",
            "kmer",
            "--embedder",
            "onehot",
        )
    with np.load(tmp_path / "one/plant.kmer.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"gene", "column", "values"}
        np.testing.assert_allclose(arrays["values"], pooled(built), rtol=1e-6)
    with np.load(tmp_path / "one/plant.onehot.npz", allow_pickle=False) as arrays:
        codes = featurestore.open(built).features("plant", "onehot")
        np.testing.assert_array_equal(arrays["values"], codes.reshape(len(codes), -1))
    with np.load(tmp_path / "one/plant.genes.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(
            arrays["expression"], featurestore.open(built).expression("plant").value
        )
    assert (tmp_path / "one/plant.kmer.npz").read_bytes() == (
        tmp_path / "two/plant.kmer.npz"
    ).read_bytes()


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_anndata_reads_h5ad(built, tmp_path):
    anndata = pytest.importorskip("anndata")
    pytest.importorskip("h5py")
    run(built, "--to", "h5ad", "--out", tmp_path)
    read = anndata.read_h5ad(tmp_path / "plant.kmer.h5ad")
    store = featurestore.open(built)
    table = store.genes("plant")
    assert read.obs_names.tolist() == table.gene.tolist()
    assert read.obs["tss"].tolist() == table.tss.tolist()
    assert read.obs["family"].tolist() == table.family.tolist()
    assert read.var_names[0] == "promoter.A"
    np.testing.assert_allclose(read.X, pooled(built), rtol=1e-6)
    np.testing.assert_array_equal(read.obsm["expression"], store.expression("plant").value)
    assert read.uns["store_digest"] == store.digest


def test_what_is_there_is_not_overwritten_and_names_are_checked(built, tmp_path):
    store = featurestore.open(built)
    export_tables(store, tmp_path, "npz")
    with pytest.raises(InputError, match="there already"):
        export_tables(store, tmp_path, "npz")
    with pytest.raises(UnknownNameError, match="'kmer'"):
        export_tables(store, tmp_path / "x", "npz", embedders=["kmers"])
    with pytest.raises(UnknownNameError, match="'plant'"):
        export_tables(store, tmp_path / "x", "npz", species=["plants"])
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_options_that_do_not_go_together_are_refused(built, tmp_path):
    for words in (
        ["--to", "npz", "--out", str(tmp_path), "--profile", "int8"],
        ["--to", "zarr", "--out", str(tmp_path / "x"), "--per-bin"],
        ["--to", "npz", "--out", "s3://bucket/x"],
    ):
        assert CliRunner().invoke(cli, ["export", str(built), *words]).exit_code == 2
