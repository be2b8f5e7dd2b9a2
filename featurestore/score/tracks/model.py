"""The model of tracks that is meant, and those of its tracks that are scored."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from featurestore.errors import InputError, unknown_name
from featurestore.inputs.problems import examples
from featurestore.score.source import Source
from featurestore.score.tracks.settings import TRACK_TYPES

if TYPE_CHECKING:
    from featurestore.embedders.enformer.configuration import EnformerConfig
    from featurestore.embedders.enformer.track_model import TrackModel


def model_for(
    source: Source, name: str | None, checkpoint: str | None, heads: Sequence[str],
    tracks: Sequence[str], dtype: str, device: str | None,
) -> tuple[TrackModel, str, list[str]]:  # fmt: skip
    """The model of an embedder of the source, or of a type, with the tracks that are meant.

    Parameters
    ----------
    name : str, optional
        Default the only one of the source that predicts tracks, or the type where a checkpoint is
        given.
    checkpoint : str, optional
        Folder or hub id, instead of the one configured.
    heads, tracks : sequence of str
        Those to score; the heads of the source's species, all of their tracks.

    Returns
    -------
    model, name, notes

    Raises
    ------
    InputError
        For an unknown name, and where the weights are not to be had or are not those of the store.
    """
    from featurestore.embedders.registry import embedder_class

    name = name or _only(source, checkpoint)
    if name not in source.embedders and name not in TRACK_TYPES:
        raise unknown_name("embedder that predicts tracks", name, [*source.embedders, *TRACK_TYPES])
    settings: dict[str, Any] = dict(source.embedders.get(name, {"type": name}))
    place = checkpoint or settings.get("checkpoint")
    if not place:
        raise InputError(f"{name}: give the folder or hub id of its weights with --checkpoint")
    embedder_class(str(settings["type"])).availability()
    from featurestore.embedders.enformer.track_model import TrackModel

    try:
        model = TrackModel.open(
            place, device=device, dtype=dtype, revision=settings.get("revision")
        )
    except InputError as error:
        if checkpoint or name not in source.digests:
            raise
        raise InputError(f"{error}\n    → give its folder with --checkpoint") from error
    notes = _told_digests(source, name, checkpoint, str(place), model.digest)
    chosen = list(heads) or heads_of(model.module.config, source.species)
    return model.chosen(_matching(model, tracks, chosen), chosen), name, notes


def _only(source: Source, checkpoint: str | None) -> str:
    if len(source.embedders) == 1:
        return next(iter(source.embedders))
    if checkpoint:
        return TRACK_TYPES[0]
    have = ", ".join(source.embedders) or "none there"
    raise InputError(
        f"{source.where}: which embedder? Name one with --embedder ({have}), or give "
        f"--embedder {TRACK_TYPES[0]} --checkpoint DIR"
    )


def _told_digests(
    source: Source, name: str, checkpoint: str | None, place: str, digest: str
) -> list[str]:
    stored = source.digests.get(name, "")
    if not stored or stored == digest:
        return []
    what = f"weights of {name!r} in {source.where} have digest {stored[:12]}, those of {place} {digest[:12]}"
    if not checkpoint:
        raise InputError(f"{what}; name the ones you mean with --checkpoint")
    return [f"other weights than the store's vectors: {what}"]


def heads_of(config: EnformerConfig, species: str) -> list[str]:
    """The heads that stand for a species, or the only one.

    Raises
    ------
    InputError
        Where none of several does.
    """
    from featurestore.embedders.enformer.embedder import SPECIES_OF_HEAD

    all_heads = list(config.output_heads)
    own = [
        head
        for head in all_heads
        if species in config.head_species.get(head, [SPECIES_OF_HEAD.get(head, head)])
    ]
    if own or len(all_heads) == 1:
        return own or all_heads
    raise InputError(
        f"the model has heads {', '.join(all_heads)}, none of them of species {species}: say which to "
        f"score with --heads"
    )


def _matching(model: TrackModel, names: Sequence[str], heads: Sequence[str]) -> list[str]:
    """Tracks by name, those with ``*`` by pattern."""
    found: dict[str, None] = {}
    own = [t for t in model.tracks if not heads or t.head in heads]
    for name in names:
        if "*" not in name:
            found[name] = None
            continue
        hits = [t.label for t in own if fnmatchcase(t.name, name) or fnmatchcase(t.label, name)]
        if not hits:
            raise InputError(f"no track fits {name!r}; there are {examples([t.name for t in own])}")
        found |= dict.fromkeys(hits)
    return list(found)
