"""The published weights: what they are called, how to know them, what they were trained on.

Wrightsman et al. 2022, Plant Genome 15:e20249, doi 10.1002/tpg2.20249; weights
https://zenodo.org/records/5724562; MD5 sums from Kipoi's ``a2z-chromatin/models.tsv``; species from
``results/01_models/jobs_full`` of twrightsman/a2z-regulatory.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal, get_args

from featurestore.errors import InputError, InputFileNotFoundError, unknown_name

Model = Literal["accessibility", "methylation"]

ZENODO: Final = "https://zenodo.org/records/5724562"


@dataclass(frozen=True)
class Published:
    """One of the two published models.

    ``target`` says what its probability is the probability of; ``sha256`` was read from a third
    party, ``md5`` from the authors' own listing.
    """

    model: Model
    md5: str
    sha256: str
    target: str
    species: tuple[str, ...]

    @property
    def file(self) -> str:
        """Name of the Keras file on Zenodo."""
        return f"model-{self.model}-full.h5"

    @property
    def name(self) -> str:
        """What is recorded as the checkpoint."""
        return f"a2z {self.model}, Zenodo 5724562 {self.file}"


PUBLISHED: Final[Mapping[str, Published]] = {
    "accessibility": Published(
        "accessibility",
        "ad8a23d4d3a85e828ad6b1c53351fb8b",
        "93f650a1d94fc1430d2133559fa11d0fd1cc5fdecbeecc99f8b19e2e4d577ba0",
        "the window is accessible chromatin in leaf (ATAC-seq peak)",
        (
            "Arabidopsis thaliana", "Asparagus officinalis", "Brachypodium distachyon",
            "Eutrema salsugineum", "Glycine max", "Hordeum vulgare", "Oryza sativa",
            "Phaseolus vulgaris", "Populus trichocarpa", "Setaria viridis", "Sorghum bicolor",
            "Zea mays",
        ),
    ),
    "methylation": Published(
        "methylation",
        "c09ae8aeeadda60a1b9dba6fda3262ad",
        "1f193c08a2ae7a67e026af4a81c388a6b8a7a1570cd4149be4282b3426c3a353",
        "the window is an unmethylated region: 1 is unmethylated, 0 methylated",
        (
            "Arabidopsis thaliana", "Brachypodium distachyon", "Eutrema salsugineum", "Glycine max",
            "Hordeum vulgare", "Oryza sativa", "Populus trichocarpa", "Sorghum bicolor",
            "Vitis vinifera", "Zea mays",
        ),
    ),
}  # fmt: skip

DOWNLOAD: Final = (
    f"download {' or '.join(p.file for p in PUBLISHED.values())} from {ZENODO} (MD5 "
    f"{' and '.join(p.md5 for p in PUBLISHED.values())})"
)
"""What to do without weights."""


def find_weights(path: str | Path, model: str = "") -> Path:
    """The weights in a folder, or the file itself.

    Parameters
    ----------
    path : str or Path
        ``.h5`` or ``.safetensors`` file, or a folder that holds one; here, or in a folder that the
        variable ``MERISTEM_CHECKPOINTS`` lists (a store records names, not paths).
    model : {"", "accessibility", "methylation"}
        Which to take where a folder holds both published files.

    Raises
    ------
    InputError
        If there is none, or more than one.
    """
    given = Path(path).expanduser()
    listed = os.environ.get("MERISTEM_CHECKPOINTS", "")
    places = [given, *(Path(shelf) / given for shelf in listed.split(os.pathsep) if shelf)]
    place = next((p for p in places if p.exists()), None)
    if place is None:
        raise InputFileNotFoundError(
            f"{given}: not found, here or in MERISTEM_CHECKPOINTS ({listed or 'not set'}); {DOWNLOAD}"
        )
    if not place.is_dir():
        return place
    found = sorted(p for p in place.iterdir() if p.suffix in (".h5", ".hdf5", ".safetensors"))
    if len(found) > 1 and model:
        found = [p for p in found if model in p.name]
    if len(found) == 1:
        return found[0]
    if not found:
        raise InputError(
            f"{place}: holds no weights of a2z{f' {model}' if model else ''}; {DOWNLOAD}"
        )
    raise InputError(
        f"{place}: holds {', '.join(p.name for p in found)}; give one of them by its path"
    )


def identify(path: Path) -> Published | None:
    """Which published model a file holds, by the MD5 of the Keras file; None if neither.

    A safetensors file is known by what the converter wrote into it.
    """
    md5 = file_md5(path)
    if path.suffix == ".safetensors":
        md5 = str(safetensors_metadata(path).get("source_md5", ""))
    return next((p for p in PUBLISHED.values() if p.md5 == md5), None)


def check_model(model: str, known: Published | None, path: Path) -> Model:
    """The model that was asked for, held against what the file is known to be.

    Weights that are not known are taken for what the user says, accessibility if nothing.

    Raises
    ------
    InputError
        For an unknown name, or one that the file contradicts.
    """
    if model and model not in get_args(Model):
        raise unknown_name("model", model, get_args(Model))
    if known is not None:
        if model and model != known.model:
            raise InputError(
                f"{path}: holds the published {known.model} model, not {model}; set model = {known.model!r} "
                f"or give {PUBLISHED[model].file}"
            )
        return known.model
    return PUBLISHED[model or "accessibility"].model


def file_md5(path: Path) -> str:
    """MD5 of a file's content, remembered for as long as the file does not change."""
    real = path.resolve()
    stat = os.stat(real)
    return _md5(str(real), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=16)
def _md5(path: str, _size: int, _time: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def safetensors_metadata(path: Path) -> dict[str, Any]:
    """``__metadata__`` of a safetensors file, by its header alone; empty if there is none."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > min(path.stat().st_size, 1 << 20):
            return {}
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            return {}
    found = header.get("__metadata__", {}) if isinstance(header, dict) else {}
    return found if isinstance(found, dict) else {}
