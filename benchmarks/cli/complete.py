"""``bench predict`` with a run of task ``imputation``: the completed table."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click

from featurestore.cells import for_terminal
from featurestore.cli.common import echo_json
from featurestore.errors import InputError, unknown_name


def complete(
    trained: Any, dataset: Path | None, out: Path, genes: Sequence[str], variants: str | None,
    wide: Path | None, options: dict[str, Any], *, into_store: bool, as_json: bool,
) -> None:  # fmt: skip
    """Write the completed table of a store or a data set."""
    for name, value in (
        ("--fasta", options["fasta"]), ("--table", options["table"]), ("--variants", variants),
    ):  # fmt: skip
        if value:
            raise InputError(
                f"{name}: {trained.name} is a run of task imputation, which completes a table of "
                "expression; give a data set or a store that has one"
            )
    for note in trained.notes:
        _say(f"note: {note}")
    with _opened(trained, dataset, out, options, keep=into_store) as store:
        _write(trained, store, out, genes, wide, options, into_store=into_store, as_json=as_json)
        place = Path(store.path) if into_store else None
        del store
    if place is not None:
        from featurestore.build.sealing.replaced import sweep

        gc.collect()  # this process read the tree that was replaced
        sweep(place.resolve())


def _write(
    trained: Any, store: Any, out: Path, genes: Sequence[str], wide: Path | None,
    options: dict[str, Any], *, into_store: bool, as_json: bool,
) -> None:  # fmt: skip
    from benchmarks.imputation.complete import MEANINGS, Completion
    from benchmarks.imputation.output import long_file, wide_file
    from benchmarks.inputs.genes import choose_species
    from benchmarks.predict.apply import Matched

    species = choose_species(store, options["species"] or None)
    done = Completion(Matched.of(trained, store, species))
    about = {
        "run": trained.name, "identity_digest": trained.run.get("identity_digest"),
        "method": trained.label, "unit": done.unit, "interval": 0.9,
        "simulated": bool(trained.identity.get("simulated")),
    }  # fmt: skip
    for note in done.notes:
        _say(f"note: {note}")
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        sinks = [stack.enter_context(long_file(out, done, {**about, "notes": done.notes}))]
        if wide is not None:
            sinks.append(stack.enter_context(wide_file(wide, done)))
        for filled in done.chunks(_rows(done, genes)):
            for sink in sinks:
                sink(filled)
            for code, name in enumerate(MEANINGS):
                counts[name] += int((filled.provenance == code).sum())
    if into_store:
        from benchmarks.imputation.into_store import write_into_store

        write_into_store(Path(store.path), done, about)
    facts = {
        "path": str(out), "rows": sum(counts.values()), **dict(counts), "wide": str(wide or ""),
        "store": str(store.path) if into_store else "", **about, "notes": done.notes,
    }  # fmt: skip
    if as_json:
        echo_json(facts)
        return
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    simulated = " (trained on SIMULATED data)" if about["simulated"] else ""
    click.echo(
        for_terminal(f"{out}: {facts['rows']:,} entries by {trained.label}{simulated}: {told}")
    )
    if into_store:
        groups = ", ".join(f"{name}/imputed" for name in species)
        click.echo(for_terminal(f"{store.path}: {groups} written"))


def _rows(done: Any, genes: Sequence[str]) -> Any:
    """Rows of the genes asked for, or None for all."""
    if not genes:
        return None
    import numpy as np

    names = done.genes["gene"].astype(str)
    for gene in genes:
        if not (names == gene).any():
            raise unknown_name("gene", gene, names.tolist())
    return np.flatnonzero(names.isin(list(genes))).astype(np.int64)


@contextmanager
def _opened(
    trained: Any, dataset: Path | None, out: Path, options: dict[str, Any], *, keep: bool
) -> Iterator[Any]:
    """The store whose table is to be completed: the one given, or one built of a data set now."""
    import tempfile

    from featurestore.store.identify import is_ours
    from featurestore.store.reader import open_store

    given = options["store"]
    if given is None and dataset is not None and is_ours(dataset):
        given = dataset
    if given is not None:
        yield open_store(given)
        return
    if keep and not options["keep_store"]:
        raise InputError(
            "--into-store needs a store: give one, or keep the one built with --keep-store S"
        )
    from benchmarks.cli.predict import named_folders
    from benchmarks.predict.build import build_store, config_of_dataset, config_of_table

    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".predict-", dir=out.parent) as folder:
        place = options["keep_store"] or Path(folder) / "store.zarr"
        assert dataset is not None  # noqa: S101 - one source is given
        if trained.features:
            config = config_of_dataset(
                trained, dataset, options["species"], say=_say, expression=True,
                checkpoints=named_folders(options["checkpoints"]),
            )  # fmt: skip
        else:
            config = config_of_table(dataset, options["species"])
        yield build_store(config, place, device=options["device"], say=_say)


def _say(line: str) -> None:
    click.echo(for_terminal(line), err=True)
