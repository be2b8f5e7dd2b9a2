"""Builds with a genomic model: recipes, killed shards, the same weights under another name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import featurestore
from featurestore.build.engine import build
from featurestore.build.shards import compute
from featurestore.build.workers.execution import Execution
from featurestore.embedders.plantcaduceus.embedder import PlantCaduceus
from featurestore.errors import InputError
from featurestore.sequence.iupac import decode
from tests.builders.dataset import write_dataset
from tests.builders.models import random_plantcaduceus
from tests.builders.species import REGIONS, random_species
from tests.featurestore.test_build import tree_digest

pytest.importorskip("transformers", reason="genomic models need transformers")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return random_plantcaduceus(tmp_path_factory.mktemp("model") / "tiny")


def dataset(folder: Path, checkpoint: Path, recipe: str = "", **species) -> Path:
    text = f'[embedders.pc]\ntype = "plantcaduceus"\ncheckpoint = "{checkpoint}"\nbatch = 8\n'
    text += f"recipe = {recipe or '{ window = 160, span = 100 }'}\n"
    one = random_species(genes=12, contigs=2, contig_bp=6000, **species)
    return write_dataset(folder, one, embedders='["pc"]', extra=text)


def per_base(checkpoint: Path, text: str) -> np.ndarray:
    """Strand-averaged hidden states of a window, shape (bases, d), straight from the model."""
    import torch

    from featurestore.embedders.plantcaduceus import (
        PlantCaduceusForMaskedLM,
        PlantCaduceusTokenizer,
    )

    model = PlantCaduceusForMaskedLM.from_pretrained(checkpoint)
    ids = PlantCaduceusTokenizer()(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        hidden = model(ids, output_hidden_states=True).hidden_states[-1][0].numpy()
    width = hidden.shape[1] // 2
    return (hidden[:, :width] + hidden[:, width:][:, ::-1]) / 2


def window(store, gene: int, region: int, bin_: int, wide: int = 160, size: int = 100) -> str:
    """A model's window cut from the stored genome by plain string slicing."""
    genes = store.genes("test_plant")
    names = store.text("test_plant", "genome/contig_id").tolist()
    at = names.index(str(genes.contig[gene]))
    start = int(store.array("test_plant", "genome/contig_start")[at])
    length = int(store.array("test_plant", "genome/contig_length")[at])
    contig = decode(store.array("test_plant", "genome/code")[start : start + length])
    strand, spec = int(genes.strand[gene]), REGIONS[region]
    anchor = int(genes.tss[gene] if spec.anchor == "tss" else genes.tts[gene])
    first = bin_ * size - spec.upstream - (wide - size) // 2
    padded = "N" * 1000 + contig + "N" * 1000
    if strand > 0:
        return padded[1000 + anchor + first : 1000 + anchor + first + wide]
    piece = padded[1000 + anchor - first - wide : 1000 + anchor - first]
    return piece[::-1].translate(str.maketrans("ACGTN", "TGCAN"))


def test_bins_hold_the_mean_of_their_own_bases(tmp_path, checkpoint):
    build(dataset(tmp_path / "in", checkpoint), tmp_path / "s.zarr")
    store = featurestore.open(tmp_path / "s.zarr")
    got = store.features("test_plant", "pc")
    assert got.shape == (12, 2, 5, 16)
    strands = set()
    for gene in range(12):
        want = per_base(checkpoint, window(store, gene, gene % 2, 3))[30:130].mean(0)
        np.testing.assert_allclose(got[gene, gene % 2, 3], want, atol=2e-3)
        strands.add(int(store.genes("test_plant").strand[gene]))
    assert strands == {1, -1}
    attrs = store.embedder_attrs("test_plant", "pc")
    assert attrs["checkpoint"] == "tiny"
    assert attrs["dtype"] == "fp32"
    assert str(tmp_path) not in str(attrs)


def test_one_base_one_vector_and_the_single_token(tmp_path, checkpoint):
    recipe = '{ base = "per_token", window = 160, span = 100 }'
    build(dataset(tmp_path / "all", checkpoint, recipe), tmp_path / "all.zarr")
    store = featurestore.open(tmp_path / "all.zarr")
    got = store.features("test_plant", "pc")
    assert got.shape == (12, 2, 5, 100, 16)
    want = per_base(checkpoint, window(store, 4, 1, 2))[30:130]
    np.testing.assert_allclose(got[4, 1, 2], want, atol=2e-3)
    source = store.feature_source("test_plant", "pc")
    assert source.shape == (2, 500, 16)
    np.testing.assert_array_equal(source.read(np.array([4]))[0, 1, 200:300], got[4, 1, 2])
    np.testing.assert_array_equal(source.coords["bin_start"][0], np.arange(-400, 100))
    array = store["test_plant"]["pc"]["embedding"]
    assert array.dims == ("gene", "region", "bin", "position_in_bin", "channel")

    recipe = '{ base = "centre_token", window = 160, token = 79 }'
    build(dataset(tmp_path / "one", checkpoint, recipe), tmp_path / "one.zarr")
    single = featurestore.open(tmp_path / "one.zarr").features("test_plant", "pc")
    np.testing.assert_allclose(single[4, 1, 2], want[49], atol=2e-3)


