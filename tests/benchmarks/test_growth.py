"""The growth benchmark: its exponents, and its simulated data, small."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.growth.__main__ import exponent
from benchmarks.growth.data import write_simulated
from benchmarks.growth.measure import opening, run

SIZES = [1_000, 10_000, 100_000, 1_000_000]


@pytest.mark.parametrize("power", [0.5, 1.0, 1.5])
def test_the_exponent_is_that_of_what_grows(power):
    values = [2.0 + 3.0 * (n / 1e5) ** power for n in SIZES]
    assert exponent(SIZES, values) == pytest.approx(power, abs=0.02)


def test_what_does_not_grow_has_none():
    assert np.isnan(exponent(SIZES, [1.0, 1.1, 0.9, 1.2]))


def test_a_simulated_data_set_builds_and_answers(tmp_path):
    dataset = write_simulated(tmp_path, genes=40, species=3)
    store = tmp_path / "store.zarr"
    run("-m", "featurestore", "build", dataset, "--store", store)
    assert "Simulated" in dataset.read_text()
    cost = opening(store)
    assert 0 < cost.seconds < cost.cpu_seconds + 60
    run("-m", "featurestore", "query", store, "--gene", "simulated_02_0000012")
