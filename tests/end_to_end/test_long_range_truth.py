"""The long-range world, whose enhancers are known: a small Enformer finds them in half an hour of one core."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("pyBigWig")

TRAINING = (
    "run", "--store", "store.zarr", "--task", "tracks", "--tracks", "tracks.tsv", "--only-fold", "0",
    "--threads", "1", "--learner", "enformer", "--param", "preset=mini-long", "--param", "amp=bf16",
)  # fmt: skip
"""As docs/enformer.md has it."""

SHORT = ("--window", "16384", "--learn-from", "genes", "--param", "batch_size=8", "--param", "epochs=5")  # fmt: skip
LONG = ("--window", "98304", "--tilings", "2", "--param", "epochs=4")


def run(folder: Path, package: str, *arguments: str) -> Any:
    """A command of the project; what it prints as JSON."""
    found = subprocess.run(
        [sys.executable, "-m", package, *arguments, "--json"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    return json.loads(found.stdout)


def trained(folder: Path, name: str, *more: str) -> Path:
    """The model of fold 0 after short windows around genes and then long ones."""
    run(folder, "benchmarks", *TRAINING, *SHORT, *more, "--out", f"begun-{name}")
    (begun,) = folder.glob(f"begun-{name}/*/model/0-0/enformer")
    before = set(folder.glob("runs/*"))
    run(folder, "benchmarks", *TRAINING, *LONG, *more, "--param", f"checkpoint={begun}", "--out", "runs")  # fmt: skip
    (made,) = set(folder.glob("runs/*")) - before
    return made


@pytest.mark.nightly
def test_a_small_enformer_finds_distant_enhancers(tmp_path: Path) -> None:
    run(tmp_path, "featurestore", "init", ".", "--world", "long-range", "--genes", "4800", "--seed", "1")  # fmt: skip
    run(tmp_path, "featurestore", "build", "dataset.toml", "--store", "store.zarr")
    whole = trained(tmp_path, "whole")
    trained(tmp_path, "cut", "--param", "context=2048")

    compared = run(tmp_path, "benchmarks", "compare", "runs", "--metric", "pearson")
    (pair,) = (p for p in compared["pairs"] if p["target"] == "cage")
    # The difference is that of A less B, whichever of them is the cut one.
    if "context=2048" in pair["method_a"]:
        assert pair["ci_high"] < 0
    else:
        assert pair["ci_low"] > 0

    links = run(
        tmp_path, "benchmarks", "links", "--model", str(whole), "--fold", "0", "--tested",
        "--store", "store.zarr", "--track", "cage", "--elements", "elements.bed", "--pairs", "pairs.tsv",
        "--score", "gradient_x_input", "--out", "links.parquet",
    )  # fmt: skip
    (area,) = (
        a for a in links["areas"]
        if (a["stratum"], a["score"], a["metric"]) == ("all", "gradient_x_input", "auprc")
    )  # fmt: skip
    assert area["difference_low"] > 0

    run(
        tmp_path, "featurestore", "score", "dataset.toml", "--variants", "variants.vcf",
        "--embedder", "enformer", "--checkpoint", str(whole / "model" / "0-0" / "enformer"),
        "--window", "gene", "--tracks", "cage", "--score", "sad", "--out", "scores.parquet",
    )  # fmt: skip
    effects = run(tmp_path, "benchmarks", "effects", "scores.parquet", "--measured", "truth/variants.tsv")  # fmt: skip
    (signs,) = (
        row for row in effects["rows"] if (row["scope"], row["metric"]) == ("all", "sign_accuracy")
    )
    assert signs["value"] >= 0.9
