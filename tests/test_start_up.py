"""``--help`` answers at once: heavy imports are lazy."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = {
    "torch", "sklearn", "scipy", "pandas", "numpy", "zarr", "xarray", "dask", "distributed",
    "xgboost", "lightgbm", "matplotlib", "pyarrow", "pydantic", "jinja2",
}  # fmt: skip


@pytest.mark.parametrize("group", ["featurestore.cli:cli", "benchmarks.cli:bench"])
def test_help_imports_nothing_heavy(group):
    module, name = group.split(":")
    code = (
        f"import sys; from {module} import {name} as group\n"
        "try: group(['--help'])\nexcept SystemExit: pass\n"
        "print('IMPORTED', *{m.split('.')[0] for m in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    help_text, _, imported = run.stdout.partition("IMPORTED")
    assert "Usage: " in help_text
    assert not HEAVY & set(imported.split())


@pytest.mark.parametrize("module", ["featurestore", "benchmarks"])
def test_the_modules_are_the_commands(module):
    run = subprocess.run(
        [sys.executable, "-m", module, "--help"], capture_output=True, text=True, check=True
    )
    assert "Usage: " in run.stdout


def test_listing_learners_imports_no_learning_library():
    code = (
        "import sys; from learners.registry import list_learners; assert 'ridge' in list_learners()\n"
        "print(*{m.split('.')[0] for m in sys.modules})"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "sklearn", "xgboost", "lightgbm"} & set(run.stdout.split())


def test_opening_a_store_imports_no_xarray_and_no_dask():
    code = "import sys, featurestore.store.reader; print(*{m.split('.')[0] for m in sys.modules})"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"xarray", "dask", "distributed", "pandas", "torch"} & set(run.stdout.split())
