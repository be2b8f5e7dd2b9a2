"""Writes a requirements file with every dependency of pyproject.toml at its lowest version.

Run as ``python tests/lowest.py FILE`` by ``tox -e lowest``. torch is left at the version of
constraints.txt: its older CPU builds are not on the package index.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def lowest() -> list[str]:
    """Requirements ``name==bound``, markers kept."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [
        *project["dependencies"],
        *extras["boosting"],
        *extras["families"],
        *extras["tracks"],
        *extras["test"],
    ]
    wanted += [line for line in extras["models"] if not line.startswith("torch")]
    pins = re.search(r"^torch==.*$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)
    return [re.sub(r">=([0-9.]+)", r"==\1", line) for line in wanted] + ([pins[0]] if pins else [])


if __name__ == "__main__":
    Path(sys.argv[1]).parent.mkdir(parents=True, exist_ok=True)
    Path(sys.argv[1]).write_text("\n".join(lowest()) + "\n")
