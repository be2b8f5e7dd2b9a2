"""The pieces of docs/readers.md and docs/export.md run as they stand there."""

from __future__ import annotations

import re
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

import featurestore
from featurestore.export.publish import export_store
from featurestore.export.serve import StoreServer

DOCS = Path(__file__).resolve().parents[2] / "docs"
SPECIES = "arabidopsis_thaliana"


def blocks(page: str, language: str) -> list[str]:
    text = (DOCS / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def run(block: str, folder: Path, monkeypatch) -> dict[str, object]:
    monkeypatch.chdir(folder)
    names: dict[str, object] = {}
    exec(compile(block, "docs", "exec"), names)  # noqa: S102 - a page of ours
    return names


@pytest.fixture
def want(built) -> np.ndarray:
    return featurestore.open(built).features(SPECIES, "kmer")


def test_python_pieces(built, want, monkeypatch):
    pages = blocks("readers.md", "python")
    assert len(pages) == 5
    tree = run(pages[0], built.parent, monkeypatch)
    np.testing.assert_array_equal(tree["promoter"], want[:3, 0])
    lazy = run(pages[1], built.parent, monkeypatch)
    np.testing.assert_allclose(
        lazy["mean"], want.astype(np.float32).mean(axis=0), rtol=1e-4, equal_nan=True
    )
    np.testing.assert_array_equal(run(pages[2], built.parent, monkeypatch)["first"], want[:16])


def test_tensorstore_piece(built, want, monkeypatch):
    pytest.importorskip("tensorstore")
    page = next(b for b in blocks("readers.md", "python") if "tensorstore" in b)
    np.testing.assert_array_equal(run(page, built.parent, monkeypatch)["some"], want[[3, 1, 7]])


def test_loader_piece(built, monkeypatch):
    page = next(b for b in blocks("readers.md", "python") if "StoreLoader" in b)
    assert run(page, built.parent, monkeypatch)["values"].shape[1:] == want_shape(built)


def want_shape(built) -> tuple[int, ...]:
    return featurestore.open(built).feature_source(SPECIES, "kmer").shape


def test_javascript_piece(built, want, zarrita):
    (page,) = blocks("readers.md", "javascript")
    with StoreServer(built) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        (zarrita / "page.mjs").write_text(
            page.replace("http://127.0.0.1:8080/store.zarr", server.url)
        )
        done = subprocess.run(
            ["node", "page.mjs"], cwd=zarrita, capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip
        server.shutdown()
        thread.join()
    assert done.returncode == 0, done.stderr
    gene, shape, values = done.stdout.strip().split(" ", 1)[0], want.shape[1:], want[0].ravel()[:3]
    assert gene == featurestore.open(built).genes(SPECIES).gene[0]
    assert f"[ {', '.join(map(str, shape))} ]" in done.stdout
    found = [float(x) for x in done.stdout.rsplit("[", 1)[1].strip(" ]\n").split(",")]
    np.testing.assert_allclose(found, values.astype(float), rtol=1e-6)


def test_decoding_piece(built, want, monkeypatch, tmp_path):
    export_store(featurestore.open(built), tmp_path / "small.zarr", profile="int8")
    page = next(b for b in blocks("export.md", "python") if "decoded" in b)
    values = run(page, tmp_path, monkeypatch)["values"]
    assert values.dtype == np.float32
    scale = featurestore.open(tmp_path / "small.zarr").array(SPECIES, "kmer/embedding_scale")
    assert (np.abs(values.values - want.astype(np.float32)) <= 0.501 * scale)[~np.isnan(want)].all()
    np.testing.assert_array_equal(np.isnan(values.values), np.isnan(want))
