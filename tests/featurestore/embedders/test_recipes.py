"""Recipes as data, and batches that shrink until they fit."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from featurestore.embedders.batching import in_pieces
from featurestore.embedders.recipe import RECIPES, make_recipe
from featurestore.errors import InputError, MeristemError


def test_the_published_recipes_are_what_their_papers_say():
    empres = RECIPES["empres"]
    assert (empres.window, empres.bounds, empres.strands) == (512, (131, 381), "average")
    assert RECIPES["centre_token"].bounds == (255, 256)
    assert RECIPES["region_mean"].context == "region"
    assert RECIPES["per_token"].bounds == (131, 381)


def test_a_table_changes_single_fields():
    recipe = make_recipe({"base": "centre_token", "token": 200, "layer": 3}, "x")
    assert recipe.bounds == (200, 201)
    assert recipe.layer == 3
    assert make_recipe({"window": 600, "span": 100}, "x").bounds == (250, 350)
    assert make_recipe(recipe.as_dict(), "x") == recipe


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("empress", "empres"),
        ({"windw": 512}, "window"),
        ({"window": 0}, "window = 0"),
        ({"window": True}, "window = True"),
        ({"span": 600}, "wider than the window"),
        ({"pool": "max"}, "mean, token, tokens"),
        ({"pool": "token"}, "position from 0 to 511"),
        ({"pool": "token", "token": 512}, "512"),
        ({"strands": "reverse"}, "average, forward, both"),
        ({"context": "region", "pool": "tokens"}, "pool = 'mean'"),
        (17, "17"),
    ],
)
def test_what_fits_no_recipe_is_told_with_place_and_mend(given, said):
    with pytest.raises(MeristemError, match="here") as caught:
        make_recipe(given, "[embedders.here] recipe")
    assert said in str(caught.value)


def _limited(limit: int, calls: list[int], error: Exception):
    def run(codes):
        calls.append(len(codes))
        if len(codes) > limit:
            raise error
        return {"x": codes.sum(1).astype(np.float32)}

    return run


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("CUDA out of memory. Tried"), RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")],
)  # fmt: skip
def test_running_out_of_memory_halves_the_batch_and_loses_nothing(error, caplog):
    pytest.importorskip("torch", reason="memory is given back through torch")
    codes = np.random.default_rng(0).integers(0, 5, (37, 6)).astype(np.uint8)
    calls: list[int] = []
    with caplog.at_level(logging.WARNING):
        got = in_pieces(_limited(5, calls, error), codes, 32)["x"]
    np.testing.assert_array_equal(got, codes.sum(1))
    assert calls[:4] == [32, 16, 8, 4]
    assert "4 windows at a time" in caplog.text


def test_a_window_that_does_not_fit_alone_and_other_errors_are_raised():
    codes = np.zeros((4, 3), np.uint8)
    with pytest.raises(MemoryError):
        in_pieces(_limited(0, [], MemoryError()), codes, 4)
    with pytest.raises(RuntimeError, match="shape"):
        in_pieces(_limited(0, [], RuntimeError("shape mismatch")), codes, 4)


def test_settings_of_the_embedder_are_checked_before_any_work(tmp_path):
    from featurestore.embedders.registry import make_embedder

    with pytest.raises(InputError, match="needs checkpoint"):
        make_embedder("plantcaduceus")
    with pytest.raises(InputError, match="no such folder"):
        make_embedder("plantcaduceus", {"checkpoint": str(tmp_path / "gone")})
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(InputError, match="huggingface"):
        make_embedder("plantcaduceus", {"checkpoint": str(tmp_path)})
    with pytest.raises(InputError, match="fp64"):
        make_embedder("plantcaduceus", {"checkpoint": str(tmp_path), "dtype": "fp64"})
