"""What a run may write, and where."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from featurestore.errors import InputError
from featurestore.score.tracks.plan import Plan

MOST_IN_VCF: Final = 200
"""INFO keys that a VCF may be given."""


def form_of(path: Path) -> str:
    """``parquet``, ``zarr`` or ``vcf``, by the ending of a file.

    Raises
    ------
    InputError
        For any other ending.
    """
    for ending, form in (
        (".parquet", "parquet"), (".zarr", "zarr"),
        (".vcf", "vcf"), (".vcf.gz", "vcf"), (".vcf.bgz", "vcf"),
    ):  # fmt: skip
        if path.name.endswith(ending):
            return form
    raise InputError(
        f"{path}: what format is this? Scores of tracks are written as .zarr, .parquet, .vcf or .vcf.gz"
    )


def check_target(variants: Path, target: Path) -> str:
    """The format of an output that may be written.

    Raises
    ------
    InputError
    """
    form = form_of(target)
    if target.exists() and variants.exists() and target.samefile(variants):
        raise InputError(f"{target}: --out is the VCF that is read; give it another name")
    if not target.parent.is_dir():
        raise InputError(f"{target}: the folder {target.parent} does not exist")
    if form == "zarr" and target.exists() and not (target / "zarr.json").is_file():
        raise InputError(f"{target}: is there and no Zarr group; give another --out")
    if form != "zarr" and target.is_dir():
        raise InputError(f"{target}: is a folder; give another --out")
    return form


def check_size(
    form: str, plan: Plan, tracks: int, arrays: int, components: int, most_gb: float
) -> None:
    """Refuse what would be too large, or cannot be.

    Raises
    ------
    InputError
        With the product that is too large.
    """
    rows = sum(not row.reason for row in plan.rows)
    size = rows * tracks * arrays * 4
    if size > most_gb * 1e9:
        raise InputError(
            f"{rows:,} rows × {tracks:,} tracks × {arrays} scores × 4 bytes = {size / 1e9:,.1f} GB, more than "
            f"the {most_gb:g} GB allowed: choose tracks with --tracks or --heads, or allow it with "
            f"--max-gb {-(-size // 10**9)}"
        )
    if form == "vcf" and tracks * arrays > MOST_IN_VCF:
        raise InputError(
            f"{tracks:,} tracks × {arrays} scores would make as many INFO keys; a VCF is given at most "
            f"{MOST_IN_VCF}: choose tracks with --tracks, or write .zarr"
        )
    if components and (rows <= components or tracks < components):
        raise InputError(
            f"--pca {components}: {rows:,} rows with scores and {tracks:,} tracks; more rows than "
            "components are needed, and at least as many tracks"
        )