def test_one_vector_a_region_is_the_mean_over_its_bins(tmp_path, checkpoint):
    build(dataset(tmp_path / "bins", checkpoint), tmp_path / "bins.zarr")
    recipe = '{ base = "region_mean", window = 160, span = 100 }'
    build(dataset(tmp_path / "region", checkpoint, recipe), tmp_path / "region.zarr")
    bins = featurestore.open(tmp_path / "bins.zarr").features("test_plant", "pc")
    region = featurestore.open(tmp_path / "region.zarr").features("test_plant", "pc")
    assert region.shape == (12, 2, 1, 16)
    np.testing.assert_allclose(
        region[:, :, 0], bins.astype(np.float32).mean(2), rtol=2e-3, atol=1e-4
    )
    again = build(tmp_path / "region" / "dataset.toml", tmp_path / "region.zarr")
    assert again.up_to_date


def test_a_span_that_is_no_bin_is_refused_with_both_mends(tmp_path, checkpoint):
    path = dataset(tmp_path / "in", checkpoint, "{ window = 160, span = 50 }")
    with pytest.raises(InputError, match=r"50 bp.*100 bp.*span = 100.*bin = 50"):
        build(path, tmp_path / "s.zarr")


def test_the_same_weights_under_another_name_are_not_run_again(tmp_path, checkpoint, monkeypatch):
    target = tmp_path / "s.zarr"
    build(dataset(tmp_path / "a", checkpoint), target)
    before = featurestore.open(target).features("test_plant", "pc")
    copied = tmp_path / "copy"
    copied.mkdir()
    for file in checkpoint.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())

    def never(*_):
        raise AssertionError("the model was run")

    monkeypatch.setattr(compute, "run_model", lambda embedder, codes, _=None: never() if len(codes) else _none(embedder))  # fmt: skip
    build(dataset(tmp_path / "b", copied), target)
    store = featurestore.open(target)
    assert store.embedder_attrs("test_plant", "pc")["checkpoint"] == "copy"
    np.testing.assert_array_equal(store.features("test_plant", "pc"), before)


def _none(embedder):
    return {n: [] for n in embedder.spec.shapes()}


_SLOW_BUILD = """
import sys, time
from pathlib import Path
from featurestore.build.shards import compute
from featurestore.build import engine
from featurestore.embedders.plantcaduceus.embedder import PlantCaduceus
compute.KEEP_SECONDS = 0.0
original = PlantCaduceus.embed
def slow(self, codes):
    time.sleep(0.05)
    return original(self, codes)
PlantCaduceus.embed = slow
engine.build(Path(sys.argv[1]), Path(sys.argv[2]))
print("done", flush=True)
"""


def test_a_shard_killed_half_way_goes_on_where_it_was(tmp_path, checkpoint, monkeypatch):
    path = dataset(tmp_path / "in", checkpoint)
    build(path, tmp_path / "never.zarr")
    target = tmp_path / "killed.zarr"
    command = [sys.executable, "-c", _SLOW_BUILD, str(path), str(target)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    partial = target.with_name("killed.zarr.build") / "partial"
    end = time.monotonic() + 60
    while len(list(partial.rglob("[!.]*.npz"))) < 4:
        assert time.monotonic() < end
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert "done" not in process.communicate()[0]
    seen = []
    original = PlantCaduceus.embed
    monkeypatch.setattr(
        PlantCaduceus, "embed", lambda self, codes: seen.append(len(codes)) or original(self, codes)
    )
    build(path, target)  # what goes on need not be a process of its own
    windows = 12 * 2 * 5
    assert 0 < sum(seen) <= windows - 4 * 8
    assert tree_digest(target) == tree_digest(tmp_path / "never.zarr")


def test_threads_and_worker_processes_give_the_same_values(tmp_path, checkpoint, monkeypatch):
    monkeypatch.setattr("featurestore.schema.SHARD_GENES", 16)
    path = dataset(tmp_path / "in", checkpoint)
    build(path, tmp_path / "a.zarr")
    build(path, tmp_path / "b.zarr", execution=Execution(workers=2))
    one, other = (
        featurestore.open(tmp_path / n).features("test_plant", "pc") for n in ("a.zarr", "b.zarr")
    )
    np.testing.assert_array_equal(one, other)
