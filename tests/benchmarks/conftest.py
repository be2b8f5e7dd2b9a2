"""Makes the fakes importable, as a user's own learner module would be."""

from __future__ import annotations

from io import StringIO
from pathlib import Path

import pytest

FAKES = Path(__file__).parent / "fakes"


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """The module of fakes, its log of fits fresh."""
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.setenv("BENCH_FAKES_LOG", str(tmp_path / "fits.log"))
    import bench_fakes

    bench_fakes.Linear.seen.clear()
    bench_fakes.FailsInFold3.fits = 0
    return bench_fakes


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A small simulated data set with its store, and runs on it: ridge, two that know the grammar, constants."""
    import sys

    import featurestore
    from benchmarks.runs.plans import RunOptions
    from benchmarks.runs.progress import Progress
    from benchmarks.runs.runner import run
    from featurestore.build.engine import build
    from featurestore.sample import write_sample

    folder = tmp_path_factory.mktemp("trained")
    write_sample(folder / "data", genes=60, lines=3)
    build(folder / "data" / "dataset.toml", folder / "store.zarr")
    learners = [
        "ridge@kmer",
        *(f"bench_grammar:{n}" for n in ("Oracle", "SawTheGrammar", "MeanOfFold")),
    ]
    sys.path.insert(0, str(FAKES))
    store = featurestore.open(folder / "store.zarr")
    options = RunOptions(learners, features="onehot", out=folder / "runs", bootstrap=0)
    outcomes = run(store, options, Progress(0, StringIO()))
    assert [one.state for one in outcomes] == ["ok"] * len(learners), outcomes
    yield folder, {one.label.partition("@")[0]: one.path for one in outcomes}
    sys.path.remove(str(FAKES))
