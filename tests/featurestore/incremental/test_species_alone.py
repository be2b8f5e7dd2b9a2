"""``--species X`` needs the files of X; the store gives what it holds of the others."""

from __future__ import annotations

import pytest

import featurestore
from featurestore.build.engine import build
from featurestore.build.planning.estimate import estimate
from featurestore.inputs.problems import DataSetError
from tests.builders.dataset import write_dataset
from tests.builders.species import random_species
from tests.featurestore.test_build import tree_digest


@pytest.fixture
def dataset(tmp_path):
    return write_dataset(
        tmp_path / "in",
        *(random_species(f"plant_{c}", genes=20 + i, contig_bp=8000, seed=i) for i, c in enumerate("abc")),
    )  # fmt: skip


def hide(dataset, species):
    """Move the files of a species away; returns what brings them back."""
    moved = [(p, p.with_name(f"{p.name}.away")) for p in dataset.parent.glob(f"{species}.*")]
    for here, away in moved:
        here.rename(away)
    return lambda: [away.rename(here) for here, away in moved]


def test_files_of_species_that_the_store_holds_or_nobody_asked_for_may_be_elsewhere(
    tmp_path, dataset
):
    build(dataset, tmp_path / "all.zarr")
    store = tmp_path / "s.zarr"
    back = [hide(dataset, "plant_b"), hide(dataset, "plant_c")]
    build(dataset, store, species=["plant_a"])
    back[0]()
    hide(dataset, "plant_a")
    [row] = [r for r in estimate(dataset, store, [], ["plant_b"])["groups"] if (r["species"], r["group"]) == ("plant_a", "kmer")]  # fmt: skip
    assert (row["shards_to_compute"], row["shards_taken_over"]) == (0, row["shards"])
    result = build(dataset, store, species=["plant_b"])
    assert result.taken_over > 0
    back[1]()
    build(dataset, store, species=["plant_c"], embedders=["kmer"])
    assert featurestore.open(store).species == ["plant_a", "plant_b", "plant_c"]
    assert tree_digest(store) == tree_digest(tmp_path / "all.zarr")
    assert build(dataset, store, species=["plant_c"]).up_to_date


def test_a_new_embedder_reaches_them_too(tmp_path, dataset):
    build(dataset, tmp_path / "all.zarr", embedders=["onehot", "kmer"])
    store = tmp_path / "s.zarr"
    build(dataset, store, embedders=["onehot"])
    hide(dataset, "plant_a")
    build(dataset, store, species=["plant_b"], embedders=["kmer"])
    assert tree_digest(store) == tree_digest(tmp_path / "all.zarr")


def test_what_the_store_does_not_hold_as_it_is_wanted_is_asked_for(tmp_path, dataset):
    store = tmp_path / "s.zarr"
    build(dataset, store)
    hide(dataset, "plant_a")
    with pytest.raises(DataSetError, match=r"plant_a\.fa"):
        build(dataset, store, species=["plant_a"])
    with pytest.raises(DataSetError, match=r"plant_a\.fa"):
        build(dataset, store)
    text = dataset.read_text()
    changed = text.replace('"plant_a.tsv"', '{ file = "plant_a.tsv", duplicates = "mean" }')
    assert changed != text
    dataset.write_text(changed)
    with pytest.raises(DataSetError, match=r"plant_a\.tsv"):
        build(dataset, store, species=["plant_b"])
