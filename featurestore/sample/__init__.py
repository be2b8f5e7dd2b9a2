"""The embedded sample: a simulated two-species data set whose truth is known.

The model is described in ``docs/simulator.md``. Nothing it writes is biology.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class SampleSummary:
    """What :func:`write_sample` has written.

    Parameters
    ----------
    folder, dataset : Path
        The folder and its ``dataset.toml``.
    seed : int
    species, bases : mapping of species to its number of genes, of genome bases
    families, lines, variants : int
    ceiling_r2, ceiling_pearson : float
        What the sequence alone explains of log10(1 + median TPM) of the control samples, pooled
        over species: the most that any learner can reach on unseen families.
    """

    folder: Path
    dataset: Path
    seed: int
    species: dict[str, int]
    bases: dict[str, int]
    families: int
    lines: int
    variants: int
    ceiling_r2: float
    ceiling_pearson: float

    def as_json(self) -> dict[str, Any]:
        """The same as plain JSON types."""
        return {**asdict(self), "folder": str(self.folder), "dataset": str(self.dataset)}

    def __str__(self) -> str:
        species = ", ".join(f"{name} ({count:,} genes)" for name, count in self.species.items())
        return (
            f"Wrote a SIMULATED data set to {self.folder}: {species}, {self.families:,} families, "
            f"{self.lines} mutant lines, {self.variants:,} variants (seed {self.seed}).\n"
            f"Its sequence explains R² {self.ceiling_r2:.2f} of expression "
            f"(Pearson {self.ceiling_pearson:.2f}), no learner can reach more; "
            "the truth stands in truth/."
        )


def write_sample(
    folder: Path, *, seed: int = 1, genes: int = 600, lines: int = 24, overwrite: bool = False
) -> SampleSummary:
    """Write the simulated data set with its truth; equal arguments give equal bytes.

    Parameters
    ----------
    folder : Path
        Made where it does not exist.
    seed : int, default 1
        Decides all draws; the grammar is the same for every seed.
    genes : int, default 600
        Genes per species.
    lines : int, default 24
        Mutant lines of the first species; 0 writes no VCF.
    overwrite : bool, default False
        Allow a folder that is not empty; files of the same names are replaced.

    Returns
    -------
    SampleSummary

    Raises
    ------
    InputError
        If the folder is not empty and ``overwrite`` is false, or a number is out of range.
    """
    from featurestore.sample.settings import SampleSettings
    from featurestore.sample.simulate import write

    settings = SampleSettings(seed=seed, genes=genes, lines=lines)
    return write(Path(folder), settings, overwrite=overwrite)
