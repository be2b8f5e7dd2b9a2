"""A store in memory that meets the reader's interface, and learners that misbehave on demand."""

from __future__ import annotations

import hashlib
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from learners.base import LearnerInfo
from learners.batch import ArraySource

REGIONS = [
    {"name": "promoter", "anchor": "tss", "upstream": 60, "downstream": 20},
    {"name": "terminator", "anchor": "tts", "upstream": 20, "downstream": 60},
]


@dataclass
class FakeSpecies:
    genes: SimpleNamespace
    expression: SimpleNamespace | None
    sources: dict[str, Any]
    status: dict[str, np.ndarray]
    attrs: dict[str, dict[str, Any]] = field(default_factory=dict)
    funnel: list[dict[str, Any]] = field(default_factory=list)


class FakeStore:
    def __init__(self, species: dict[str, FakeSpecies], digest: str = "d" * 64) -> None:
        self.held = species
        self.species = list(species)
        self.path = Path("fake.zarr")
        self.digest = digest
        self.content = "as it was"
        self.attrs = {
            "meristem": {
                "schema_version": "1.0.0", "dataset_digest": "e" * 64, "regions": REGIONS,
                "simulated": True, "notes": [],
            }
        }  # fmt: skip

    def absent_regions(self, species, feature):
        return {}

    def content_digest(self, species, features):
        return hashlib.sha256(f"{self.content} {species} {features}".encode()).hexdigest()

    def genes(self, species):
        return self.held[species].genes

    def expression(self, species):
        return self.held[species].expression

    def embedders(self, species):
        return [name for name in self.held[species].sources if "." not in name]

    def feature_source(self, species, name):
        return self.held[species].sources[name]

    def feature_status(self, species, name):
        return self.held[species].status[name]

    def feature_status_reason(self, species, name):
        return ["" if ok else "promoter: no_sequence" for ok in self.held[species].status[name]]

    def embedder_attrs(self, species, name):
        return self.held[species].attrs.get(name, {"pretraining_species": []})

    def funnel(self, species):
        return self.held[species].funnel


def make_species(
    name: str = "alpha",
    n: int = 120,
    families: int = 30,
    *,
    seed: int = 0,
    samples: int = 3,
    prefix: str = "F",
    contigs: int = 4,
) -> FakeSpecies:
    """Genes whose expression is linear in one channel of one bin, with noise and family effects."""
    rng = np.random.default_rng(seed)
    family = rng.integers(0, families, n)
    feature = rng.normal(size=(n, 2, 4, 5)).astype(np.float16)
    log = 1 + 0.4 * feature[:, 0, 1, 2].astype(float) + 0.1 * rng.normal(size=n)
    value = 10 ** np.clip(log[:, None] + 0.02 * rng.normal(size=(n, samples)), 0, 4) - 1
    position = np.arange(n) * 200 + 500
    strand = np.where(rng.random(n) < 0.5, 1, -1).astype(np.int8)
    contig = np.array([f"chr{1 + i * contigs // n}" for i in range(n)])
    gene = np.array([f"{name}{i:04d}" for i in range(n)])
    genes = SimpleNamespace(
        gene=gene, locus=gene.copy(), contig=contig,
        family=np.array([f"{prefix}{f}" for f in family]), strand=strand,
        tss=np.where(strand > 0, position, position + 100).astype(np.int64),
        tts=np.where(strand > 0, position + 100, position).astype(np.int64), fold=None,
    )  # fmt: skip
    expression = SimpleNamespace(
        value=value.astype(np.float32), unit="TPM",
        sample=np.array([f"s{i}" for i in range(samples)]),
        tissue=np.array(["leaf", "leaf", "root", "root", "seed"][:samples]),
        genotype=None, line=None, control=None, labelled=np.ones(n, bool),
    )  # fmt: skip
    codes = rng.integers(0, 4, (n, 2, 80)).astype(np.uint8)
    good = np.ones(n, bool)
    return FakeSpecies(
        genes, expression,
        {"onehot": ArraySource(codes, kind="codes"), "kmer": ArraySource(feature, kind="bins")},
        {"onehot": good.copy(), "kmer": good.copy()},
        funnel=[{"stage": "annotated", "count": n, "lost": []}],
    )  # fmt: skip


