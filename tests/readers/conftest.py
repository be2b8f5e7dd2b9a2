"""A store with an array of every kind that the project writes, and the same exported by each profile."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import featurestore
from featurestore.build.engine import build
from featurestore.embedders.kmer import Kmer
from featurestore.export.publish import export_store
from featurestore.inputs.model import Region
from tests.builders.dataset import write_dataset
from tests.builders.species import random_species
from tests.builders.variants import random_records
from tests.oracles.variants import header

REGIONS = (Region("promoter", "tss", 400, 100), Region("terminator", "tts", 100, 170))
LINES = ["M1", "M2", "M3"]
FOLDER, SPECIES = "store.zarr", "arabidopsis_thaliana"


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """Ragged regions, several shards, variants, an embedder with constants; ids beyond ASCII."""
    folder = tmp_path_factory.mktemp("readers")
    one = random_species(SPECIES, genes=36, contig_bp=8000, regions=REGIONS, seed=4)
    names = [f"Gé{i:03d}{'·' * (i % 3)}" for i in range(len(one.gene))]
    one = replace(one, gene=names, locus=names)
    path = write_dataset(folder / "in", one)
    records = random_records(one, len(LINES))
    vcf = header(LINES) + "".join(r.row() + "\n" for r in records)
    (folder / "in/v.vcf").write_text(vcf)
    path.write_text(path.read_text() + 'variants.mutants = "v.vcf"\n')
    honest = Kmer.__init__

    def with_constants(self: Kmer, *given: Any, **named: Any) -> None:
        honest(self, *given, **named)
        n = len(self.channels)
        weight = np.random.default_rng(0).normal(size=(5, n)).astype(np.float32)
        self.spec = replace(
            self.spec, constants={"state_map": weight, "state_offset": weight[:, 0].copy()}
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kmer, "__init__", with_constants)
        patch.setattr("featurestore.schema.SHARD_GENES", 16)
        patch.setattr("featurestore.schema.SHARD_ROWS", 128)
        build(path, folder / FOLDER)
    return folder / FOLDER


@pytest.fixture(scope="session", params=["local", "remote", "int8"])
def store(request, built, tmp_path_factory) -> Path:
    """The store as it was built, compressed, and with vectors as int8."""
    if request.param == "local":
        return built
    out = tmp_path_factory.mktemp(request.param) / FOLDER
    export_store(featurestore.open(built), out, profile=request.param)
    return out


@pytest.fixture(scope="session")
def arrays(store) -> dict[str, np.ndarray]:
    """Every array of it, as our reader gives what lies on disk."""
    opened = featurestore.open(store)
    found = {}
    for path in sorted(p.parent.relative_to(store).as_posix() for p in store.rglob("zarr.json")):
        species, _, below = path.partition("/")
        if below and opened.meta(species, below)["node_type"] == "array":
            stored = opened.stored(species, below)
            found[path] = getattr(stored, "codes", stored).read()
    kinds = {opened.meta(*p.split("/", 1))["data_type"] for p in found}
    vectors = "int8" if f"{SPECIES}/kmer/embedding_scale" in found else "float16"
    assert kinds == {"string", "bool", "int8", "uint8", "int32", "int64", "float32", vectors}
    return found


@pytest.fixture(scope="session")
def zarrita(tmp_path_factory) -> Path:
    """A folder with zarrita and a Float16Array; skips, saying so, without node or a registry."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs node and npm on the path")
    folder = tmp_path_factory.mktemp("zarrita")
    words = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error",
             "zarrita@0.7.5", "@petamoriken/float16@3.9.2"]  # fmt: skip
    try:
        subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=90)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm could not install zarrita: {error}")
    return folder
