"""The command ``fs``."""

from __future__ import annotations

from featurestore.cli.common import LazyGroup, main_with_exit_codes

_COMMANDS = {
    "init": ("featurestore.cli.start:init", "Write a commented dataset.toml and the simulated sample."),
    "fetch": ("featurestore.cli.fetch:fetch", "Fetch public data and weights by name."),
    "import": ("featurestore.cli.imports:imports", "Make a data set of PhytoExpr's or EMPRES's deposit."),
    "plan": ("featurestore.cli.build:plan", "Tell genes, windows, bytes and files before building."),
    "simulate": ("featurestore.cli.simulate:simulate", "Tell hours, bytes, files and requests of a build on so many workers."),
    "build": ("featurestore.cli.build:build", "Build or complete a store."),
    "build-shard": ("featurestore.cli.build:build_shard", "Run a task of a plan by number, for array jobs."),
    "finalise": ("featurestore.cli.build:finalise", "Make the store of a plan whose tasks are done."),
    "ls": ("featurestore.cli.inspect:ls", "List species and embedders of a store."),
    "info": ("featurestore.cli.inspect:info", "Tell all that a store knows of itself."),
    "verify": ("featurestore.cli.inspect:verify", "Check every byte of a store."),
    "repair": ("featurestore.cli.inspect:repair", "Remove what is damaged, for the next build to mend."),
    "gc": ("featurestore.cli.gc:gc", "Remove what builds left behind and nobody reads."),
    "query": ("featurestore.cli.query:query", "Print features of genes, a region or a family."),
    "export": ("featurestore.cli.export:export", "Publish a store, or write it as files of other tools."),
    "serve": ("featurestore.cli.serve:serve", "Serve a store over HTTP, read-only."),
    "score": ("featurestore.cli.score:score", "Score variants by a masked genomic model."),
    "families": ("featurestore.cli.start:families", "Make gene families with MMseqs2."),
    "pretrain": ("featurestore.cli.pretrain:pretrain", "Pre-train a small PlantCaduceus model on sequence."),
    "embedders": ("featurestore.cli.inspect:embedders", "List embedders, and why one is unavailable."),
}  # fmt: skip

cli = LazyGroup(
    "fs",
    lazy=_COMMANDS,
    help="Stores of genomic-model embeddings: build once, read from anything.",
    epilog="Start with: fs init DIR, then fs build DIR/dataset.toml --store DIR/store.zarr",
    context_settings={"help_option_names": ["-h", "--help"]},
)
main = main_with_exit_codes(cli, "fs")
