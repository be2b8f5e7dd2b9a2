"""The network of motifs on real sequences: what it must reach where k-mers reach 0.46."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import featurestore
from benchmarks.runs.folds import fold_facts
from benchmarks.runs.plans import RunOptions
from benchmarks.runs.runner import plan_runs
from featurestore.build.engine import build
from learners.base import Budget
from learners.registry import make_learner

pytest.importorskip("torch")


def terminators(folder: Path, data: Path) -> Path:
    """A store of one terminator of 170 bp a gene with its strength in maize; 24,198 genes."""
    import pandas as pd

    table = pd.read_csv(data / "zma_flanks" / "terminators_170bp.tsv.gz", sep="\t")
    table = table[table["starr_maize_log2"].notna()].drop_duplicates("gene_id")
    table = table.rename(columns={"gene_id": "gene", "sequence": "terminator"})
    table[["gene", "terminator"]].to_csv(folder / "terminators.tsv", sep="\t", index=False)
    table[["gene", "starr_maize_log2"]].to_csv(folder / "strength.tsv", sep="\t", index=False)
    (folder / "dataset.toml").write_text(f"""
embedders = ["onehot"]
[regions]
terminator = {{ anchor = "tts", upstream = 170, downstream = 0 }}
bin = 34
[species.zea_mays]
sequences = "terminators.tsv"
expression = {{ file = "strength.tsv", unit = "log2" }}
families = "{data}/zma_flanks/families_plaza_ortho04m.tsv.gz"
""")
    build(folder / "dataset.toml", folder / "store.zarr")
    return folder / "store.zarr"


@pytest.mark.nightly
def test_motifs_of_maize_terminators_are_learned(tmp_path: Path, shared_data: Path) -> None:
    store = featurestore.open(terminators(tmp_path, shared_data))
    (plan,) = plan_runs(store, RunOptions(learners=["onehot_cnn"], target="mean"))
    _, sides = fold_facts(plan, 0)
    batch = plan.data.batch
    assert len(batch) == 24198
    train, valid, test = (batch.take(getattr(sides, name)) for name in ("train", "valid", "test"))
    learner = make_learner("onehot_cnn")
    learner.fit(train, valid, seed=0, budget=Budget(threads=2))
    labels = test.require_targets()[:, 0]
    found = learner.predict(test.without_targets())[:, 0]
    assert 1 - np.mean((found - labels) ** 2) / labels.var() > 0.53
