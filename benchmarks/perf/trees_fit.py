"""``python -m benchmarks.perf.trees_fit STORE LEARNER``: time and memory of one fit, in a process of its own.

Prints one line of JSON: seconds and processor seconds of the fit; peaks beyond what was there before
it, in bytes: of anonymous memory, which nothing but swapping takes away, and of mapped files, which
the system takes back as it likes; the peak of the whole process; R² on rows that were not fitted.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from learners.base import Budget
from learners.batch import Block, FeatureBatch, join_sources

VALID: Final = 0.1
TEST: Final = 2000

_SHARE: Final = {"xgboost": "colsample_bytree", "lightgbm": "feature_fraction"}


class Peak:
    """Highest use of memory of this process while in the context, in bytes by kind."""

    def __enter__(self) -> Peak:
        self.before = _held()
        self.most = dict(self.before)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.01):
            for kind, value in _held().items():
                self.most[kind] = max(self.most[kind], value)

    def beyond(self, kind: str) -> int:
        """Beyond what there was before."""
        return self.most[kind] - self.before[kind]


def _held() -> dict[str, int]:
    wanted = {"RssAnon": "anonymous", "RssFile": "mapped", "VmRSS": "whole"}
    found = {}
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in wanted:
            found[wanted[name]] = 1024 * int(value.split()[0])
    return found


def batches(store: Any, genes: int) -> tuple[FeatureBatch, FeatureBatch, FeatureBatch]:
    """Training, validation and unseen rows of the first genes of a store, in its order."""
    species = list(store.species)
    source = join_sources([store.feature_source(one, "wide") for one in species])
    tpm = np.concatenate([np.asarray(store.array(one, "expression/value")) for one in species])
    rows = np.arange(min(len(source), genes + TEST), dtype=np.int64)
    ids = np.char.add("g", rows.astype(str))
    whole = FeatureBatch(
        {"wide": Block(source, rows)}, ids, np.full(len(rows), "simulated"), ids,
        targets=np.log10(1 + tpm.reshape(len(source), -1)[: len(rows), :1].astype(np.float64)),
    )  # fmt: skip
    order = np.random.default_rng(0).permutation(len(rows)).astype(np.int64)
    genes = min(genes, len(rows) - 500)
    cuts = [0, genes - int(VALID * genes), genes, len(rows)]
    return tuple(  # type: ignore[return-value]
        whole.take(np.sort(order[a:b])) for a, b in pairwise(cuts)
    )


def fit_ours(name: str, params: dict[str, Any], budget: Budget, sides: Any) -> Callable[[], Any]:
    """The learner as ``bench run`` calls it, reading the store."""
    from learners.registry import make_learner

    learner = make_learner(name, params)

    def fit() -> Any:
        learner.fit(sides[0], sides[1], seed=0, budget=budget)
        return learner.predict

    return fit


def fit_library(name: str, params: dict[str, Any], budget: Budget, sides: Any) -> Callable[[], Any]:
    """The same fit by the library's own calls, on arrays that are in memory beforehand."""
    from learners.trees.rounds import scaled_rounds

    own = make_settings(name, params, budget)
    both = np.concatenate([_array(side) for side in sides[:2]])
    labels = np.concatenate([side.require_targets()[:, 0] for side in sides[:2]])
    n = len(sides[0])
    fit = {"xgboost": _by_xgboost, "lightgbm": _by_lightgbm}[name]
    rounds = budget.rounds or 0

    def run() -> Any:
        return fit(own, both, labels, n, rounds, lambda best: scaled_rounds(best, n, len(both)))

    return run


def make_settings(name: str, params: dict[str, Any], budget: Budget) -> dict[str, Any]:
    """What the learner tells its library."""
    from learners.registry import make_learner

    learner: Any = make_learner(name, params)
    found: dict[str, Any] = learner._parameters(0, budget)
    return found


def _array(batch: FeatureBatch) -> NDArray[Any]:
    order = batch.shard_order()
    return batch.take(order).array(np.float16)


def _by_xgboost(
    own: dict[str, Any], x: NDArray[Any], y: NDArray[Any], n: int, rounds: int,
    scaled: Callable[[int], int],
) -> Any:  # fmt: skip
    import xgboost

    options = {"max_bin": own["max_bin"], "nthread": own["nthread"]}
    seen = xgboost.QuantileDMatrix(x[:n], y[:n], **options)
    held_out = xgboost.QuantileDMatrix(x[n:], y[n:], ref=seen, **options)
    history: dict[str, Any] = {}
    xgboost.train(
        own, seen, rounds, evals=[(seen, "train"), (held_out, "valid")], evals_result=history,
        early_stopping_rounds=50, verbose_eval=False,
    )  # fmt: skip
    del seen, held_out
    whole = xgboost.QuantileDMatrix(x, y, **options)
    best = 1 + int(np.argmin(history["valid"]["rmse"]))
    booster = xgboost.train(own, whole, scaled(best))
    return lambda batch: booster.inplace_predict(batch.array(np.float32))[:, None]


def _by_lightgbm(
    own: dict[str, Any], x: NDArray[Any], y: NDArray[Any], n: int, rounds: int,
    scaled: Callable[[int], int],
) -> Any:  # fmt: skip
    import lightgbm

    seen = lightgbm.Dataset(x[:n], y[:n], params=own)
    held_out = lightgbm.Dataset(x[n:], y[n:], reference=seen, params=own)
    search = lightgbm.train(
        own, seen, rounds, [held_out], callbacks=[lightgbm.early_stopping(50, verbose=False)]
    )
    best = search.best_iteration
    del seen, held_out, search
    booster = lightgbm.train(own, lightgbm.Dataset(x, y, params=own), scaled(best))
    return lambda batch: np.asarray(booster.predict(batch.array(np.float64)))[:, None]


def main() -> None:
    """Fit once and tell."""
    import featurestore

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.perf.trees_fit", description=__doc__
    )
    parser.add_argument("store", type=Path)
    parser.add_argument("learner", choices=("xgboost", "lightgbm", "ridge"))
    parser.add_argument("--genes", type=int, default=1 << 40)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--columns", type=float, help="Share of columns that a tree sees.")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--param", action="append", default=[], help="KEY=JSON")
    parser.add_argument("--library", action="store_true", help="On arrays in memory, no learner.")
    options = parser.parse_args()
    sides = batches(featurestore.open(options.store), options.genes)
    params = {key: json.loads(value) for key, _, value in (p.partition("=") for p in options.param)}
    if options.columns is not None and options.learner in _SHARE:
        params[_SHARE[options.learner]] = options.columns
    budget = Budget(rounds=options.rounds, threads=options.threads)
    make = fit_library if options.library else fit_ours
    fit = make(options.learner, params, budget, sides)
    with Peak() as peak:
        started, used = time.perf_counter(), time.process_time()
        predict = fit()
        seconds, used = time.perf_counter() - started, time.process_time() - used
    truth = sides[2].require_targets()
    error = ((predict(sides[2].without_targets()) - truth) ** 2).mean() / truth.var()
    print(json.dumps({
        "learner": options.learner, "library": options.library, "genes": len(sides[0]) + len(sides[1]),
        "columns": sides[0].columns, "seconds": round(seconds, 1), "processor_seconds": round(used, 1),
        "anonymous": peak.beyond("anonymous"), "mapped": peak.beyond("mapped"),
        "whole": peak.most["whole"], "r2": round(1 - float(error), 3),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
