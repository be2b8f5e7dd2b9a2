"""Checkpoints by hub id, from a server of the test's own; by folder; by a shelf of folders."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from featurestore.embedders.checkpoint import find_checkpoint
from featurestore.errors import InputError
from tests.builders.hub_server import hub_server
from tests.builders.models import random_plantcaduceus

_LOAD = """
import json, sys
from featurestore.embedders.plantcaduceus import PlantCaduceusForMaskedLM, PlantCaduceusTokenizer
from featurestore.embedders.registry import make_embedder
for name in sys.argv[1:]:
    model = PlantCaduceusForMaskedLM.from_pretrained(name)
    PlantCaduceusTokenizer.from_pretrained(name)
    made = make_embedder("pc", {"type": "plantcaduceus", "checkpoint": name})
    total = float(sum(p.detach().double().sum() for p in model.parameters()))
    print(json.dumps([made.spec.checkpoint, made.spec.digest, total]))
"""
KINDS = ("safetensors", "bin", "both")


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    """Folders of checkpoints by kind, what one process loaded by their hub ids, and its cache."""
    tmp_path = tmp_path_factory.mktemp("hub")
    folders = {}
    for seed, kind in enumerate(KINDS):
        folder = folders[kind] = random_plantcaduceus(tmp_path / kind, seed=seed)
        (folder / "modeling_caduceus.py").write_text(
            "raise SystemExit('code of a checkpoint was run')"
        )
        if kind != "safetensors":
            torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
        if kind == "bin":
            (folder / "model.safetensors").unlink()
    with hub_server(**{f"someone__{kind}": folder for kind, folder in folders.items()}) as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        run = subprocess.run(
            [sys.executable, "-c", _LOAD, *(f"someone/{kind}" for kind in KINDS)],
            capture_output=True, text=True, check=False, env=environment,
        )  # fmt: skip
    assert run.returncode == 0, run.stderr
    told = dict(zip(KINDS, map(json.loads, run.stdout.splitlines()), strict=True))
    return folders, told, tmp_path / "home"


@pytest.mark.parametrize("kind", KINDS)
def test_a_hub_id_loads_weights_and_no_code_and_no_second_copy(loaded, kind):
    folders, told, home = loaded
    name, digest, total = told[kind]
    assert name == f"someone/{kind}"
    assert digest == find_checkpoint(str(folders[kind])).digest()
    from featurestore.embedders.plantcaduceus import PlantCaduceusForMaskedLM

    model = PlantCaduceusForMaskedLM.from_pretrained(folders[kind])
    assert total == float(sum(p.detach().double().sum() for p in model.parameters()))
    cache = home / "hub" / f"models--someone--{kind}"
    fetched = {p.name for p in cache.rglob("*") if p.is_file() or p.is_symlink()}
    assert ("model.safetensors" in fetched) == (kind != "bin")
    assert "modeling_caduceus.py" not in fetched
    assert ("pytorch_model.bin" in fetched) == (kind == "bin")


def test_a_hub_that_has_no_such_model_is_told_with_a_way_around(tmp_path):
    code = "from featurestore.embedders.checkpoint import find_checkpoint; find_checkpoint('someone/gone')"
    with hub_server() as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
        )  # fmt: skip
    assert run.returncode
    assert "someone/gone" in run.stderr
    assert "give the folder" in run.stderr


def test_names_are_looked_up_on_shelves(tmp_path, monkeypatch):
    folder = random_plantcaduceus(tmp_path / "shelf" / "tiny")
    with pytest.raises(InputError, match="MERISTEM_CHECKPOINTS"):
        find_checkpoint("tiny")
    monkeypatch.setenv("MERISTEM_CHECKPOINTS", os.pathsep.join([str(tmp_path), str(folder.parent)]))
    assert find_checkpoint("tiny").folder == folder
