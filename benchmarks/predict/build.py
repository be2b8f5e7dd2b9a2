"""Builds the store that a trained run needs of new genes: same windows, bins, embedders."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.predict.inputs import check_regions, differences, required_inputs
from benchmarks.predict.trained import TrainedRun
from featurestore.errors import InputError, unknown_name
from featurestore.inputs.dataset import DatasetConfig, SpeciesConfig
from featurestore.inputs.model import Region

Say = Callable[[str], None]

CODES: Final = "onehot"


def config_of_dataset(
    trained: TrainedRun,
    dataset: Path,
    species: Sequence[str],
    *,
    variants: str | None = None,
    checkpoints: Mapping[str, str] | None = None,
    say: Say = lambda line: None,
    expression: bool = False,
) -> DatasetConfig:
    """A data set, declared anew with the windows and embedders of a run.

    Expression is left out unless it is wanted (nothing is learned here), and so are variants that are
    not asked for.

    Parameters
    ----------
    trained : TrainedRun
    dataset : Path
        dataset.toml or its folder.
    species : sequence of str
        Empty for all.
    variants : str, optional
        The variant set to keep.
    checkpoints : mapping of group to folder or hub id, optional
        Where weights lie, instead of what the data set or the run says.
    say : called with lines for people

    Raises
    ------
    InputError
        If ready-made sequences stand for other regions than those of the run, or an embedder that
        the data set declares differs from the run's.
    """
    from featurestore.inputs.dataset import load_config

    config = load_config(dataset, files=False)
    for name in species:
        if name not in config.species:
            raise unknown_name("species", name, config.species)
    chosen = {n: s for n, s in config.species.items() if not species or n in species}
    inputs = required_inputs(trained.run, trained.name)
    _check_declared(config, chosen, inputs, say)
    kept = {}
    for name, one in chosen.items():
        sets = {n: v for n, v in one.variants.items() if n == variants}
        left_out = {} if expression else {"expression": None, "samples": None}
        kept[name] = one.model_copy(update={**left_out, "variants": sets})
    if variants and not any(one.variants for one in kept.values()):
        known = {name for one in chosen.values() for name in one.variants}
        raise unknown_name("variant set", variants, known)
    return _with_inputs(config, kept, inputs, checkpoints or {})


def config_of_table(dataset: Path, species: Sequence[str]) -> DatasetConfig:
    """A data set with its expression and nothing embedded.

    Raises
    ------
    UnknownNameError
        For a species that it has not.
    """
    from featurestore.inputs.dataset import load_config

    config = load_config(dataset, files=False)
    for name in species:
        if name not in config.species:
            raise unknown_name("species", name, config.species)
    chosen = {
        name: one.model_copy(update={"variants": {}})
        for name, one in config.species.items()
        if not species or name in species
    }
    return config.model_copy(
        update={"species": chosen, "embedders": (CODES,), "embedder_options": {}}
    )


def config_of_sequences(
    trained: TrainedRun,
    files: Sequence[str],
    work: Path,
    *,
    table: Path | None = None,
    species: str | None = None,
    families: Path | None = None,
    checkpoints: Mapping[str, str] | None = None,
) -> DatasetConfig:
    """Ready-made sequences as a data set with the windows and embedders of a run.

    Parameters
    ----------
    files : sequence of str
        ``REGION=FILE``, or ``FILE`` alone where the run has one region: FASTA with one record per
        gene, or a table with columns gene and sequence.
    work : Path
        Folder that stands for the data set in messages.
    table : Path, optional
        Instead: one table with a column per region.
    species : str, optional
        Name of the species; default the run's, if it has one.
    families : Path, optional
        Families of the genes.

    Raises
    ------
    InputError
        For a region that the run has not, or none at all.
    """
    inputs = required_inputs(trained.run, trained.name)
    given: Path | dict[str, Path]
    given = table.absolute() if table else _files_by_region(files, inputs, trained.name)
    name = species or (trained.species[0] if len(trained.species) == 1 else "sequences")
    settings = SpeciesConfig(
        sequences=given, families=families.absolute() if families else None, species_code=name
    )
    config = DatasetConfig(path=work / "dataset.toml")
    return _with_inputs(config, {name: settings}, inputs, checkpoints or {})


def build_store(
    config: DatasetConfig, store: Path, *, device: str | None = None, say: Say = lambda line: None
) -> Any:
    """Build and open the store; what was built there before is taken over.

    Raises
    ------
    InputError
        With every mistake of the files.
    """
    from featurestore.build.engine import build
    from featurestore.store.reader import open_store

    def told(_: Any, done: int, total: int) -> None:
        if total > 1 and (done == total or done % max(total // 10, 1) == 0):
            say(f"{done}/{total} shards")

    result = build(config, store, device=device, say=say, on_task=told)
    for name, notes in result.notes.items():
        for note in notes:
            say(f"note: {name}: {note}")
    for failure in result.failures:
        say(f"note: {failure}")
    return open_store(store)


def _check_declared(
    config: DatasetConfig,
    species: Mapping[str, SpeciesConfig],
    inputs: Mapping[str, Any],
    say: Say,
) -> None:
    if not config.regions_declared:
        return
    declared = [r.__dict__ for r in config.regions]
    try:
        check_regions(inputs["regions"], declared, str(config.path))
    except InputError as error:
        if any(one.kind == "sequences" for one in species.values()):
            raise
        # A genome holds any window; the run's are cut.
        say(f"note: {error}; the windows of the run are cut from the genome instead")


def _with_inputs(
    config: DatasetConfig,
    species: Mapping[str, SpeciesConfig],
    inputs: Mapping[str, Any],
    checkpoints: Mapping[str, str],
) -> DatasetConfig:
    options = {
        group: embedder_settings(group, wanted, checkpoints, config)
        for group, wanted in inputs["embedders"].items()
        if group != CODES
    }
    for group in checkpoints:
        if group not in options:
            raise unknown_name("embedder of the run", group, options)
    regions = tuple(
        Region(r["name"], r["anchor"], r["upstream"], r["downstream"]) for r in inputs["regions"]
    )
    return config.model_copy(
        update={
            "species": dict(species), "regions": regions, "regions_declared": True,
            "bin": inputs["bin"], "embedders": (CODES, *options), "embedder_options": options,
        }
    )  # fmt: skip


def embedder_settings(
    group: str,
    wanted: Mapping[str, Any],
    checkpoints: Mapping[str, str],
    config: DatasetConfig | None = None,
) -> dict[str, Any]:
    """Settings of an embedder of a run: those of the data set where it declares it, else the recorded.

    Raises
    ------
    InputError
        If its weights are not to be had, or they make another embedder than the run's.
    """
    from featurestore.embedders.registry import make_embedder

    settings = {"type": wanted["type"], **(wanted.get("parameters") or {})}
    declared = config is not None and group in config.embedder_options
    if config is not None and declared:
        settings = dict(config.embedder_options[group])
    if group in checkpoints:
        settings["checkpoint"] = checkpoints[group]
    try:
        found = make_embedder(group, settings).spec.identity()
    except InputError as error:
        if "checkpoint" not in settings:
            raise
        raise InputError(
            f"{error}\n    → say where its weights lie: --checkpoint {group}=DIR"
        ) from error
    if told := differences(wanted, found):
        mend = (
            f"take [embedders.{group}] out of {config.path}, or make it agree"
            if config is not None and declared
            else "the versions installed here make another one than the run's"
        )
        raise InputError(
            f"embedder {group!r} is not the one that the run was trained on: {'; '.join(told)}; {mend}"
        )
    return settings


def run_embedders(
    trained: TrainedRun, checkpoints: Mapping[str, str], device: str | None = None
) -> dict[str, Any]:
    """The embedders that a run's features were made by, loaded, by group; codes need none."""
    from featurestore.embedders.registry import make_embedder

    found = {}
    for group, wanted in required_inputs(trained.run, trained.name)["embedders"].items():
        if group != CODES:
            found[group] = make_embedder(group, embedder_settings(group, wanted, checkpoints))
            found[group].load(device)
    return found


def _files_by_region(
    files: Sequence[str], inputs: Mapping[str, Any], where: str
) -> dict[str, Path]:
    names = [region["name"] for region in inputs["regions"]]
    found: dict[str, Path] = {}
    for text in files:
        region, equals, path = text.partition("=")
        if not equals or not region.replace("-", "_").isidentifier():
            if len(names) > 1:
                raise InputError(
                    f"--fasta {text}: {where} has the regions {', '.join(names)}; write REGION=FILE, "
                    "once for each that you have"
                )
            region, path = names[0], text
        if region not in names:
            raise unknown_name("region of the run", region, names)
        found[region] = Path(path).absolute()
    if not found:
        raise InputError("no sequences are given")
    if lacking := [name for name in names if name not in found]:
        raise InputError(
            f"no sequences of {', '.join(lacking)}: {where} was trained on {', '.join(names)}, and "
            "knows nothing of genes that lack one of them; give a file for each"
        )
    return found
