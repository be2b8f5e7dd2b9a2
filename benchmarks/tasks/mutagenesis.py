"""Task ``mutagenesis``: learn expression, then score every single-base change of chosen genes.

Folds are fitted and scored as in task ``expression``; the changes are scored afterwards, by the model of
the fold in which the gene is under test (:mod:`benchmarks.mutagenesis.api`, which ``bench run`` calls).
"""

from __future__ import annotations

from typing import ClassVar

from benchmarks.tasks.expression import ExpressionTask


class MutagenesisTask(ExpressionTask):
    """Expression of genes, and of genes with single bases changed."""

    name: ClassVar[str] = "mutagenesis"
    summary: ClassVar[str] = "predict expression, then the effect of every single-base change"
