"""What the profiles of an export cost and save, on embeddings of real *Arabidopsis* sequence.

Bytes and accuracy of ``remote`` and ``int8`` against the store as it was built: relative error of the
values, and correlation of held-out predictions of a ridge (family folds apart: genes of a family stand
on one side) fitted on what each store gives. Reading speed is a ratio to the store as built, in turns.
"""

from __future__ import annotations

import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.export.profiles import Profile
from featurestore.store.reader import Store, open_store

SPECIES: Final = "arabidopsis_thaliana"
PROFILES: Final[tuple[Profile, ...]] = ("remote", "int8")
EMBEDDERS: Final = ("plantcaduceus-nano", "kmer")
DATASET: Final = """embedders = ["kmer", "plantcaduceus-nano"]
[regions]
promoter   = {{ anchor = "tss", upstream = 1000, downstream = 0 }}
terminator = {{ anchor = "tts", upstream = 0, downstream = 1000 }}
bin = 250
[species.{species}]
genome = "{data}/genome.fa.gz"
annotation = "{data}/genes.gff3.gz"
expression = "{data}/tpm_leaf.tsv.gz"
families = "{data}/families_plaza5_hom.tsv.gz"
"""


def measure(data: Path, repeats: int) -> dict[str, float]:
    """Bytes, errors, prediction correlations and reading speed of each profile and embedder."""
    from featurestore.build.engine import build
    from featurestore.export.publish import export_store

    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        path = folder / "dataset.toml"
        path.write_text(DATASET.format(data=(data / "ath_windows").resolve(), species=SPECIES))
        build(path, folder / "local.zarr")
        stores: dict[str, Store] = {"local": open_store(folder / "local.zarr")}
        for profile in PROFILES:
            export_store(stores["local"], folder / f"{profile}.zarr", profile=profile)
            stores[profile] = open_store(folder / f"{profile}.zarr")
        for embedder in EMBEDDERS:
            figures |= _figures(stores, embedder, repeats)
    return figures


def _figures(stores: dict[str, Store], embedder: str, repeats: int) -> dict[str, float]:
    exact = stores["local"].features(SPECIES, embedder).astype(np.float32)
    base, strength = predictions(stores["local"], exact)
    pooled, mild = predictions(stores["local"], exact.mean(axis=2))
    found: dict[str, float] = {}
    for kind, predicted in (("every bin", base), ("mean over bins", pooled)):
        name = f"{embedder}, local: held-out correlation with expression, {kind}"
        found[name] = _score(stores["local"], predicted)
    for profile in PROFILES:
        values = stores[profile].features(SPECIES, embedder).astype(np.float32)
        name = f"{embedder}, {profile}"
        found[f"{name}: bytes of the vectors / local"] = _bytes(stores[profile], embedder) / _bytes(
            stores["local"], embedder
        )
        spread = np.sqrt(((values - exact) ** 2).mean(axis=(0, 1, 2))) / exact.std(axis=(0, 1, 2))
        found[f"{name}: error / spread, median channel"] = float(np.median(spread))
        for kind, want, got in (
            ("every bin", base, predictions(stores[profile], values, strength)[0]),
            ("mean over bins", pooled, predictions(stores[profile], values.mean(axis=2), mild)[0]),
        ):
            found[f"{name}: held-out correlation with expression, {kind}"] = _score(
                stores["local"], got
            )
            # One minus, since 0.99999 and 0.99998 differ by a factor of two in what is lost.
            found[f"{name}: 1e6 × (1 − correlation of predictions), {kind}"] = 1e6 * (
                1 - float(np.corrcoef(want, got)[0, 1])
            )
        found[f"{name}: time to read all / local"] = _ratio(
            lambda p=profile: stores[p].features(SPECIES, embedder),  # type: ignore[misc] # bound early
            lambda: stores["local"].features(SPECIES, embedder),
            repeats,
        )
    return found


def _bytes(store: Store, embedder: str) -> int:
    prefix = f"{SPECIES}/{embedder}/embedding/c/"
    return sum(f.size for p, f in store.manifest.files.items() if p.startswith(prefix))


def _target(store: Store) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    table = store.expression(SPECIES)
    assert table is not None
    held = np.asarray(np.isfinite(table.value).all(axis=1), np.bool_)
    return np.log10(1 + np.nan_to_num(np.median(table.value, axis=1))).astype(np.float64), held


def _test(store: Store) -> NDArray[np.bool_]:
    family = store.genes(SPECIES).family
    # One of five folds, the same for all genes of a family.
    fold = [zlib.crc32(f.encode()) % 5 if f else i % 5 for i, f in enumerate(family.tolist())]
    return np.asarray(np.array(fold) == 0, np.bool_)


def predictions(
    store: Store, values: NDArray[Any], strength: float | None = None
) -> tuple[NDArray[np.float64], float]:
    """Held-out predictions of a ridge on standardised features, and its strength.

    The strength is chosen on the store as built and kept: chosen anew, it may jump to the next of the
    grid, which says nothing about the values.
    """
    from sklearn.linear_model import RidgeCV

    target, held = _target(store)
    usable = held & np.isfinite(values.reshape(len(values), -1)).all(axis=1)
    test = _test(store)
    flat = values.reshape(len(values), -1).astype(np.float64)
    train = usable & ~test
    mean, spread = flat[train].mean(axis=0), flat[train].std(axis=0)
    scaled = (flat - mean) / np.where(spread > 0, spread, 1)
    grid = np.logspace(1, 6, 11) if strength is None else [strength]
    model = RidgeCV(grid).fit(scaled[train], target[train])
    found: NDArray[np.float64] = model.predict(scaled[usable & test])
    return found, float(model.alpha_)


def _score(store: Store, predicted: NDArray[np.float64]) -> float:
    target, held = _target(store)
    return float(np.corrcoef(predicted, target[held & _test(store)])[0, 1])


def _ratio(one: Callable[[], Any], other: Callable[[], Any], repeats: int) -> float:
    times: dict[int, list[float]] = {0: [], 1: []}
    for _ in range(repeats):
        for i, work in enumerate((one, other)):
            began = time.perf_counter()
            work()
            times[i].append(time.perf_counter() - began)
    return float(np.median(times[0]) / np.median(times[1]))
