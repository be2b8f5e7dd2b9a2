"""A simulated world whose genes answer to enhancers 5 to 80 kb away; all of its truth is known.

The rule is described in ``docs/simulator.md``. Nothing it writes is biology.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class LongRangeSummary:
    """What :func:`write_long_range` has written.

    Parameters
    ----------
    folder, dataset : Path
        The folder and its ``dataset.toml``.
    seed : int
    species, bases : mapping of species to its number of genes, of genome bases
    families, enhancers, decoys, pairs, variants : int
    shares : mapping
        Parts of the variance of log10 TPM between genes of the first species: promoter, distal,
        noise.
    """

    folder: Path
    dataset: Path
    seed: int
    species: dict[str, int]
    bases: dict[str, int]
    families: int
    enhancers: int
    decoys: int
    pairs: int
    variants: int
    shares: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        return {**asdict(self), "folder": str(self.folder), "dataset": str(self.dataset)}

    def __str__(self) -> str:
        species = ", ".join(
            f"{name} ({count:,} genes, {self.bases[name] / 1e6:.1f} Mb)"
            for name, count in self.species.items()
        )
        shares = ", ".join(f"{name} {part:.0%}" for name, part in self.shares.items())
        return (
            f"Wrote a SIMULATED long-range data set to {self.folder}: {species}, "
            f"{self.families:,} families, {self.enhancers:,} enhancers and {self.decoys:,} decoys, "
            f"{self.variants:,} variants (seed {self.seed}).\n"
            f"Variance of log10 TPM between genes: {shares}; the truth stands in truth/."
        )


def write_long_range(
    folder: Path, *, seed: int = 1, genes: int = 1200, overwrite: bool = False
) -> LongRangeSummary:
    """Write the simulated long-range world with its truth; equal arguments give equal bytes.

    Parameters
    ----------
    folder : Path
        Made where it does not exist.
    seed : int, default 1
        Decides all draws; the grammar is the same for every seed.
    genes : int, default 1200
        Genes of both species together, three in four of the first; about 22 kb of genome each.
    overwrite : bool, default False
        Allow a folder that is not empty; files of the same names are replaced.

    Returns
    -------
    LongRangeSummary

    Raises
    ------
    InputError
        If the folder is not empty and ``overwrite`` is false, or a number is out of range.
    MissingDependencyError
        If pyBigWig is not installed.
    """
    from featurestore.sample.long_range.settings import LongRangeSettings
    from featurestore.sample.long_range.simulate import write

    return write(Path(folder), LongRangeSettings(seed=seed, genes=genes), overwrite=overwrite)
