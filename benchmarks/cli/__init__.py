"""The command ``bench``. Commands are imported only when called, so ``--help`` is quick."""

from __future__ import annotations

import click

from featurestore.cli.common import LazyGroup, main_with_exit_codes


@click.group(
    cls=LazyGroup,
    lazy={
        "run": ("benchmarks.cli.run:run", "Fit learners on a split and score them."),
        "split": ("benchmarks.cli.split:split", "Make a split and write it as an artefact."),
        "audit": (
            "benchmarks.cli.split:audit",
            "Overlapping windows and shared sequence across the sides of a split.",
        ),
        "learners": ("benchmarks.cli.learners:learners", "List learners, and why one cannot run."),
        "check": ("benchmarks.cli.learners:check", "Put a learner through the contract suite."),
        "predict": (
            "benchmarks.cli.predict:predict",
            "Apply a trained run to new genes, sequences or variants.",
        ),
        "mutagenesis": (
            "benchmarks.cli.mutagenesis:mutagenesis",
            "Score every single-base change of genes or elements.",
        ),
        "effects": (
            "benchmarks.cli.effects:effects",
            "Hold scores of variants by tracks against measured ones.",
        ),
        "contributions": (
            "benchmarks.cli.long_range:contributions",
            "What each base contributes to a prediction at a TSS.",
        ),
        "saturate": (
            "benchmarks.cli.long_range_controls:saturate",
            "Every single-base change of elements, by a model of long windows.",
        ),
        "links": (
            "benchmarks.cli.long_range:links",
            "Score gene-element pairs, against tested ones.",
        ),
        "context": (
            "benchmarks.cli.long_range_controls:context",
            "Predictions from the middle of the window alone.",
        ),
        "signs": (
            "benchmarks.cli.long_range_controls:signs",
            "Do predicted effects of alleles have the measured sign?",
        ),
        "explain": (
            "benchmarks.cli.explain:explain",
            "Where in a gene the signal of trained trees lies.",
        ),
        "compare": ("benchmarks.cli.results:compare", "Test which learner is better, pairwise."),
        "leaderboard": ("benchmarks.cli.results:leaderboard", "Rank the runs of a folder."),
        "report": ("benchmarks.cli.results:report", "Write one HTML file that works offline."),
    },
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 done, 1 failed, 2 usage or input, 3 damaged store, 4 leakage.",
)
def bench() -> None:
    """Benchmark learners that predict gene expression from sequence features."""


main = main_with_exit_codes(bench, "bench")
