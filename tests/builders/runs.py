"""Writes synthetic run folders: every file the runner writes, with numbers known beforehand.

``predictions_of`` makes predictions whose true R² is chosen, over genes in families.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.runs.files import (
    RESULT_SCHEMA,
    RunResult,
    digest_of,
    read_run,
    write_json,
    write_table,
)
from benchmarks.scores.metrics import evaluate

UNIT = "log10(1+TPM)"
SPECIES = ("sim_alba", "sim_nigra")


def population(
    n_genes: int = 300, *, per_family: int = 3, species: Sequence[str] = SPECIES, seed: int = 0
) -> pd.DataFrame:
    """Genes with families across species and an observed value that families share in part."""
    rng = np.random.default_rng(seed)
    family = np.arange(n_genes) // per_family
    which = np.arange(n_genes) % len(species)
    common = rng.normal(size=family.max() + 1)[family]
    y = 1.0 + 0.15 * which + 0.35 * common + 0.45 * rng.normal(size=n_genes)
    return pd.DataFrame({
        "gene": [f"SIM{i:05d}" for i in range(n_genes)],
        "species": np.array(species)[which],
        "family": [f"FAM{f:04d}" for f in family],
        "y_true": np.maximum(y, 0.0),
    })  # fmt: skip


def predictions_of(
    genes: pd.DataFrame, *, r2: float, seed: int = 0, folds: int = 5, noise_seed: int = 0
) -> pd.DataFrame:
    """Predictions of expected R² ``r2``, one per gene, in ``folds`` folds of whole families."""
    order = np.random.default_rng(1000 + seed).permutation(genes["family"].nunique())
    fold = order[pd.factorize(genes["family"])[0]] % folds
    noise = np.random.default_rng((seed, noise_seed)).normal(size=len(genes))
    y = genes["y_true"].to_numpy()
    signal = r2 * (y - y.mean()) + np.sqrt(max(r2 * (1 - r2), 0.0)) * y.std() * noise
    return genes.assign(repeat=seed, fold=fold, y_pred=y.mean() + signal)[
        ["gene", "species", "family", "repeat", "fold", "y_true", "y_pred"]
    ]


def learning_of(seed: int, folds: int, steps: int = 60) -> pd.DataFrame:
    """Losses that fall, the validation loss turning up late."""
    rng = np.random.default_rng(seed)
    step = np.arange(1, steps + 1)
    parts = []
    for fold in range(folds):
        train = 0.28 + 0.4 * np.exp(-step / 14) - 0.001 * step + 0.004 * rng.normal(size=steps)
        valid = 0.38 + 0.3 * np.exp(-step / 11) + 0.0006 * step + 0.008 * rng.normal(size=steps)
        curve = {"step": step, "train": train, "valid": valid + 0.01 * fold}
        parts.append(pd.DataFrame({"repeat": seed, "fold": fold, **curve}))
    return pd.concat(parts, ignore_index=True)


def funnel_of(n: int, species: Sequence[str]) -> list[dict[str, Any]]:
    """A funnel in which every lost gene has its reason."""
    rows = []
    for name in species:
        count = n // len(species)
        total = count + 47
        rows += [
            {"species": name, "stage": "annotated", "count": total, "lost": []},
            {"species": name, "stage": "windowed", "count": total - 7, "lost": [
                {"reason": "contig shorter than the window", "count": 7, "examples": ["SIM9001"]}]},
            {"species": name, "stage": "embedded", "count": total - 9, "lost": [
                {"reason": "no countable base", "count": 2, "examples": ["SIM9101", "SIM9102"]}]},
            {"species": name, "stage": "labelled", "count": count, "lost": [
                {"reason": "not in the expression table", "count": 38, "examples": ["SIM9201"]}]},
            {"species": name, "stage": "scored", "count": count, "lost": []},
        ]  # fmt: skip
    return rows


def identity_of(
    learner: str, features: str, *, seed: int = 0, target: str = "median", control: bool = False,
    params: Mapping[str, Any] | None = None, task: str = "expression", labels: str = "d" * 64,
    split: str = "families-5fold", split_digest: str | None = None, simulated: bool = True,
    species: Sequence[str] = SPECIES, leakage: bool = False,
    store: Mapping[str, str] | None = None, versions: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """What makes a run what it is."""
    return {
        "task": task, "target": target, "unit": UNIT, "simulated": simulated,
        "split": {
            "name": split, "digest": split_digest or f"{seed:064x}",
            "recipe": {"name": split, "folds": 5, "repeats": [seed], "validation": 0.1},
            "leakage_allowed": leakage,
        },
        "learner": {
            "name": learner, "params": dict(params or {}), "control": control,
            "reference": "Chen & Guestrin (2016) KDD 785–794" if learner == "xgboost" else "",
        },
        "features": features, "seed": seed,
        "store": {"digest": "5" * 64, "schema_version": "1.0", **(store or {})}, "labels_digest": labels,
        "species": list(species), "versions": {"meristem": "0.1.0", "numpy": "2.4.6", **(versions or {})},
    }  # fmt: skip


def write_run(
    folder: Path, learner: str = "ridge", features: str = "kmer", *, r2: float = 0.3,
    seed: int = 0, genes: pd.DataFrame | None = None, folds: int = 5, failed: str | None = None,
    fit_s: float = 2.0, memory: int = 400 << 20, learning: bool = False, bootstrap: int = 200,
    contamination: Mapping[str, list[str]] | None = None,
    predictions: pd.DataFrame | None = None, **identity: Any,
) -> RunResult:  # fmt: skip
    """Write one run folder below ``folder`` and read it back."""
    genes = population() if genes is None else genes
    species = tuple(sorted(genes["species"].unique()))
    what = identity_of(learner, features, seed=seed, species=species, **identity)
    digest = digest_of(what)
    named = f"{what['task']}-{what['target']}-{learner}_{features}-s{seed}"
    stem = "".join(c if c.isalnum() or c == "-" else "_" for c in named)
    path = folder / f"{stem}-{digest[:8]}"
    path.mkdir(parents=True)
    table = predictions
    if table is None:
        noise = zlib.crc32(f"{learner}@{features}".encode())
        table = predictions_of(genes, r2=r2, seed=seed, folds=folds, noise_seed=noise)
    n = len(genes)
    run: dict[str, Any] = {
        "schema": RESULT_SCHEMA, "run": path.name, "status": "failed" if failed else "ok",
        "error": {"type": "MemoryError", "message": failed} if failed else None,
        "identity": what, "identity_digest": digest, "dataset_digest": "e" * 64, "device": "cpu", "threads": 2,
        "times": {"fit_s": fit_s, "predict_s": fit_s / 20, "wall_s": fit_s * 1.3},
        "peak_memory_bytes": memory, "contamination": dict(contamination or {}),
        "funnel": funnel_of(n, species),
        "folds": [
            {"repeat": seed, "fold": f, "n_train": int(n * 0.72), "n_valid": int(n * 0.08),
             "n_test": n // folds, "fit_s": fit_s / folds, "predict_s": 0.01, "status": "ok",
             "error": None, "best_step": 41 if learning else None}
            for f in range(folds)
        ],
        "audit": None,
        "notes": ["simulated data"] if what["simulated"] else [],
    }  # fmt: skip
    write_json(path / "run.json", run)
    if not failed:
        write_table(path / "predictions.parquet", table)
        write_table(path / "metrics.parquet", evaluate(table, unit=UNIT, bootstrap=bootstrap))
        if learning:
            write_table(path / "learning.parquet", learning_of(seed, folds))
    return read_run(path)


METHODS: tuple[tuple[str, str, float, dict[str, Any]], ...] = (
    ("xgboost", "kmer", 0.31, {"fit_s": 21.0, "memory": 900 << 20, "learning": True}),
    ("lightgbm", "kmer", 0.305, {"fit_s": 12.0, "memory": 760 << 20, "learning": True}),
    ("hist_gradient_boosting", "kmer", 0.28, {"fit_s": 44.0, "memory": 620 << 20}),
    ("ridge", "kmer", 0.29, {"fit_s": 1.3, "memory": 350 << 20}),
    ("ridge", "onehot", 0.12, {"fit_s": 9.0, "memory": 2100 << 20}),
    ("knn", "kmer", 0.14, {"fit_s": 0.4, "memory": 330 << 20}),
    ("onehot_cnn", "onehot", 0.21, {"fit_s": 310.0, "memory": 1500 << 20, "learning": True}),
    ("family_mean", "", 0.06, {"fit_s": 0.02, "control": True, "memory": 210 << 20}),
    ("species_mean", "", 0.01, {"fit_s": 0.01, "control": True, "memory": 205 << 20}),
    ("shuffled_labels", "kmer", 0.0, {"fit_s": 1.3, "control": True, "memory": 350 << 20}),
)


def write_benchmark(folder: Path, *, seeds: int = 3, n_genes: int = 600, target: str = "median",
                    methods: Sequence[tuple[str, str, float, dict[str, Any]]] = METHODS,
                    **identity: Any) -> list[RunResult]:  # fmt: skip
    """Write several methods × seeds on one simulated population."""
    genes = population(n_genes)
    return [
        write_run(folder, learner, features, r2=r2, seed=seed, genes=genes, target=target,
                  **{**identity, **more})
        for learner, features, r2, more in methods
        for seed in range(seeds)
    ]  # fmt: skip
