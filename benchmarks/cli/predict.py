"""``bench predict``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from benchmarks.cli.options import species_option
from featurestore.cells import for_terminal
from featurestore.cli.common import echo_json, json_option
from featurestore.errors import InputError

_file = click.Path(path_type=Path, dir_okay=False)


@click.command(short_help="Apply a trained run to new genes, sequences or variants.")
@click.argument("dataset", required=False, type=click.Path(path_type=Path))
@click.option(
    "--model", required=True, type=click.Path(path_type=Path, exists=True), metavar="RUN",
    help="Folder of a finished run of bench run.",
)  # fmt: skip
@click.option(
    "--store", type=click.Path(path_type=Path), help="A store to predict, instead of DATASET."
)
@click.option(
    "--fasta", "fasta", multiple=True, metavar="[REGION=]FILE",
    help="Sequences to predict: FASTA (or a table with columns gene and sequence), a file per region.",
)  # fmt: skip
@click.option("--table", type=_file, help="Sequences to predict: a table with a column per region.")
@click.option("--families", type=_file, help="With --fasta or --table: families of the genes.")
@species_option
@click.option("--gene", "genes", multiple=True, metavar="ID", help="Only this gene; repeatable.")
@click.option(
    "--variants", metavar="SET", help="Predict the lines of this variant set, gene by gene."
)
@click.option("--out", required=True, type=_file, help="Where to write: .parquet, .csv or .tsv.")
@click.option(
    "--keep-store", type=click.Path(path_type=Path), metavar="S",
    help="Build the store here and keep it; else it goes when the predictions are written.",
)  # fmt: skip
@click.option(
    "--checkpoint", "checkpoints", multiple=True, metavar="NAME=DIR",
    help="Where the weights of an embedder of the run lie.",
)  # fmt: skip
@click.option(
    "--learner", metavar="MODULE:CLASS", help="Class of a learner that is not registered."
)
@click.option("--device", help="Device of the embedders: cpu, cuda, cuda:1.")
@click.option(
    "--wide", type=_file, help="A run of task imputation: also write a column for each tissue here."
)
@click.option(
    "--into-store", "into_store", is_flag=True,
    help="A run of task imputation: also write the completed table into the store, as group imputed.",
)  # fmt: skip
@json_option
def predict(
    dataset: Path | None, model: Path, out: Path, genes: tuple[str, ...], variants: str | None,
    learner: str | None, as_json: bool, **options: Any,
) -> None:  # fmt: skip
    """Predict the genes of DATASET, of a store, or sequences, by the models of a finished run.

    A gene of the run is predicted by the model of the fold in which it was under test; a new gene of
    a family of the run by those that did not train on the family; others by the mean of all folds. A run
    of task imputation completes the table of expression of DATASET, which may be a store: every entry
    stands in OUT, measured or imputed with its interval.
    """
    from benchmarks.predict.apply import Matched, only_genes, predict_genes, predict_lines
    from benchmarks.predict.output import check_suffix, write_predictions
    from benchmarks.predict.trained import TrainedRun

    wide, into_store = options.pop("wide"), options.pop("into_store")
    _one_source(dataset, options)
    check_suffix(out)
    trained = TrainedRun(model, learner)
    if trained.identity.get("task") == "imputation":
        from benchmarks.cli.complete import complete

        complete(
            trained,
            dataset,
            out,
            genes,
            variants,
            wide,
            options,
            into_store=into_store,
            as_json=as_json,
        )
        return
    if wide is not None or into_store:
        raise InputError(f"{model}: --wide and --into-store go with a run of task imputation")
    for note in trained.notes:
        _say(f"note: {note}")
    with _store(trained, dataset, out, variants, options) as store:
        from benchmarks.inputs.genes import choose_species

        species = choose_species(store, options["species"] if options["store"] else None)
        matched = Matched.of(trained, store, species)
        table = predict_lines(matched, variants) if variants else predict_genes(matched)
        table = only_genes(table, genes)
        about = _about(trained, store)
    write_predictions(out, table, about)
    _tell(table, out, about, as_json)


def _one_source(dataset: Path | None, options: dict[str, Any]) -> None:
    given = {
        "DATASET": dataset, "--store": options["store"], "--fasta": options["fasta"],
        "--table": options["table"],
    }  # fmt: skip
    named = [name for name, value in given.items() if value]
    if len(named) != 1:
        told = " and ".join(named) if named else "none"
        raise InputError(f"give one of DATASET, --store, --fasta and --table; {told} is given")
    if options["families"] and named[0] not in ("--fasta", "--table"):
        raise InputError("--families goes with --fasta or --table; a data set names its own")
    if len(options["species"]) > 1 and named[0] in ("--fasta", "--table"):
        raise InputError("--fasta and --table are of one species: give --species once")
    if options["store"] and (options["keep_store"] or options["checkpoints"]):
        raise InputError("nothing is built with --store: leave out --keep-store and --checkpoint")


@contextmanager
def _store(
    trained: Any, dataset: Path | None, out: Path, variants: str | None, options: dict[str, Any]
) -> Iterator[Any]:
    """The store to predict: the one that is there, or one made now."""
    import tempfile

    from benchmarks.predict.build import build_store, config_of_dataset, config_of_sequences
    from featurestore.store.reader import open_store

    if options["store"]:
        yield open_store(options["store"])
        return
    checkpoints = named_folders(options["checkpoints"])
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".predict-", dir=out.parent) as folder:
        kept = options["keep_store"]
        place = kept if kept else Path(folder) / "store.zarr"
        if dataset is not None:
            config = config_of_dataset(
                trained, dataset, options["species"], variants=variants, checkpoints=checkpoints,
                say=_say,
            )  # fmt: skip
        else:
            if variants:
                raise InputError("--variants needs a genome: give DATASET or --store")
            config = config_of_sequences(
                trained, options["fasta"], Path(folder), table=options["table"],
                species=next(iter(options["species"]), None), families=options["families"],
                checkpoints=checkpoints,
            )  # fmt: skip
        yield build_store(config, place, device=options["device"], say=_say)


def named_folders(texts: tuple[str, ...]) -> dict[str, str]:
    """``NAME=DIR``, any number."""
    found = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not value:
            raise InputError(f"--checkpoint {text!r}: write NAME=DIR")
        found[name] = value
    return found


def _about(trained: Any, store: Any) -> dict[str, Any]:
    return {
        "run": trained.name, "identity_digest": trained.run.get("identity_digest"),
        "method": trained.label, "unit": trained.unit, "store_digest": store.digest,
        "simulated": bool(trained.identity.get("simulated")), "notes": trained.notes,
    }  # fmt: skip


def _tell(table: Any, out: Path, about: dict[str, Any], as_json: bool) -> None:
    kinds = table["note"].str.partition(":")[0].value_counts()
    facts = {"path": str(out), "rows": len(table), "notes": kinds.to_dict(), **about}
    if as_json:
        echo_json(facts)
        return
    told = ", ".join(f"{count:,} {kind}" for kind, count in kinds.items())
    simulated = " (trained on SIMULATED data)" if about["simulated"] else ""
    click.echo(for_terminal(f"{out}: {len(table):,} rows by {about['method']}{simulated}: {told}"))


def _say(line: str) -> None:
    click.echo(for_terminal(line), err=True)
