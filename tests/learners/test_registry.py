"""The registry: what is listed, what is broken, and what a user's own learner needs."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from featurestore.errors import InputError, MissingDependencyError, UnknownNameError
from learners import registry
from learners.base import LearnerInfo
from learners.registry import Unavailable, get_learner, list_learners, make_learner

ROOT = Path(__file__).resolve().parents[2]
BUILT_IN = {
    "species_mean", "family_mean", "shuffled_labels", "ridge", "knn",
    "hist_gradient_boosting", "xgboost", "lightgbm", "onehot_cnn", "deepcre", "phytoexpr_cnn",
    "phytoexpr_transformer", "stack", "concat", "s2e", "gated",
    "EMPRES_0", "EMPRES_1", "EMPRES_2", "EMPRES_3", "EMPRES_4",
    "nearest_gene", "nearest_genes", "range_mean", "inverse_distance", "tissue_mean", "gene_tissue_mean", "low_rank", "gaussian_conditional", "ridge_neighbours", "expression_neighbours", "xgboost_neighbours", "lightgbm_neighbours", "hybrid", "hybrid_no_cnn", "hybrid_no_transformer", "hybrid_no_xgboost", "hybrid_no_tissues", "hybrid_no_distance", "hybrid_no_orientation", "hybrid_no_neighbours",
}  # fmt: skip


def _python(code: str, folder: Path | None = None, cwd: Path = ROOT) -> dict[str, object]:
    """What a fresh interpreter prints as JSON, with ``folder`` on its path."""
    paths = [str(ROOT)] + ([str(folder)] if folder else [])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


def _wheel(folder: Path, name: str, files: dict[str, str], points: str) -> Path:
    """A wheel, written by hand as PEP 427 says."""
    file = folder / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    entries = files | {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[meristem.learners]\n{points}\n",
    }
    record = "".join(f"{path},,\n" for path in [*entries, f"{info}/RECORD"])
    with zipfile.ZipFile(file, "w") as archive:
        for path, text in (entries | {f"{info}/RECORD": record}).items():
            archive.writestr(path, text)
    return file


def _install(wheel: Path, target: Path) -> None:
    """By pip where it is there; unpacking is all that installing a wheel of plain Python is."""
    if importlib.util.find_spec("pip"):
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
        subprocess.run(
            [*command, "--disable-pip-version-check", "--target", str(target), str(wheel)],
            check=True,
        )
    else:
        zipfile.ZipFile(wheel).extractall(target)


def test_all_built_in_learners_are_listed() -> None:
    found = list_learners()
    assert set(found) >= BUILT_IN
    for name in BUILT_IN:
        entry = found[name]
        info = entry.info if isinstance(entry, Unavailable) else entry
        assert isinstance(info, LearnerInfo)
        assert info.name == name
        assert info.summary
    assert {n for n in BUILT_IN if getattr(found[n], "control", False)} == {
        "species_mean", "family_mean", "shuffled_labels", "tissue_mean",
    }  # fmt: skip


def test_listing_imports_nothing_heavy() -> None:
    heavy = ["sklearn", "torch", "xgboost", "lightgbm", "scipy", "pandas", "safetensors"]
    code = (
        "import json, sys; from learners.registry import list_learners; list_learners();"
        f"print(json.dumps({{m: m in sys.modules for m in {heavy}}}))"
    )
    assert not any(_python(code).values())


def test_a_learner_of_an_installed_package_is_listed_and_passes(tmp_path: Path) -> None:
    """The example of docs/learners.md, word for word, in a package of its own."""
    text = (ROOT / "docs" / "learners.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 1
    files = {"my_package/__init__.py": "", "my_package/pcr.py": blocks[0]}
    wheel = _wheel(
        tmp_path, "my_package", files, "pcr = my_package.pcr:PrincipalComponentRegression"
    )
    _install(wheel, tmp_path / "site")
    code = (
        "import json; from learners.registry import *; from learners.checks import check_learner;"
        "i = list_learners()['pcr']; r = check_learner('pcr');"
        "print(json.dumps({'summary': i.summary, 'names': len(list_learners()),"
        " 'failed': [x.message for x in r if not x.passed], 'checks': len(r),"
        " 'made': make_learner('pcr', {'components': '7'}).components}))"
    )
    found = _python(code, tmp_path / "site")
    assert found["summary"] == "Least squares on principal components"
    assert found["failed"] == []
    assert found["checks"] == 12
    assert found["made"] == 7
    assert found["names"] == len(list_learners()) + 1


def test_broken_packages_are_listed_and_harm_nobody(tmp_path: Path) -> None:
    files = {
        "broken_package.py": "raise RuntimeError('no licence found')",
        "other_package.py": "thing = 3",
        "thief.py": "class Ridge: pass",
    }
    points = (
        "raises = broken_package:X\nmissing = not_there:X\nno_class = other_package:Nothing\n"
        "no_learner = other_package:thing\nridge = thief:Ridge"
    )
    _install(_wheel(tmp_path, "broken_package", files, points), tmp_path / "site")
    code = (
        "import json; from learners.registry import *;"
        "print(json.dumps({n: getattr(i, 'reason', '') for n, i in list_learners().items()}))"
    )
    found = {name: str(reason) for name, reason in _python(code, tmp_path / "site").items()}
    assert "RuntimeError: no licence found" in found["raises"]
    assert "not_there" in found["missing"]
    assert "Nothing" in found["no_class"]
    assert "is no learner" in found["no_learner"]
    assert found["ridge"] == ""
    assert "taken by learners.linear:Ridge" in found["ridge (broken_package)"]
    assert set(found) >= BUILT_IN


def test_a_learner_in_the_folder_one_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "learner_of_mine_for_a_test"
    (tmp_path / f"{module}.py").write_text(
        "from learners.linear import Ridge\nclass Mine(Ridge): pass\nNumber = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    assert get_learner(f"{module}:Mine").info.name == "ridge"
    assert sys.path == before
    with pytest.raises(UnknownNameError, match="Did you mean 'Mine'"):
        get_learner(f"{module}:Mime")
    with pytest.raises(InputError, match="is no learner"):
        get_learner(f"{module}:Number")
    with pytest.raises(InputError, match=r"cannot import 'not\.there'"):
        get_learner("not.there:Mine")


def test_unknown_names_get_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'xgboost'"):
        get_learner("xgbost")
    with pytest.raises(UnknownNameError, match="Did you mean 'penalty'"):
        make_learner("ridge", {"penlty": 1.0})


def test_a_missing_dependency_is_told_with_its_install_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = importlib.util.find_spec
    absent = {"torch", "lightgbm", "sklearn"}
    monkeypatch.setattr(
        registry.importlib.util, "find_spec", lambda m: None if m in absent else real(m)
    )
    found = list_learners()
    entry = found["lightgbm"]
    assert isinstance(entry, Unavailable)
    assert "pip install 'meristem[boosting]'" in entry.reason
    assert entry.info is not None
    assert isinstance(found["ridge"], LearnerInfo)
    with pytest.raises(MissingDependencyError, match=r"pip install 'meristem\[torch\]'"):
        get_learner("onehot_cnn")
    with pytest.raises(MissingDependencyError, match="pip install scikit-learn"):
        get_learner("knn")


@pytest.mark.parametrize(
    ("learner", "name", "value", "expected"),
    [
        ("ridge", "grid", "9", 9),
        ("ridge", "grid", 9.0, 9),
        ("ridge", "penalty", "none", None),
        ("ridge", "penalty", None, None),
        ("ridge", "penalty", "1e3", 1000.0),
        ("knn", "neighbours", "5", 5),
        ("onehot_cnn", "shared_branches", "true", True),
        ("onehot_cnn", "shared_branches", "no", False),
        ("onehot_cnn", "preset", "full", "full"),
        ("deepcre", "dropout", "0", 0.0),
        ("deepcre", "dropout", 1, 1.0),
    ],
)
def test_parameters_take_the_type_of_the_default(
    learner: str, name: str, value: object, expected: object
) -> None:
    default = list_learners()[learner]
    assert isinstance(default, LearnerInfo)
    found = registry._convert(name, value, default.defaults[name])  # type: ignore[arg-type]
    assert found == expected
    assert type(found) is type(expected)
    make_learner(learner, {name: value})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("learner", "name", "value", "match"),
    [
        ("ridge", "grid", "many", "'many' is not a whole number; it is 33 by default"),
        ("ridge", "grid", 2.5, "not a whole number"),
        ("ridge", "grid", True, "not a whole number"),
        ("ridge", "grid", None, "None is not taken"),
        ("onehot_cnn", "shared_branches", "maybe", "not true or false"),
        ("deepcre", "dropout", "low", "not a number"),
        ("onehot_cnn", "preset", "ful", "Did you mean 'full'"),
    ],
)
def test_wrong_parameters_are_refused(learner: str, name: str, value: object, match: str) -> None:
    with pytest.raises(InputError, match=match):
        make_learner(learner, {name: value})  # type: ignore[dict-item]


@pytest.mark.parametrize("name", sorted(BUILT_IN - {"stack"}))
def test_what_a_learner_is_set_to_can_be_recorded(name: str) -> None:
    # run.json holds parameters and what those that are None stand for: plain values by name.
    settings = dict(getattr(make_learner(name), "settings", {}))
    json.dumps({key: settings[key] for key in get_learner(name).info.defaults if key in settings})
