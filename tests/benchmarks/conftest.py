"""Makes the fakes importable, as a user's own learner module would be."""

from __future__ import annotations

from pathlib import Path

import pytest

FAKES = Path(__file__).parent / "fakes"


@pytest.fixture
def fakes(monkeypatch, tmp_path):
    """The module of fakes, its log of fits fresh."""
    monkeypatch.syspath_prepend(str(FAKES))
    monkeypatch.setenv("BENCH_FAKES_LOG", str(tmp_path / "fits.log"))
    import bench_fakes

    bench_fakes.Linear.seen.clear()
    bench_fakes.FailsInFold3.fits = 0
    return bench_fakes
