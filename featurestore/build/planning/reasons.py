"""Says in words why shards have to be computed although a store is there."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from featurestore.build.planning.group_plan import GroupPlan
from featurestore.build.planning.present import Present
from featurestore.build.reuse.shared import Inputs
from featurestore.embedders.base import identity_digest, is_gene_centred
from featurestore.errors import StoreError
from featurestore.inputs.model import Genome, SpeciesData
from featurestore.schema import SCHEMA_VERSION
from featurestore.store.reader import Store

_WORDS: Final = {"input_bp": "window", "span_bp": "span", "rc_rule": "reverse complement", "iupac_rule": "ambiguous bases"}  # fmt: skip
_DIGITS: Final = 12
_SHOWN: Final = 5


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (f" … ({len(names)} in all)" if len(names) > _SHOWN else "")


class Change:
    """What of one species differs between the present store and what is to be built.

    Parameters
    ----------
    there : Present or None
        What stands at the path of the store.
    data : SpeciesData
        The species as it is now.
    bin_bp : int
    """

    def __init__(self, there: Present | None, data: SpeciesData, bin_bp: int) -> None:
        self._there, self._data, self._bin = there, data, bin_bp
        self._store = there.store if there is not None else None

    def reasons(self, group: GroupPlan, inputs: Inputs | None) -> list[str]:
        """Why shards of a group are to be computed.

        Parameters
        ----------
        inputs : Inputs, optional
            Of the group, where an embedder computes it.
        """
        if self._there is None:
            return ["new store"]
        if self._store is None:
            return ["the store that is there cannot be read: nothing can be taken from it"]
        try:
            found = list(self._of_store(self._store, group, inputs))
        except StoreError as error:
            return [f"the store that is there is damaged: {error}"]
        return found or ["shards of the store that is there are missing, damaged or cut otherwise"]

    def _of_store(self, store: Store, group: GroupPlan, inputs: Inputs | None) -> Iterator[str]:
        name = self._data.name
        version = str(store.attrs["meristem"]["schema_version"])
        if version != SCHEMA_VERSION:
            yield f"schema {version} → {SCHEMA_VERSION}"
        if name not in store.species:
            yield "new species"
            return
        if not store.has(name, group.name):
            yield (
                "new variant set"
                if self._new_set(store, group)
                else ("new embedder" if group.embeds else "new in the data set")
            )
            return
        if group.embeds:
            stored = store.meta(name, group.name)["attributes"]["meristem"]["embedder"]
            yield from identity_changes(stored, group.identity)
            if stored["input_bp"] != group.identity["input_bp"]:
                inputs = None  # all of its windows are others
        if group.kind == "expression":
            yield from self._expression(store)
        elif group.kind == "genome":
            yield from self._contigs
        else:
            yield from self._windows(store, group, inputs)
        if group.name.startswith("variants/"):
            yield from self._variants(store, group)

    def _new_set(self, store: Store, group: GroupPlan) -> bool:
        return group.name.startswith("variants/") and group.variant_set not in store.variant_sets(self._data.name)  # fmt: skip

    def _variants(self, store: Store, group: GroupPlan) -> Iterator[str]:
        old = store.variants(self._data.name, group.variant_set)
        new = self._data.haplotypes[group.variant_set].haplotype
        before = set(old.haplotype.tolist())
        fresh, gone = len(set(new) - before), len(before - set(new))
        if fresh or gone:
            yield f"haplotypes: {fresh:,} new, {gone:,} gone"

    def _windows(self, store: Store, group: GroupPlan, inputs: Inputs | None) -> Iterator[str]:
        facts = store.meta(self._data.name, "")["attributes"]["meristem"]
        cut = not (group.embeds and is_gene_centred(group.identity))
        if cut and (old := int(store.attrs["meristem"]["bin"])) != self._bin:
            yield f"regions changed: bin {old} → {self._bin}"
        if cut:
            yield from _region_changes(facts["regions"], [asdict(r) for r in self._data.regions])
        parts = []
        new, gone = self._genes
        if new:
            parts.append(f"{new:,} genes new")
        if gone:
            parts.append(f"{gone:,} genes gone")
        if group.kind == "embedder" and inputs is not None and (n := self._changed(store, inputs)):
            parts.append(f"{n:,} windows changed")
        where = f" ({'; '.join(self._contigs)})" if self._contigs else ""
        if parts or where:
            yield (", ".join(parts) or "bases changed") + where

    @cached_property
    def _rows(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows now and in the store of the genes that both have."""
        assert self._store is not None  # noqa: S101 - asked only where there is one
        before = {g: i for i, g in enumerate(self._store.array(self._data.name, "gene").tolist())}
        pairs = [(i, before[g]) for i, g in enumerate(self._data.gene) if g in before]
        both = np.array(pairs, np.int64).reshape(-1, 2)
        return both[:, 0], both[:, 1]

    @cached_property
    def _genes(self) -> tuple[int, int]:
        """Genes that are new, and genes that are gone."""
        assert self._store is not None  # noqa: S101 - asked only where there is one
        common = len(self._rows[0])
        return len(self._data.gene) - common, self._store.stored(self._data.name, "gene").shape[0] - common  # fmt: skip

    def _changed(self, store: Store, inputs: Inputs) -> int:
        """Windows that differ, of genes that were there."""
        stored = store.stored(self._data.name, f"{inputs.group.name}/input_digest")
        if math.prod(stored.shape[1:]) != math.prod(inputs.digest.shape[1:]):
            return 0
        now, before = self._rows
        new = np.asarray(inputs.digest[now])
        old = stored.take(before).reshape(new.shape)
        wanted = new.any(axis=-1)
        return int(((new != old).any(axis=-1) & wanted).sum())

    @cached_property
    def _contigs(self) -> list[str]:
        """What differs of the genome, in words."""
        store, name, now = self._store, self._data.name, self._data.genome
        if store is None or now is None or not store.has(name, "genome/code"):
            return []
        old = Genome(
            store.text(name, "genome/contig_id").tolist(), store.array(name, "genome/contig_start"),
            store.array(name, "genome/contig_length"), store.array(name, "genome/code"),
        )  # fmt: skip
        before, after = _by_contig(old), _by_contig(now)
        told = []
        for what, names in (
            ("new", [c for c in after if c not in before]),
            ("gone", [c for c in before if c not in after]),
            ("differs", [c for c in after if c in before and not np.array_equal(after[c], before[c])]),
        ):  # fmt: skip
            if names:
                verb = "differ" if what == "differs" and len(names) > 1 else what
                told.append(f"contig{'s' if len(names) > 1 else ''} {_some(names)} {verb}")
        if not told and old.contig_id != now.contig_id:
            told.append("contigs in another order")
        return told

    def _expression(self, store: Store) -> Iterator[str]:
        table, old = self._data.expression, store.expression(self._data.name)
        if table is None or old is None:
            return
        new, gone = self._genes
        if old.sample.tolist() != list(table.sample):
            yield f"samples changed: {old.value.shape[1]:,} → {len(table.sample):,}"
            return
        now, before = self._rows
        a, b = np.asarray(table.value[now]), old.value[before]
        changed = int((~((a == b) | (np.isnan(a) & np.isnan(b)))).any(axis=1).sum())
        parts = [f"{n:,} genes {what}" for n, what in ((new, "new"), (gone, "gone")) if n]
        if changed:
            parts.append(f"expression of {changed:,} genes changed")
        if parts:
            yield ", ".join(parts)


