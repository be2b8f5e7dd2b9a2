"""What run.json must look like before anything is made of it: it may be somebody else's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from featurestore.errors import InputError

VARIANT_METRICS: Final = {
    "beta_between": "slope of lm(control mean ~ predicted) over genes; widest of its intervals",
    "beta_between_se_family": "its standard error clustered by gene family, with that interval",
    "beta_between_se_classical": "its classical standard error, with that interval",
    "beta_within": "slope of lm(Δobserved ~ Δpredicted + PC1 … PCk) over private pairs; widest interval",
    "beta_within_se_classical": "its classical standard error, with that interval",
    "beta_within_se_line": "clustered by line",
    "beta_within_se_gene": "clustered by gene",
    "beta_within_se_two_way": "clustered by line and gene",
    "beta_within_se_fold": "clustered by test fold: by the model that predicted",
    "beta_within_fixed_gene": "the slope with a level for each gene",
    "beta_within_fixed_line": "… for each line",
    "beta_within_fixed_gene_line": "… for both",
    "beta_within_null_p": "permutation p; its interval is the central 95 % of slopes under the null",
    "components": "k, expression components in the model, by BIC",
    "partial_r2_within": "partial R² of Δpredicted; interval by resampling lines",
    "partial_r_within": "its signed root",
    "partial_r2_ceiling_controls": "partial R² that control replicates leave to a perfect prediction",
    "partial_r2_ceiling_background": "the same by lines that read the reference at the gene",
    "pearson_within": "correlation of Δobserved and Δpredicted over private pairs",
    "spearman_within": "the same of ranks",
    "sign_accuracy": "share of pairs with |Δpredicted| > 0 whose Δobserved has its sign",
    "sign_accuracy_weighted": "the same, pairs weighted by |Δpredicted|",
}  # fmt: skip
"""Metrics of task ``variants`` beside those of genes, in scopes ``pooled``, ``species:…`` and
``within-species`` (mean over species); all of unit 1. See docs/variant_effects.md."""

_TEXT: Final = (str,)
_NUMBER: Final = (int, float)
_COUNT: Final = (int,)
_LARGEST: Final = 1 << 62
_LONGEST_TEXT: Final = 100_000

# A type, or a tuple of types; a list holds what each of its items is; a dict is keys that may be
# there; {"*": …} is any key. What is None counts as not there. Keys not named here may hold anything.
_LOST: Final = {"reason": _TEXT, "count": _COUNT, "examples": [_TEXT]}
_SCORE: Final = {
    "reason": _TEXT, "metric": _TEXT, "all": _NUMBER, "without": _NUMBER, "scope": _TEXT,
}  # fmt: skip
_IDENTITY: Final = {
    "task": _TEXT, "target": _TEXT, "unit": _TEXT, "simulated": (bool,), "features": _TEXT,
    "seed": _COUNT, "species": [_TEXT], "versions": {"*": _TEXT}, "labels_digest": _TEXT,
    "learner": {
        "name": _TEXT, "params": {}, "control": (bool,), "reference": _TEXT, "inputs": [_TEXT],
        "members": [_TEXT], "checkpoints": [_TEXT],
    },
    "split": {"name": _TEXT, "digest": _TEXT, "leakage_allowed": (bool,)},
    "store": {"digest": _TEXT, "schema_version": (str, int, float)},
    "tuning": {"trials": _COUNT, "space": {"*": {}}},
    "tracks": {
        "digest": _TEXT, "names": [_TEXT], "bin": _COUNT, "window": _COUNT, "target_bins": _COUNT,
        "tilings": _COUNT, "learn_from": _TEXT,
    },
    "only_folds": [_COUNT],
    "variants": {
        "sets": {"*": _TEXT}, "digest": _TEXT, "heterozygous": {"*": _TEXT}, "copies": _TEXT,
        "pairs": _TEXT, "baseline": {"*": _TEXT}, "lines": _TEXT,
    },
}  # fmt: skip
_REGION: Final = {"name": _TEXT, "anchor": _TEXT, "upstream": _COUNT, "downstream": _COUNT}
_INPUTS: Final = {
    "regions": [_REGION], "bin": _COUNT,
    "embedders": {"*": {"type": _TEXT, "parameters": {}, "digest": _TEXT, "checkpoint": _TEXT}},
}  # fmt: skip
_TUNING: Final = {
    "trials": _COUNT, "complete": _COUNT, "pruned": _COUNT, "failed": _COUNT, "winner": _COUNT,
    "params": {}, "valid_rmse": _NUMBER, "untuned_valid_rmse": _NUMBER, "seconds": _NUMBER,
    "errors": [_TEXT],
}  # fmt: skip
_RUN: Final[dict[str, Any]] = {
    "run": _TEXT, "status": _TEXT, "identity": _IDENTITY, "identity_digest": _TEXT,
    "dataset_digest": _TEXT, "device": _TEXT, "threads": _COUNT, "peak_memory_bytes": _NUMBER,
    "times": {"fit_s": _NUMBER, "predict_s": _NUMBER, "wall_s": _NUMBER},
    "contamination": {"*": [_TEXT]}, "notes": [_TEXT], "inputs": _INPUTS,
    "funnel": [{"species": _TEXT, "stage": _TEXT, "count": _COUNT, "lost": [_LOST]}],
    "folds": [
        {
            "repeat": _COUNT, "fold": _COUNT, "n_train": _COUNT, "n_valid": _COUNT,
            "n_test": _COUNT, "fit_s": _NUMBER, "predict_s": _NUMBER, "status": _TEXT,
            "best_step": _COUNT, "tuning": _TUNING, "learned": {},
        }
    ],
    "audit": {
        "notes": [_TEXT], "scores": [_SCORE],
        "reasons": {"*": {"genes": _COUNT, "fraction": _NUMBER}},
    },
}  # fmt: skip
_NEVER_NULL: Final = frozenset({"identity", "learner", "split"})
_NEEDED: Final = (("status",), ("identity",), ("identity", "learner", "name"))


def check_run(run: Any, file: Path) -> dict[str, Any]:
    """A parsed run.json, if every value that is used has the type it is used as.

    Raises
    ------
    InputError
        Naming the first place that has not, and what stands there.
    """
    _check(run, _RUN, "run.json", file)
    for path in _NEEDED:
        value = run
        for key in path:
            value = value.get(key)
            if value is None:
                raise InputError(f"{file}: lacks {'.'.join(path)}; run it again")
    if "features" not in run["identity"]:
        raise InputError(f"{file}: lacks identity.features; run it again")
    if run["status"] not in ("ok", "failed"):
        raise InputError(f"{file}: status is {run['status'][:50]!r}, neither ok nor failed")
    checked: dict[str, Any] = run
    return checked


def _check(value: Any, wanted: Any, place: str, file: Path) -> None:
    if isinstance(wanted, tuple):
        _check_plain(value, wanted, place, file)
    elif isinstance(wanted, list):
        if not isinstance(value, list):
            _refuse(value, "a list", place, file)
        for i, item in enumerate(value):
            _check(item, wanted[0], f"{place}[{i}]", file)
    else:
        if not isinstance(value, Mapping):
            _refuse(value, "an object", place, file)
        for key, item in value.items():
            inner = wanted.get(key, wanted.get("*"))
            if inner is not None and (item is not None or key in _NEVER_NULL):
                _check(item, inner, f"{place}.{key[:50]}", file)


def _check_plain(value: Any, wanted: tuple[type, ...], place: str, file: Path) -> None:
    # A truth value is an int to Python and none to us.
    if not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted):
        _refuse(value, " or ".join(kind.__name__ for kind in wanted), place, file)
    if isinstance(value, int | float) and not abs(value) <= _LARGEST:  # NaN and infinity too
        _refuse(value, "a number of usual size", place, file)
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        _refuse(value, f"text of at most {_LONGEST_TEXT:,} characters", place, file)


def _refuse(value: Any, wanted: str, place: str, file: Path) -> None:
    shown = repr(value)[:60]
    raise InputError(f"{file}: {place} is {shown} where {wanted} belongs; run it again")
