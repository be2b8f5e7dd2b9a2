"""``bench run --learner EMPRES_2``: features found by themselves, told by name, refused where they lack."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

import numpy as np
import pytest

pytest.importorskip("torch")

from benchmarks.runs.files import read_run
from benchmarks.runs.plans import RunOptions
from benchmarks.runs.progress import Progress
from benchmarks.runs.runner import run
from featurestore.errors import InputError
from learners.base import Budget
from learners.batch import ArraySource

SMALL = ("filters=4", "units=4", "base_filters=4")


def options(tmp_path, *learners, **changes) -> RunOptions:
    return RunOptions(
        learners, out=tmp_path, bootstrap=10, budget=Budget(threads=1, rounds=1), params=SMALL, **changes
    )  # fmt: skip


@pytest.fixture
def store(fakes):
    """The fake store with simulated vectors of the embedders of EMPRES; a2z goes by another name."""
    made = fakes.make_store()
    (species,) = made.held.values()
    n, rng = len(species.genes.gene), np.random.default_rng(0)
    shapes = {"plantcaduceus": (2, 20, 6), "chrom": (2, 20, 4), "chrom.embedding": (2, 20, 4), "chrom.accessibility": (2, 20)}  # fmt: skip
    for name, shape in shapes.items():
        values = rng.normal(size=(n, *shape)).astype(np.float16)
        species.sources[name] = ArraySource(values, kind="bins", dims=("region", "bin", "channel")[: len(shape)])  # fmt: skip
        species.status[name] = np.ones(n, bool)
    species.attrs["plantcaduceus"] = {"type": "plantcaduceus", "outputs": {"embedding": 6}}
    species.attrs["chrom"] = {"type": "a2z", "outputs": {"embedding": 4, "accessibility": 0}}
    return made


def test_every_variant_runs_on_its_own_features_whatever_the_others_are_given(store, tmp_path):
    named = [f"EMPRES_{number}" for number in range(5)]
    wanted = options(tmp_path, "ridge", *named, features="kmer")
    outcomes = run(store, wanted, Progress(0, StringIO()))
    assert [o.state for o in outcomes] == ["ok"] * 6, [o.error for o in outcomes]
    assert [o.label for o in outcomes] == [
        "ridge@kmer", "EMPRES_0@onehot", "EMPRES_1@plantcaduceus",
        "EMPRES_2@plantcaduceus+chrom.accessibility",
        "EMPRES_3@plantcaduceus+chrom.embedding", "EMPRES_4@chrom.embedding",
    ]  # fmt: skip
    record = read_run(outcomes[3].path).run
    assert record["identity"]["learner"]["params"]["preset"] == "published"
    assert record["identity"]["learner"]["params"]["units"] == 4
    assert record["identity"]["learner"]["params"]["conv_layers"] == 4  # of the preset
    assert record["identity"]["features"] == "plantcaduceus+chrom.accessibility"


def test_features_named_for_the_variant_itself_are_taken(store, tmp_path):
    wanted = options(tmp_path, "EMPRES_1@kmer")
    (outcome,) = run(store, wanted, Progress(0, StringIO()))
    assert outcome.label == "EMPRES_1@kmer"


def test_a_variant_given_as_a_parameter(store, tmp_path):
    wanted = replace(options(tmp_path, "s2e"), params=(*SMALL, "variant=EMPRES_4"))
    (outcome,) = run(store, wanted, Progress(0, StringIO()))
    assert outcome.label == "s2e@chrom.embedding"


def test_a_store_without_them_is_told_what_lacks_before_anything_is_fitted(fakes, tmp_path):
    with pytest.raises(InputError, match="EMPRES_2 is defined on features of plantcaduceus"):
        run(fakes.make_store(), options(tmp_path, "EMPRES_2"), Progress(0, StringIO()))
    assert not list(tmp_path.glob("*/run.json"))


def test_a_gated_run_tells_its_gates(store, tmp_path):
    wanted = RunOptions(
        ["gated"], features="kmer+plantcaduceus+onehot", out=tmp_path, bootstrap=10,
        budget=Budget(threads=1, rounds=1),
    )  # fmt: skip
    (outcome,) = run(store, wanted, Progress(0, StringIO()))
    for fold in read_run(outcome.path).run["folds"]:
        gates = fold["learned"]["gates"]
        assert list(gates) == ["kmer", "plantcaduceus", "onehot"]
        assert sum(gates.values()) == pytest.approx(1)