def _by_contig(genome: Genome) -> dict[str, NDArray[np.uint8]]:
    ends = (genome.contig_start + genome.contig_length).tolist()
    return {
        name: genome.code[start:end]
        for name, start, end in zip(
            genome.contig_id, genome.contig_start.tolist(), ends, strict=True
        )
    }


def identity_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """What differs between two identities of an embedder, in words."""
    old = {k: v for k, v in before.items() if k != "name"}
    if identity_digest(old) == identity_digest(after):
        return
    if old.get("digest") != after.get("digest"):
        a, b = (str(x.get("digest") or "none")[:_DIGITS] for x in (old, after))
        yield f"checkpoint differs: digest {a} → {b}"
    skip = {"digest", "checkpoint", "licence", "pretraining_species", "parameters"}
    one = {k: v for k, v in old.items() if k not in skip} | dict(old.get("parameters", {}))
    two = {k: v for k, v in after.items() if k not in skip} | dict(after.get("parameters", {}))
    changed = [
        f"{_WORDS.get(key, key)} {one.get(key)} → {two.get(key)}"
        for key in {**one, **two}
        if one.get(key) != two.get(key)
    ]
    if changed:
        yield f"parameters changed: {'; '.join(changed)}"


def _region_changes(
    before: list[Mapping[str, Any]], after: list[Mapping[str, Any]]
) -> Iterator[str]:
    old, new = ({str(r["name"]): r for r in regions} for regions in (before, after))
    told = []
    for name in {**old, **new}:
        if name not in old:
            told.append(f"{name} new")
        elif name not in new:
            told.append(f"{name} gone")
        elif dict(old[name]) != dict(new[name]):
            told += [f"{name} {k} {old[name][k]} → {v}" for k, v in new[name].items() if old[name][k] != v]  # fmt: skip
    if told:
        yield f"regions changed: {'; '.join(told)}"
