"""One small long-range world on disk, and a larger one in memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.sample.long_range import write_long_range
from featurestore.sample.long_range.genes import draw_members
from featurestore.sample.long_range.genome import World, build_world
from featurestore.sample.long_range.grammar import Grammar
from featurestore.sample.long_range.settings import SPECIES, LongRangeSettings


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pyBigWig")
    folder = tmp_path_factory.mktemp("long_range")
    write_long_range(folder, seed=3, genes=60)
    return folder


@pytest.fixture(scope="session")
def settings() -> LongRangeSettings:
    return LongRangeSettings(seed=5, genes=800)


@pytest.fixture(scope="session")
def large(settings: LongRangeSettings) -> World:
    """The first species of a world of 800 genes."""
    return build_world(settings, SPECIES[0], draw_members(settings)[0], Grammar())
