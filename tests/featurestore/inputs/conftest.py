from __future__ import annotations

from pathlib import Path

import pytest

from featurestore.inputs.problems import Problems
from tests.builders.inputs_files import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


@pytest.fixture
def problems() -> Problems:
    return Problems()
