"""Genome and embedder of a store or a data set."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from featurestore.embedders.base import Embedder
from featurestore.embedders.registry import make_embedder
from featurestore.errors import InputError, unknown_name
from featurestore.inputs.problems import Problems, examples
from featurestore.score.genome import Bases, bases_of, stored_bases
from featurestore.score.model import MASKED_TYPES, can_score

Accepts = Callable[[str], bool]
"""Says of a type of embedder whether it is one that can score."""

Contigs = Callable[[], Collection[str]]
"""Gives the contigs of the variants; called only where several species might be meant."""


@dataclass
class Source:
    """What variants are scored against.

    Parameters
    ----------
    where : str
        The store or data set, for messages.
    species : str
    bases : Bases
    genome_digest : str
        Sha256 of the genome's file.
    embedders : mapping of name to settings
        Those of the source that give probabilities of bases.
    digests : mapping of name to str
        Weights that a store's vectors were made with.
    """

    where: str
    species: str
    bases: Bases
    genome_digest: str
    embedders: Mapping[str, Mapping[str, Any]]
    digests: Mapping[str, str] = field(default_factory=dict)


def open_source(
    path: Path, species: str | None, contigs: Contigs, accepts: Accepts = can_score
) -> Source:
    """A store (nothing beside it is read), or a dataset.toml or its folder.

    ``accepts`` says which embedders of it are of use: masked models, unless told.

    Raises
    ------
    InputError
        Where there is neither, no genome, or no telling which species is meant.
    """
    from featurestore.store.identify import is_ours

    if path.is_file() or (path / "dataset.toml").is_file():
        return _from_dataset(path, species, contigs, accepts)
    if not path.exists():
        raise InputError(f"{path}: neither a store nor a dataset.toml is there")
    if not is_ours(path) and not (path / "zarr.json").exists():
        raise InputError(f"{path}: holds neither a store nor a dataset.toml")
    return _from_store(path, species, contigs, accepts)


def _from_store(path: Path, species: str | None, contigs: Contigs, accepts: Accepts) -> Source:
    from featurestore.store.reader import open_store

    store = open_store(path)
    have = [s for s in store.species if store.has(s, "genome/code")]
    chosen = _choose(
        str(path), species, store.species, have, contigs,
        lambda name: store.text(name, "genome/contig_id").tolist(),
    )  # fmt: skip
    attrs = {n: store.embedder_attrs(chosen, n) for n in store.embedders(chosen)}
    facts = store.meta(chosen, "")["attributes"]["meristem"]
    masked = {n: a for n, a in attrs.items() if accepts(str(a["type"]))}
    return Source(
        str(path), chosen, stored_bases(store, chosen), facts["input_digest"].get("genome", ""),
        {n: {"type": a["type"], **a["parameters"]} for n, a in masked.items()},
        {n: str(a.get("digest", "")) for n, a in masked.items()},
    )  # fmt: skip


def _from_dataset(path: Path, species: str | None, contigs: Contigs, accepts: Accepts) -> Source:
    from featurestore.inputs.dataset import read_config
    from featurestore.inputs.fasta import read_genome
    from featurestore.inputs.files import file_digest
    from featurestore.inputs.model import Genome

    problems = Problems()
    config = read_config(path, problems)
    problems.raise_if_any()
    assert config is not None  # noqa: S101 # otherwise there was a problem
    files = {n: s.genome for n, s in config.species.items() if s.genome is not None}
    read: dict[str, Genome] = {}

    def genome(name: str) -> Genome:
        if name not in read:
            found = read_genome(files[name], problems)
            problems.raise_if_any()
            assert found is not None  # noqa: S101 # otherwise there was a problem
            read[name] = found
        return read[name]

    chosen = _choose(
        str(path),
        species,
        config.species,
        list(files),
        contigs,
        lambda name: genome(name).contig_id,
    )
    options = {n: o for n, o in config.embedder_options.items() if accepts(str(o["type"]))}
    bases = bases_of(genome(chosen))
    return Source(str(path), chosen, bases, file_digest(files[chosen]), options)


def _choose(
    where: str,
    asked: str | None,
    known: Collection[str],
    have: list[str],
    contigs: Contigs,
    contigs_of: Callable[[str], Collection[str]],
) -> str:
    """The species that is meant: the one asked for, the only one, the one whose contigs meet."""
    if asked is not None and asked not in known:
        raise unknown_name("species", asked, known)
    if not have or (asked is not None and asked not in have):
        raise InputError(
            f"{where}: {asked or 'no species'} has {'no' if asked else 'a'} genome; scores need one "
            "(species of ready-made sequences or positions have none)"
        )
    if asked is not None or len(have) == 1:
        return asked or have[0]
    wanted = set(contigs())
    meeting = [name for name in have if wanted & set(contigs_of(name))]
    if len(meeting) == 1:
        return meeting[0]
    what = "of none" if not meeting else f"of {', '.join(meeting)} alike"
    raise InputError(
        f"{where}: the contigs of the variants ({examples(sorted(wanted))}) are those {what} of its "
        f"species; say which with --species: {', '.join(have)}"
    )


def scoring_embedder(
    source: Source, name: str | None, checkpoint: str | None
) -> tuple[str, Embedder, list[str]]:
    """The embedder whose model scores: by its name in the source, or by its type.

    Parameters
    ----------
    name : str, optional
        Default the only one of the source that can.
    checkpoint : str, optional
        Folder or hub id, instead of the one configured.

    Returns
    -------
    name, embedder, notes

    Raises
    ------
    InputError
        For an unknown name, and where the weights are not to be had or are not those of the store.
    """
    name = name or _only(source)
    notes: list[str] = []
    settings = dict(source.embedders.get(name, {"type": name}))
    if name not in source.embedders and not can_score(name):
        raise unknown_name(
            "embedder that scores variants", name, [*source.embedders, *MASKED_TYPES]
        )
    if checkpoint:
        settings["checkpoint"] = checkpoint
    try:
        embedder = make_embedder(name, settings)
    except InputError as error:
        if checkpoint or name not in source.digests:
            raise
        raise InputError(f"{error}\n    → give its folder with --checkpoint") from error
    stored = source.digests.get(name, "")
    if stored and embedder.spec.digest != stored:
        what = (
            f"weights of {name!r} in {source.where} have digest {stored[:12]}, those of "
            f"{settings.get('checkpoint')} {embedder.spec.digest[:12]}"
        )
        if not checkpoint:
            raise InputError(f"{what}; name the ones you mean with --checkpoint")
        notes.append(f"other weights than the store's vectors: {what}")
    return name, embedder, notes


def _only(source: Source) -> str:
    if len(source.embedders) == 1:
        return next(iter(source.embedders))
    have = ", ".join(source.embedders) or "none there"
    raise InputError(
        f"{source.where}: which embedder? Name one with --embedder ({have}), or give "
        f"--embedder {next(iter(MASKED_TYPES))} --checkpoint DIR"
    )
