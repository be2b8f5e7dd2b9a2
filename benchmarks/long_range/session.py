"""What all commands of this folder begin with: a model, a store, the genes that are meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.long_range.genes import Gene, GeneWindows, tested_genes
from benchmarks.long_range.models import Opened, open_model
from featurestore.errors import InputError
from featurestore.inputs.tally import Tally

CHECKPOINTED_BP = 65_536
"""Windows from which on gradients are computed block by block, again where they are needed."""


@dataclass(frozen=True)
class Choice:
    """Which model, and which genes.

    Parameters
    ----------
    model : str
        Checkpoint folder, hub id, or folder of a run.
    fold : int, optional
    genes, species, contigs : sequence of str
        All of the store unless told.
    tested : bool
        Only genes under test in the fold of the run.
    most : int
        So many genes at most, drawn at random; 0 for all.
    """

    model: str
    store: Path
    fold: int | None = None
    genes: tuple[str, ...] = ()
    species: tuple[str, ...] = ()
    contigs: tuple[str, ...] = ()
    tested: bool = False
    most: int = 0
    seed: int = 0
    dtype: str = "fp32"
    device: str | None = None
    batch: int = 1


@dataclass
class Session:
    """A model, the genes it is asked about, and what could not be used."""

    opened: Opened
    windows: GeneWindows
    genes: list[Gene]
    tally: Tally = field(default_factory=Tally)
    simulated: bool = False
    notes: list[str] = field(default_factory=list)

    @property
    def model(self) -> Any:
        """The model with all of its tracks."""
        return self.opened.model

    def facts(self) -> dict[str, Any]:
        """As plain JSON types."""
        return {
            **self.opened.facts(), "store_digest": self.windows.store.digest,
            "genes": len(self.genes), "simulated": self.simulated,
        }  # fmt: skip


def open_session(choice: Choice) -> Session:
    """Open what is asked for.

    Raises
    ------
    InputError
        If there is no such model, store or gene, or no gene is left.
    """
    from featurestore.store.reader import open_store

    store = open_store(choice.store)
    opened = open_model(
        choice.model, choice.fold, device=choice.device, dtype=choice.dtype, batch=choice.batch
    )
    opened.model.module.checkpointing = opened.model.input_bp >= CHECKPOINTED_BP
    windows, tally = GeneWindows(store), Tally()
    genes = windows.genes(choice.genes, choice.species, tally)
    if choice.contigs:
        genes = [g for g in genes if g.contig in choice.contigs]
    notes = []
    if choice.tested or opened.run is not None:
        tested = tested_genes(opened)
        own = [g for g in genes if (g.species, g.name) in tested]
        if len(own) < len(genes) and not choice.tested:
            notes.append(
                f"{len(genes) - len(own):,} of {len(genes):,} genes were not under test in fold "
                f"{opened.fold}: the model may have learned from them; --tested leaves them out"
            )
        genes = own if choice.tested else genes
    if not genes:
        raise InputError(f"no gene of {choice.store} is left: " + " ".join(tally.sentences()))
    kept = some(genes, choice.most, choice.seed)
    return Session(opened, windows, kept, tally, _simulated(store), notes)


def some(genes: Sequence[Gene], most: int, seed: int) -> list[Gene]:
    """At most so many genes, drawn at random, in their order; all for 0."""
    if not most or most >= len(genes):
        return list(genes)
    drawn = np.random.default_rng(seed).choice(len(genes), most, replace=False)
    return [genes[i] for i in sorted(drawn.tolist())]


def _simulated(store: Any) -> bool:
    return bool(store.attrs.get("meristem", {}).get("simulated", False))
