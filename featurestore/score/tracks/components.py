"""Principal components of scores over tracks, as the precomputed scores of Enformer have twenty."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from featurestore.score.outputs import whole_file
from featurestore.score.tracks.outputs import ROW_COLUMNS, Result, parquet_schema


def components_of(
    values: NDArray[np.float32], count: int
) -> tuple[NDArray[np.float32], dict[str, Any]]:
    """Scores by principal component, after tracks are centred on their median and scaled by quartiles.

    Parameters
    ----------
    values : float32 array, shape (rows, tracks)
    count : int
        Below the number of rows, at most that of tracks.

    Returns
    -------
    float32 array, shape (rows, count), and the fit by name: ``centre``, ``scale`` (tracks,), ``mean``
    (tracks,), ``components`` (count, tracks), ``explained`` (count,)
    """
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import RobustScaler

    scaler = RobustScaler()
    scaled = scaler.fit_transform(values)
    pca = PCA(count, random_state=0)
    found = pca.fit_transform(scaled).astype(np.float32)
    return found, {
        "centre": scaler.center_, "scale": scaler.scale_, "mean": pca.mean_,
        "components": pca.components_, "explained": pca.explained_variance_ratio_,
    }  # fmt: skip


def write_components(result: Result, target: Path, count: int) -> Path:
    """Components of every score beside an output.

    ``OUT.pca.parquet`` has them in the long form, as tracks ``pc1`` … of head ``pca``; ``OUT.pca.npz``
    how each score is brought to them (``sad_sum_centre`` …). Fitted on the rows that have scores.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    kept = np.array([i for i, row in enumerate(result.rows) if not row.reason])
    found: dict[str, NDArray[np.float32]] = {}
    fits: dict[str, Any] = {}
    for index, name in enumerate(result.arrays):
        values = np.concatenate([result.of(a, b)[:, index] for a, b in result.pieces()])[kept]
        whole = np.isfinite(values).all(axis=1)  # a row without a gene has none at its TSS
        found[name] = np.full((len(kept), count), np.nan, np.float32)
        if whole.sum() > count:
            found[name][whole], fit = components_of(values[whole], count)
            fits |= {f"{name}_{key}": value for key, value in fit.items()}
    fits["track"] = np.array([t.label for t in result.tracks])
    with whole_file(target.with_name(f"{target.name}.pca.npz")) as stream:
        np.savez(stream, allow_pickle=False, **fits)
    path = target.with_name(f"{target.name}.pca.parquet")
    schema = parquet_schema(result.arrays, result.facts)
    at = pa.array(np.repeat(kept, count))
    columns = {n: pa.array(result.column(n), schema.field(n).type).take(at) for n in ROW_COLUMNS}
    columns["head"] = pa.array(["pca"] * len(at))
    columns["track"] = pa.array([f"pc{i + 1}" for _ in kept for i in range(count)])
    columns |= {name: pa.array(values.ravel()) for name, values in found.items()}
    with whole_file(path) as stream:
        pq.write_table(pa.table(columns, schema=schema), stream, compression="zstd")
    return path
