"""Pickles are found in files of every wrapping, and nothing else is taken for one."""

# ruff: noqa: S301 - what the guard is against is called here on purpose

from __future__ import annotations

import bz2
import gzip
import io
import json
import pickle
import zipfile
import zlib
from collections import OrderedDict
from pathlib import Path
from pickle import loads as loads_by_name

import joblib
import numpy as np
import pytest
from safetensors.numpy import save

from learners.unpickled import UnpickledError, nothing_unpickled, pickles_in, why_pickle

THING = OrderedDict(a=np.arange(3.0))


@pytest.mark.parametrize("protocol", range(6))
def test_every_protocol_is_found(protocol: int) -> None:
    assert why_pickle(pickle.dumps(THING, protocol))


def test_wrapped_pickles_are_found(tmp_path: Path) -> None:
    raw = pickle.dumps(THING)
    for pack in (gzip.compress, bz2.compress, zlib.compress):
        assert why_pickle(pack(raw))
    for level in (0, 3):
        joblib.dump(THING, tmp_path / "x", compress=level)
        assert pickles_in(tmp_path) != []
    np.save(tmp_path / "x.npy", np.array([None, {}]), allow_pickle=True)
    np.savez(tmp_path / "x.npz", a=np.array([None, {}]))
    assert len(pickles_in(tmp_path)) == 3
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as z:
        z.writestr("model/data.pkl", raw)
    assert "data.pkl" in why_pickle(archive.getvalue())


def test_torch_archives_are_found(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.zeros(2)}, tmp_path / "w.pt")
    assert pickles_in(tmp_path) == ["w.pt (a torch archive with w/data.pkl)"]


def test_honest_files_are_let_pass(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"a": [1, 2, "three."]}))
    (tmp_path / "b.txt").write_text("A model. It was trained on simulated data.")
    (tmp_path / "empty").write_bytes(b"")
    np.save(tmp_path / "c.npy", np.arange(4))
    np.savez(tmp_path / "d.npz", a=np.arange(4))
    # Header lengths that begin with the two bytes of a pickle: 0x80 then 2, 3, 4, 5.
    for second in range(2, 6):
        for pad in range(4000):
            data = save({"x" * pad: np.arange(3)})
            if data[:2] == bytes([0x80, second]):
                (tmp_path / f"{second}.safetensors").write_bytes(data)
                break
        else:
            pytest.fail("no header of that length")
    assert pickles_in(tmp_path) == []


def test_guard_stops_loaders_and_is_gone_afterwards(tmp_path: Path) -> None:
    raw = pickle.dumps(THING)
    joblib.dump(THING, tmp_path / "x")
    with nothing_unpickled():
        with pytest.raises(UnpickledError, match=r"pickle\.loads"):
            pickle.loads(raw)
        with pytest.raises(UnpickledError):
            loads_by_name(raw)  # imported before the guard: the audit hook sees it
        with pytest.raises(UnpickledError, match=r"joblib\.load"):
            joblib.load(tmp_path / "x")
        with pytest.raises(UnpickledError):
            pickle.Unpickler(io.BytesIO(raw)).load()
    assert loads_by_name(raw)["a"].tolist() == [0, 1, 2]
    assert joblib.load(tmp_path / "x")["a"].tolist() == [0, 1, 2]


def test_guard_lets_weights_only_pass(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    torch.save(torch.ones(2), tmp_path / "w.pt")
    with nothing_unpickled():
        assert torch.load(tmp_path / "w.pt", weights_only=True).tolist() == [1, 1]
        with pytest.raises(UnpickledError, match="weights_only"):
            torch.load(tmp_path / "w.pt", weights_only=False)
