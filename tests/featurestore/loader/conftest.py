"""A small store of two species, and what it holds, read without the loader."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import featurestore
from featurestore.build.engine import build
from tests.builders.dataset import write_dataset
from tests.builders.species import random_species

FEATURES = ["kmer", "onehot"]


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("loader")
    species = [random_species("alpha", genes=50, seed=1), random_species("beta", genes=37, seed=2)]
    path = folder / "s.zarr"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featurestore.schema.SHARD_GENES", 16)
        build(write_dataset(folder / "in", *species), path)
    return path


@pytest.fixture
def store(built):
    return featurestore.open(built)


@pytest.fixture(scope="session")
def truth(built) -> dict[str, np.ndarray]:
    """(species, row) of every usable gene, and its features by plain reading, in store order."""
    store = featurestore.open(built)
    found: dict[str, list] = {"species": [], "row": [], "gene": [], **{f: [] for f in FEATURES}}
    for number, species in enumerate(store.species):
        good = np.flatnonzero(
            store.feature_status(species, "kmer") & store.feature_status(species, "onehot")
        )
        found["species"].append(np.full(len(good), number))
        found["row"].append(good)
        found["gene"].append(store.genes(species).gene[good])
        for feature in FEATURES:
            found[feature].append(store.features(species, feature)[good])
    return {name: np.concatenate(parts) for name, parts in found.items()}
