"""Species of the present store whose files are not there: a build takes them from the store itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from featurestore.build.planning.present import Present
from featurestore.build.shards.recompute import stored_inputs
from featurestore.errors import StoreError
from featurestore.inputs.dataset import DatasetConfig
from featurestore.inputs.load import settings_digest
from featurestore.inputs.model import Expression, SkippedGene, SpeciesData
from featurestore.store.reader import Store


def held_species(
    config: DatasetConfig, there: Present | None, asked: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Species that need not be read: not asked for, files missing, and in the store as they are wanted.

    Returns
    -------
    dict of species to the digests of its files by role
    """
    if there is None or there.store is None:
        return {}
    found: dict[str, dict[str, str]] = {}
    for name in there.store.species:
        given = config.species.get(name)
        if name in asked or given is None or all(p.is_file() for p in given.files().values()):
            continue
        try:
            facts = there.store.meta(name, "")["attributes"]["meristem"]
        except StoreError:
            continue
        if _serves(config, name, facts):
            found[name] = dict(facts["input_digest"])
    return found


def _serves(config: DatasetConfig, name: str, facts: Mapping[str, Any]) -> bool:
    """Whether a species can be made from the store as the data set wants it."""
    if facts.get("settings_digest") != settings_digest(config, name) or facts["variants"]:
        return False  # how variants edit a genome does not stand in a store
    if facts["kind"] != "sequences":
        return True
    declared = [[r.name, r.anchor, r.upstream, r.downstream] for r in config.regions]
    stored = [[r["name"], r["anchor"], r["upstream"], r["downstream"]] for r in facts["regions"]]
    return not config.regions_declared or declared == stored


def stored_species(store: Store, name: str, config: DatasetConfig) -> SpeciesData:
    """A species as the store holds it, as if it had been read from its files.

    Raises
    ------
    DamagedStoreError
        If what has to be read of it is damaged.
    """
    facts = store.meta(name, "")["attributes"]["meristem"]
    data = stored_inputs(store, name)
    fold = store.optional_text(name, "fold")
    skipped: list[SkippedGene] = []
    if store.has(name, "skipped/id"):
        columns = (store.text(name, f"skipped/{c}").tolist() for c in ("id", "stage", "reason"))
        skipped = [SkippedGene(*row) for row in zip(*columns, strict=True)]
    return replace(
        data,
        regions=config.regions if data.kind == "genome" else data.regions,
        fold=None if fold is None else fold.tolist(),
        expression=_expression(store, name),
        skipped=skipped,
        notes=store.notes(name),
        input_digest=dict(facts["input_digest"]),
        settings_digest=str(facts["settings_digest"]),
    )


def _expression(store: Store, name: str) -> Expression | None:
    table = store.expression(name)
    if table is None:
        return None

    def texts(column: Any) -> list[str] | None:
        return None if column is None else column.tolist()

    return Expression(
        table.value, table.unit, table.sample.tolist(), table.labelled, texts(table.tissue),
        texts(table.genotype), texts(table.line), texts(table.control),
    )  # fmt: skip
