"""Every reader gives every array as ours does: one format, whoever reads it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr

from featurestore.export.serve import StoreServer

JAVASCRIPT = """
import { Float16Array } from "@petamoriken/float16";
if (globalThis.Float16Array === undefined) globalThis.Float16Array = Float16Array;
const zarr = await import("zarrita");
const { createHash } = await import("node:crypto");
const store = new zarr.FetchStore(process.argv[2]);
const paths = JSON.parse(process.argv[3]);
const found = {};
for (const path of paths) {
  const array = await zarr.open.v3(zarr.root(store).resolve(path), { kind: "array" });
  const { data, shape } = await zarr.get(array);
  let bytes;
  if (array.dtype === "string" || array.dtype === "v2:object") {
    bytes = Buffer.from(JSON.stringify(Array.from(data)));
  } else if (array.dtype === "int64") {
    bytes = Buffer.from(new BigInt64Array(data).buffer);
  } else {
    bytes = Buffer.from(Float64Array.from(data, (x) => (Number.isNaN(Number(x)) ? 12345.678 : Number(x))).buffer);
  }
  found[path] = [array.dtype, shape, createHash("sha256").update(bytes).digest("hex")];
}
console.log(JSON.stringify(found));
"""


def plain_bytes(values: np.ndarray) -> bytes:
    """What the script hashes."""
    if values.dtype.kind == "T":
        return json.dumps(values.tolist(), ensure_ascii=False, separators=(",", ":")).encode()
    if values.dtype == np.int64:
        return values.tobytes()
    return np.nan_to_num(values.astype(np.float64), nan=12345.678).tobytes()


def test_zarrita_under_node_reads_every_array_over_http(store, arrays, zarrita):
    (zarrita / "read.mjs").write_text(JAVASCRIPT)
    with StoreServer(store) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        run = subprocess.run(
            ["node", "read.mjs", server.url, json.dumps(list(arrays))],
            cwd=zarrita, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        server.shutdown()
        thread.join()
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    for path, values in arrays.items():
        dtype, shape, digest = found[path]
        assert tuple(shape) == values.shape, path
        assert digest == hashlib.sha256(plain_bytes(values)).hexdigest(), f"{path} ({dtype})"


def test_zarr_python_reads_every_array(store, arrays):
    for consolidated in (True, False):
        group = zarr.open_group(store, mode="r", use_consolidated=consolidated)
        for path, values in arrays.items():
            np.testing.assert_array_equal(group[path][...], values, err_msg=path)


def test_xarray_reads_every_array(store, arrays):
    with xr.open_datatree(store, engine="zarr", chunks=None) as tree:
        for path, values in arrays.items():
            group, _, name = path.rpartition("/")
            read = tree[group].variables[name]
            assert read.shape == values.shape, path
            if values.dtype.kind == "T":
                assert read.values.tolist() == values.tolist(), path
            else:
                assert read.dtype == values.dtype, path
                np.testing.assert_array_equal(read.values, values, err_msg=path)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        one = xr.open_zarr(store, group="arabidopsis_thaliana/kmer", chunks=None)
    np.testing.assert_array_equal(
        one.embedding.values, arrays["arabidopsis_thaliana/kmer/embedding"]
    )


def test_tensorstore_reads_every_numeric_array(store, arrays):
    ts = pytest.importorskip("tensorstore")
    read = 0
    for path, values in arrays.items():
        if values.dtype.kind == "T" or 0 in values.shape:
            continue
        spec = {"driver": "zarr3", "kvstore": {"driver": "file", "path": str(store / path)}}
        got = ts.open(spec, read=True).result().read().result()
        np.testing.assert_array_equal(np.asarray(got), values, err_msg=path)
        read += 1
    assert read > 25
