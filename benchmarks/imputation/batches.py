"""Views of a problem as feature batches: blocks ``profile``, ``place``, ``elsewhere``."""

from __future__ import annotations

import numpy as np

from benchmarks.imputation.problem import Problem
from benchmarks.imputation.sources import ELSEWHERE, PLACE, PROFILE, PlaceSource, PlaneSource
from benchmarks.imputation.views import View
from learners.batch import Block, FeatureBatch


def profile_blocks(
    problem: Problem, view: View, asked: frozenset[str], tissues: tuple[str, ...] | None = None
) -> dict[str, Block]:
    """Blocks ``profile``, ``place`` and, with several genotypes, ``elsewhere``.

    ``tissues`` are the columns of the view where they are not those of the problem.
    """
    at = np.arange(len(view.rows), dtype=np.int64)
    names = problem.tissues if tissues is None else tissues
    plane = PlaneSource(view.value, view.visible, asked, names)
    blocks = {
        PROFILE: Block(plane, at),
        PLACE: Block(PlaceSource(problem.places.block()), view.rows.gene),
    }
    if view.elsewhere is not None:
        blocks[ELSEWHERE] = Block(PlaneSource(*view.elsewhere, asked, names), at)
    return blocks


def view_batch(
    problem: Problem, view: View, blocks: dict[str, Block], tissues: tuple[str, ...] | None = None
) -> FeatureBatch:
    """A view as learners take it, its targets what is asked for."""
    gene, species, family = (
        problem.genes[name].to_numpy(str)[view.rows.gene] for name in ("gene", "species", "family")
    )
    sample = None
    if problem.several:
        sample = np.array(problem.values.genotypes)[view.rows.genotype]
    return FeatureBatch(
        blocks=blocks, gene=gene, species=species, family=family, sample=sample,
        targets=np.where(view.wanted, view.value, np.nan), mask=view.wanted,
        target_names=problem.tissues if tissues is None else tissues,
    )  # fmt: skip
