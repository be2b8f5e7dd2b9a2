"""``fs simulate``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featurestore.cli.common import echo_json, json_option
from featurestore.inputs.problems import printable

if TYPE_CHECKING:
    from featurestore.simulate.dry_run import Outcome
    from featurestore.simulate.rates import Rates
    from featurestore.simulate.workload import Workload


def _crews(text: str) -> list[int | None]:
    """Numbers of workers; None for threads."""
    found: list[int | None] = []
    for part in text.split(","):
        word = part.strip()
        if word == "threads":
            found.append(None)
        elif re.fullmatch(r"[1-9]\d{0,4}", word):
            found.append(int(word))
        else:
            raise click.BadParameter(
                f"{word!r}: give numbers from 1 and 'threads', joined by commas",
                param_hint="--workers",
            )
    return found


@click.command()
@click.argument("dataset", type=click.Path(path_type=Path), required=False)
@click.option(
    "--store",
    type=click.Path(path_type=Path),
    help="Folder of the store; what it holds already is not computed.",
)
@click.option(
    "--embedder", "embedders", multiple=True, help="Embedder; repeatable. Default: the data set's."
)
@click.option(
    "--species", multiple=True, help="Species of DATASET; repeatable. Without DATASET: how many."
)
@click.option("--genes", type=click.IntRange(min=1), help="Genes of each species, without DATASET.")
@click.option(
    "--genome-mb",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="Megabases of each genome, without DATASET; 0: sequences are given.",
)
@click.option(
    "--region",
    "region_bp",
    type=click.IntRange(min=1),
    default=5000,
    show_default=True,
    help="Length of promoter and terminator in bp, without DATASET.",
)
@click.option(
    "--bin",
    "bin_bp",
    type=click.IntRange(min=1),
    default=250,
    show_default=True,
    help="Length of a bin in bp, without DATASET.",
)
@click.option(
    "--recipe", default="empres", show_default=True, help="Recipe of the model, without DATASET."
)
@click.option(
    "--workers",
    default="threads,1,2,4",
    show_default=True,
    help="Workers to simulate, joined by commas; 'threads' for a build without Dask.",
)
@click.option(
    "--machines/--one-machine",
    default=None,
    help="Each worker on a machine of its own, or all on one. Default: one for DATASET, else own machines.",
)
@click.option(
    "--cores", type=click.IntRange(min=1), help="Cores of a machine. Default: those of this one."
)
@click.option(
    "--rate",
    "given",
    multiple=True,
    help="Windows per second of a worker's GPU or of a core, or NAME=RATE; repeatable.",
)
@click.option("--device", help="What --rate is of, and what to measure on: cpu or cuda.")
@click.option(
    "--dtype",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    default="fp32",
    show_default=True,
    help="Of the products of the model that --measure tries.",
)
@click.option(
    "--network", type=click.FloatRange(min=0, min_open=True), help="MB/s to object storage."
)
@click.option(
    "--rates",
    "rates_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of rates that --save-rates wrote.",
)
@click.option(
    "--save-rates",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the rates measured.",
)
@click.option(
    "--measure",
    "measured",
    multiple=True,
    help="Measure a model here, with its real sizes; repeatable.",
)
@json_option
def simulate(dataset: Path | None, as_json: bool, **options: Any) -> None:
    """Tell what a build costs on so many workers: hours, bytes, files, requests; nothing is built.

    With DATASET its real plan is played, with rates measured here and now. Without, species that are
    only numbers: --species 17 --genes 35000 --embedder plantcaduceus-l32 --rate 135 --device cuda.
    """  # fmt: skip
    from featurestore.build.workers.jobs import cores as cores_here
    from featurestore.simulate.dry_run import several
    from featurestore.simulate.report import facts_of, render

    crews = _crews(options["workers"])
    rates = _rates(options)
    if dataset is not None:
        workload, rates = _of_dataset(dataset, rates, crews, options)
    elif options["species"] or options["genes"]:
        workload = _of_numbers(rates, options)
    elif options["measured"]:
        _save(rates, options["save_rates"])
        _tell_models(rates, as_json)
        return
    else:
        raise click.UsageError("give DATASET, or --species N --genes N --embedder NAME, or --measure NAME")  # fmt: skip
    _save(rates, options["save_rates"])
    one_machine = (
        not options["machines"] if options["machines"] is not None else dataset is not None
    )
    cores = options["cores"] or cores_here()
    found: list[Outcome] = several(workload, rates, crews, cores=cores, one_machine=one_machine)
    facts = facts_of(workload, rates, found, cores, one_machine=one_machine)
    if as_json:
        echo_json(facts)
    else:
        click.echo("\n".join(map(printable, render(facts).split("\n"))))


def _rates(options: dict[str, Any]) -> Rates:
    """What is known before a data set is looked at: a file, what was given, what is measured now."""
    from featurestore.simulate.probe import measure_model
    from featurestore.simulate.rates import GIVEN, ModelRate, Rates, load_rates

    rates = load_rates(options["rates_file"]) if options["rates_file"] else Rates()
    if options["network"]:
        rates = rates.with_machine({"network_mb_per_s": options["network"]}, GIVEN)
    for name in options["measured"]:
        click.echo(f"measuring {name} …", err=True)
        rate = measure_model(name, device=options["device"], dtype=options["dtype"])
        rates = rates.with_model(name, rate)
    for text in options["given"]:
        name, _, number = text.rpartition("=")
        names = [name] if name else list(options["embedders"])
        try:
            value = float(number)
        except ValueError:
            raise click.BadParameter(f"{text!r}: give a number, or NAME=NUMBER", param_hint="--rate") from None  # fmt: skip
        if not names:
            raise click.BadParameter(f"{text!r}: of which model? Give NAME={number}", param_hint="--rate")  # fmt: skip
        for each in names:
            device = options["device"] or "cpu"
            rates = rates.with_model(each, ModelRate(value, device=device, origin=GIVEN))
    return rates


def _of_dataset(
    dataset: Path, known: Rates, crews: list[int | None], options: dict[str, Any]
) -> tuple[Workload, Rates]:
    from featurestore.cli.build import dataset_file
    from featurestore.simulate.probe import probe

    for name in ("genes", "genome_mb"):
        if options[name]:
            raise click.BadParameter("is for a simulation without DATASET", param_hint=f"--{name.replace('_', '-')}")  # fmt: skip
    workload, rates = probe(
        dataset_file(dataset), options["store"], options["embedders"], options["species"],
        device=options["device"], with_cluster=any(n is not None for n in crews),
    )  # fmt: skip
    # What was said or read from a file is meant for another machine, and so goes before.
    for field, origin in known.origin.items():
        rates = rates.with_machine({field: getattr(known.machine, field)}, origin)
    for name, rate in known.models.items():
        rates = rates.with_model(name, rate)
    return workload, rates


def _of_numbers(rates: Rates, options: dict[str, Any]) -> Workload:
    from dataclasses import replace

    from featurestore.inputs.model import Region
    from featurestore.simulate.dry_run import no_rate
    from featurestore.simulate.models import spec_of_model
    from featurestore.simulate.workload import workload_of_numbers

    if len(options["species"]) != 1 or not re.fullmatch(r"[1-9]\d{0,3}", options["species"][0]):
        raise click.BadParameter("without DATASET: one number of species", param_hint="--species")
    if not options["genes"]:
        raise click.BadParameter("give the genes of each species", param_hint="--genes")
    bp = options["region_bp"]
    regions = [Region("promoter", "tss", bp, 0), Region("terminator", "tts", 0, bp)]
    specs = {
        name: spec_of_model(name, options["recipe"], options["bin_bp"])
        for name in options["embedders"]
    }
    for name, spec in specs.items():
        if spec.type != "onehot" and name not in rates.models:
            raise no_rate(name)
    workload = workload_of_numbers(
        specs, species=int(options["species"][0]), genes=options["genes"], regions=regions,
        bin_bp=options["bin_bp"], genome_bases=round(options["genome_mb"] * 1e6),
    )  # fmt: skip
    return replace(workload, genome_ratio=rates.machine.genome_ratio)


def _save(rates: Rates, path: Path | None) -> None:
    import platform
    import time

    from featurestore.build.workers.jobs import cores

    if path is not None:
        about = {"machine_type": platform.machine(), "cores": cores(), "measured": time.strftime("%Y-%m-%d")}  # fmt: skip
        rates.save(path, about)
        click.echo(f"rates written to {path}", err=True)


def _tell_models(rates: Rates, as_json: bool) -> None:
    from dataclasses import asdict

    if as_json:
        echo_json({name: asdict(rate) for name, rate in rates.models.items()})
        return
    for name, rate in rates.models.items():
        of = "GPU" if rate.gpu else "core"
        note = f", {rate.note}" if rate.note else ""
        click.echo(
            f"{name}: {rate.windows_per_s:,.2f} windows/s of a {of} ({rate.device}{note}; {rate.origin}), loaded in {rate.load_s:,.1f} s"
        )