def make_store(n: int = 120, species: int = 1, **options: Any) -> FakeStore:
    names = ["alpha", "beta", "gamma"][:species]
    return FakeStore({x: make_species(x, n, seed=i, **options) for i, x in enumerate(names)})


def log_fit(text: str) -> None:
    """Append to the file that the test watches: which fits really happened."""
    if "BENCH_FAKES_LOG" in os.environ:
        with open(os.environ["BENCH_FAKES_LOG"], "a") as file:
            file.write(text + "\n")


def fit_count() -> int:
    path = Path(os.environ["BENCH_FAKES_LOG"])
    return len(path.read_text().splitlines()) if path.exists() else 0


class Linear:
    """Least squares; seen labels kept for the tests to look at."""

    info: ClassVar[LearnerInfo] = LearnerInfo(
        name="fake_linear", inputs=frozenset({"bins", "tabular"}), summary="least squares",
        defaults={"penalty": 1.0}, multi_output=False,
    )  # fmt: skip
    seen: ClassVar[list[Any]] = []

    def __init__(self, penalty: float = 1.0) -> None:
        self.penalty = penalty

    def fit(self, train, valid, *, seed, budget):
        log_fit(f"{self.info.name} {seed} {len(train)}")
        x, y = self._design(train), train.require_targets()
        self.weight = np.linalg.solve(x.T @ x + self.penalty * np.eye(x.shape[1]), x.T @ y)
        self.learning_curve = [{"step": 0, "train": 1.0, "valid": 2.0}]
        self.best_step = 0

    def predict(self, batch):
        type(self).seen.append(batch)
        return self._design(batch) @ self.weight

    def _design(self, batch):
        x = batch.array(np.float64)
        return np.concatenate([np.ones((len(x), 1)), x], axis=1)

    def save(self, path):
        np.save(path / "weight.npy", self.weight, allow_pickle=False)

    @classmethod
    def load(cls, path):
        learner = cls()
        learner.weight = np.load(path / "weight.npy", allow_pickle=False)
        return learner


def _named(name: str, **changes: Any) -> LearnerInfo:
    return LearnerInfo(
        name=name, inputs=changes.get("inputs", Linear.info.inputs), summary=name,
        defaults=Linear.info.defaults, control=changes.get("control", False),
    )  # fmt: skip


class FailsInFold3(Linear):
    """Raises on its third fit of the process."""

    info: ClassVar[LearnerInfo] = _named("fails_in_fold_3")
    fits: ClassVar[int] = 0

    def fit(self, train, valid, *, seed, budget):
        type(self).fits += 1
        if type(self).fits == 3:
            raise RuntimeError("the third fold is cursed")
        super().fit(train, valid, seed=seed, budget=budget)


class DiesInFold3(Linear):
    """Kills its own process on the third fit while BENCH_FAKES_DIE is set."""

    info: ClassVar[LearnerInfo] = _named("dies_in_fold_3")

    def fit(self, train, valid, *, seed, budget):
        if os.environ.get("BENCH_FAKES_DIE") and fit_count() == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        super().fit(train, valid, seed=seed, budget=budget)


class StopsInFold3(Linear):
    """Leaves the process in the third fit while BENCH_FAKES_STOP is set."""

    info: ClassVar[LearnerInfo] = _named("stops_in_fold_3")

    def fit(self, train, valid, *, seed, budget):
        if os.environ.get("BENCH_FAKES_STOP") and fit_count() == 2:
            raise SystemExit(7)
        super().fit(train, valid, seed=seed, budget=budget)


class PredictsNaN(Linear):
    info: ClassVar[LearnerInfo] = _named("predicts_nan")

    def predict(self, batch):
        out = super().predict(batch)
        out[0] = np.nan
        return out


class PredictsFlat(Linear):
    info: ClassVar[LearnerInfo] = _named("predicts_flat")

    def predict(self, batch):
        return super().predict(batch)[:, 0]


class CodesOnly(Linear):
    info: ClassVar[LearnerInfo] = _named("codes_only", inputs=frozenset({"codes"}))


class NoFeatures(Linear):
    info: ClassVar[LearnerInfo] = _named("no_features", inputs=frozenset({"none"}), control=True)

    def _design(self, batch):
        assert not batch.blocks
        return np.ones((len(batch), 1))
