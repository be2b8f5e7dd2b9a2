"""A run on the simulated sample is held against the noise-free grammar on the genes it scored."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.runs.files import RunResult
from benchmarks.scores.ceiling import shares_of_ceiling
from featurestore.errors import InputError
from featurestore.sample import write_sample


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulated")
    write_sample(folder, seed=5, genes=60, lines=2)
    return folder


def a_run(sample: Path, predicted: str, genes: int | None = None, shift: float = 0.0) -> RunResult:
    truth = pd.read_csv(sample / "truth" / "expression.tsv", sep="\t").iloc[:genes]
    predictions = truth[["species", "gene"]].assign(
        y_true=truth["target_observed_all"] + shift, y_pred=truth[predicted]
    )
    identity = {
        "task": "expression", "target": "median", "seed": 0, "features": "kmer",
        "learner": {"name": "ridge"},
    }  # fmt: skip
    return RunResult(
        Path("runs/one"), {"status": "ok", "identity": identity}, predictions, None, None
    )


def test_the_grammar_itself_has_all_of_it_and_what_knows_more_has_more(sample):
    runs = [a_run(sample, "target_sequence_all"), a_run(sample, "target_true_all")]
    table = shares_of_ceiling(runs, sample)
    grammar, everything = table.iloc[:2], table.iloc[2:]
    assert np.allclose(grammar["share"], 1)
    assert (everything["share"] > 1.05).all()
    assert set(table["metric"]) == {"r2", "pearson"}


def test_the_ceiling_is_that_of_the_genes_scored(sample):
    whole, part = (
        shares_of_ceiling([a_run(sample, "target_sequence_all", n)], sample) for n in (None, 50)
    )
    assert part["n"].unique().tolist() == [50]
    assert not np.allclose(whole["ceiling"], part["ceiling"])


def test_runs_of_another_sample_are_refused(sample, tmp_path):
    with pytest.raises(InputError, match="not those of"):
        shares_of_ceiling([a_run(sample, "target_sequence_all", shift=0.5)], sample)
    with pytest.raises(InputError, match="fs init"):
        shares_of_ceiling([a_run(sample, "target_sequence_all")], tmp_path)
    other = a_run(sample, "target_sequence_all")
    other.run["identity"]["task"] = "variants"
    with pytest.raises(InputError, match="no finished run"):
        shares_of_ceiling([other], sample)
