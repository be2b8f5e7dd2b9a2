"""Only what changed is computed, to the bin; ``fs plan`` foretells it, and says why."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import featurestore
from featurestore.build.engine import build
from featurestore.build.planning.estimate import estimate
from featurestore.build.workers.execute import Threads
from featurestore.cli import cli
from featurestore.errors import IncompleteStoreError
from featurestore.inputs.model import SpeciesData
from tests.builders.dataset import write_dataset
from tests.builders.species import random_species
from tests.featurestore.test_build import tree_digest
from tests.featurestore.test_variants import LINES, random_records, with_variants

EMBEDDERS = '["noting"]'
SETTINGS = '[embedders.noting]\ntype = "noting"\nwindow = {window}\ncheckpoint = "{checkpoint}"'


def write(folder: Path, *species: SpeciesData, window: int = 160, checkpoint: str = "a", names: str = EMBEDDERS) -> Path:  # fmt: skip
    """The data set; embedder settings come after the species, as TOML wants tables."""
    path = write_dataset(folder, *species, embedders=names)
    path.write_text(path.read_text() + SETTINGS.format(window=window, checkpoint=checkpoint) + "\n")
    return path


def plants(**changes) -> list[SpeciesData]:
    return [
        random_species("plant_a", genes=30, contig_bp=8000, **changes),
        random_species("plant_b", genes=20, contig_bp=8000, seed=1),
    ]


def take(one: SpeciesData, rows: list[int]) -> SpeciesData:
    """Some genes of a species."""
    assert one.expression is not None
    table = replace(one.expression, value=one.expression.value[rows])
    return replace(
        one, gene=[one.gene[i] for i in rows], locus=[one.gene[i] for i in rows],
        contig=[one.contig[i] for i in rows], strand=one.strand[rows], tss=one.tss[rows],
        tts=one.tts[rows], family=[one.family[i] for i in rows], expression=table,
    )  # fmt: skip


def digests(store: Path) -> set[bytes]:
    """Model inputs that a store has vectors of; windows without a base are no model's to see."""
    opened = featurestore.open(store)
    found: set[bytes] = set()
    empty = {hashlib.blake2b(b"\4" * n, digest_size=16).digest() for n in (160, 220)}
    for species in opened.species:
        if "noting" not in opened.embedders(species):
            continue
        rows = opened.array(species, "noting/input_digest").reshape(-1, 16)
        found |= {r.tobytes() for r in rows if r.any()} - empty
    return found


def foretold(dataset: Path, store: Path) -> dict[tuple[str, str], dict]:
    facts = estimate(dataset, store, [], [])
    return {(r["species"], r["group"]): r for r in facts["groups"]}


@pytest.fixture(scope="module")
def built_before(tmp_path_factory):
    """Builds a data set, or copies the store that an equal one gave before, with the windows it took."""
    known: dict[str, tuple[Path, list[bytes]]] = {}

    def get(dataset: Path, target: Path, noting) -> None:
        key = str(tree_digest(dataset.parent))
        if key not in known:
            whole = tmp_path_factory.mktemp("built") / target.name
            noting.seen = []
            build(dataset, whole)
            known[key] = whole, noting.seen
        shutil.copytree(known[key][0], target, symlinks=True)
        noting.seen = list(known[key][1])

    return get


@pytest.fixture
def grow(tmp_path, noting, built_before):
    return partial(_grow, tmp_path, noting, built_before)


def _grow(tmp_path: Path, noting, built_before, before: Path, after_species, **settings):
    """Build ``before``, change the data set, foretell, build, and build afresh.

    Returns what ``fs plan`` said, the result, the windows computed, and the inputs before and after.
    """
    store, fresh = tmp_path / "s.zarr", tmp_path / "fresh.zarr"
    built_before(before, store, noting)
    old, seen_before = digests(store), set(noting.seen)
    after = write(tmp_path / "in", *after_species, **settings)
    rows = foretold(after, store)
    noting.seen = []
    result = build(after, store)
    computed = list(noting.seen)
    built_before(after, fresh, noting)
    assert tree_digest(store) == tree_digest(fresh)
    assert len(computed) == len(set(computed))
    planned = {k: r for k, r in rows.items() if k[1] == "noting"}
    assert sum(r["windows_to_compute"] for r in planned.values()) == len(computed)
    taken = sum(r["shards_taken_over"] for r in rows.values())
    assert (result.taken_over, result.computed) == (taken, result.shards - taken)
    assert not (tmp_path / ".s.zarr.replaced").exists()
    return rows, computed, seen_before, old, digests(store)


def test_a_new_species_is_all_that_is_computed(tmp_path, grow):
    one, two = plants()
    rows, computed, seen, old, new = grow(write(tmp_path / "in", one), [one, two])
    assert not set(computed) & seen
    assert len(computed) == len(new - old) > 0
    assert rows["plant_a", "noting"]["shards_to_compute"] == 0
    assert rows["plant_b", "noting"]["reasons"] == ["new species"]


def test_new_genes_are_all_that_is_computed(tmp_path, grow):
    one, two = plants()
    fewer = take(one, [i for i in range(30) if i not in (3, 17, 29)])
    rows, computed, seen, old, new = grow(write(tmp_path / "in", fewer, two), [one, two])
    assert not set(computed) & seen
    assert len(computed) == len(new - old) > 0
    told = rows["plant_a", "noting"]
    assert told["reasons"] == ["3 genes new"]
    assert told["windows_from_store"] > 0
    assert rows["plant_b", "noting"]["shards_to_compute"] == 0


def test_an_annotation_release_computes_the_windows_of_what_it_moved(tmp_path, grow):
    one, two = plants()
    tss = one.tss.copy()
    tss[10] += 40 * one.strand[10]
    after = take(replace(one, tss=tss), [i for i in range(30) if i != 21])
    rows, computed, seen, old, new = grow(write(tmp_path / "in", one, two), [after, two])
    assert not set(computed) & seen
    assert len(computed) == len(new - old) > 0
    told = rows["plant_a", "noting"]
    assert told["shards_taken_over"] >= 1, "shards before the change keep their key"
    assert told["reasons"] == ["1 genes gone, 5 windows changed"]


def test_an_edited_contig_computes_the_windows_on_it_that_hold_the_edit(tmp_path, grow):
    one, two = plants()
    before = write(tmp_path / "in", one, two)
    assert one.genome is not None
    code = one.genome.code.copy()
    gene = max(i for i in range(30) if one.contig[i] == "chr3")
    place = 2 * 8000 + int(one.tss[gene])
    code[place] = (code[place] + 1) % 4
    edited = replace(one, genome=replace(one.genome, code=code))
    rows, computed, seen, old, new = grow(before, [edited, two])
    assert not set(computed) & seen
    assert 1 <= len(computed) == len(new - old) <= 12
    told = rows["plant_a", "noting"]
    assert told["shards_taken_over"] >= told["shards"] - 2, "only shards that read the base"
    [reason] = told["reasons"]
    assert "windows changed (contig chr3 differs)" in reason
    assert rows["plant_a", "genome"]["reasons"] == ["contig chr3 differs"]
    assert rows["plant_b", "genome"]["shards_to_compute"] == 0


def test_a_new_embedder_leaves_the_others_alone(tmp_path, grow):
    both = plants()
    before = write(tmp_path / "in", *both, names='["kmer"]')
    rows, computed, _, old, new = grow(before, both, names='["kmer", "noting"]')
    assert len(computed) == len(new) > len(old) == 0
    for species in ("plant_a", "plant_b"):
        assert rows[species, "noting"]["reasons"] == ["new embedder"]
        assert rows[species, "kmer"]["shards_to_compute"] == 0


@pytest.mark.parametrize(
    ("settings", "why"),
    [({"checkpoint": "b"}, "checkpoint differs: digest "), ({"window": 220}, "parameters changed: window 160 → 220")],
)  # fmt: skip
def test_another_model_computes_everything_of_its_own(tmp_path, grow, settings, why):
    both = plants()
    rows, computed, _, _, new = grow(write(tmp_path / "in", *both), both, **settings)
    assert len(computed) == len(new) > 0
    [reason] = rows["plant_a", "noting"]["reasons"]
    assert reason.startswith(why)
    assert rows["plant_a", "sequence"]["shards_to_compute"] == 0


def test_longer_regions_compute_the_bins_they_add(tmp_path, grow):
    longer = tuple(replace(r, upstream=r.upstream + 100) for r in plants()[0].regions)
    after = [replace(one, regions=longer) for one in plants()]
    before = write(tmp_path / "in", *plants())
    rows, computed, seen, old, new = grow(before, after)
    assert not set(computed) & seen
    assert len(computed) == len(new - old) > 0
    assert any("promoter upstream 400 → 500" in r for r in rows["plant_a", "noting"]["reasons"])


def test_an_interrupted_build_of_other_inputs_gives_its_bins_to_the_next(
    tmp_path, noting, monkeypatch
):
    """Finished shards of the unfinished work area are looked into, bin by bin."""
    one, two = plants()
    store = tmp_path / "s.zarr"
    dataset = write(tmp_path / "in", one, two)
    noting.fails_after = 250
    # One shard after the other: which are finished by then is then no matter of luck.
    with monkeypatch.context() as one_by_one:
        one_by_one.setattr(Threads, "limit", lambda self, costly: 1)
        with pytest.raises(IncompleteStoreError):
            build(dataset, store)
    noting.fails_after = None
    assert not store.exists()
    finished = digests_of_finished_shards(tmp_path / "s.zarr.build")
    assert 100 < len(finished) < len(noting.seen)
    # Two genes fewer: nearly every shard holds other genes, nearly every window is an old one.
    after = write(tmp_path / "in", take(one, [i for i in range(30) if i not in (0, 9)]), two)
    rows = [r for k, r in foretold(after, store).items() if k[1] == "noting"]
    noting.seen = []
    build(after, store)
    assert len(noting.seen) == len(set(noting.seen))
    computed = {hashlib.blake2b(s, digest_size=16).digest() for s in noting.seen}
    assert not computed & finished
    assert computed | finished >= digests(store)
    assert len(noting.seen) == sum(r["windows_to_compute"] for r in rows)
    assert sum(r["windows_from_work_area"] for r in rows) > 100
    build(after, tmp_path / "fresh.zarr")
    assert tree_digest(store) == tree_digest(tmp_path / "fresh.zarr")


def digests_of_finished_shards(work: Path) -> set[bytes]:
    """Inputs of the shards that have a marker, from the bytes of their files."""
    found: set[bytes] = set()
    for marker in work.glob("done/*/noting/*.json"):
        for name in json.loads(marker.read_text())["files"]:
            if "/input_digest/c/" in name:
                raw = (work / "store" / name).read_bytes()[:-4]
                found |= {raw[i : i + 16] for i in range(0, len(raw), 16)}
    return found - {bytes(16), hashlib.blake2b(b"\4" * 160, digest_size=16).digest()}


@pytest.mark.parametrize("interrupted", [False, True])
def test_more_variants_compute_the_bins_they_change(tmp_path, noting, monkeypatch, interrupted):
    monkeypatch.setattr("featurestore.schema.SHARD_ROWS", 64)
    one = random_species("plant", genes=20, seed=2)
    records = random_records(one, len(LINES), seed=2)
    store = tmp_path / "s.zarr"

    def dataset(some) -> Path:
        path = with_variants(tmp_path / "in", one, some, embedders=EMBEDDERS)
        path.write_text(path.read_text() + SETTINGS.format(window=160, checkpoint="a") + "\n")
        return path

    before = dataset(records[: len(records) // 2])
    if interrupted:
        noting.fails_after = 225
        with pytest.raises(IncompleteStoreError):
            build(before, store)
        noting.fails_after = None
    else:
        build(before, store)
    after = dataset(records)
    rows = foretold(after, store)
    noting.seen = []
    build(after, store)
    assert len(noting.seen) == len(set(noting.seen)) > 0
    assert len(noting.seen) == sum(r["windows_to_compute"] for r in rows.values())
    told = rows["plant", "variants/mutants/noting"]
    if interrupted:
        assert sum(r["shards_resumed"] + r["windows_from_work_area"] for r in rows.values()) > 0
    else:
        assert told["windows_from_store"] > 0
        assert any(r.startswith("haplotypes: ") for r in told["reasons"])
        assert rows["plant", "noting"]["shards_to_compute"] == 0
    build(after, tmp_path / "fresh.zarr")
    assert tree_digest(store) == tree_digest(tmp_path / "fresh.zarr")
    listed = json.loads(CliRunner().invoke(cli, ["ls", str(store), "--json"]).stdout)["groups"]
    [row] = [r for r in listed if r.get("variants") and r["embedder"] == "noting"]
    assert row["dims"] == ["row", "channel"]


def test_a_store_whose_vectors_are_damaged_is_computed_where_it_is(tmp_path, noting):
    """A flipped bit in the old store: that gene's bins are computed, the others looked up."""
    one, two = plants()
    store = tmp_path / "s.zarr"
    build(write(tmp_path / "in", take(one, list(range(1, 30))), two), store)
    victim = store / "plant_a/noting/embedding/c/1/0/0/0"
    raw = bytearray(victim.read_bytes())
    raw[3] ^= 1
    victim.write_bytes(raw)
    noting.seen = []
    after = write(tmp_path / "in", one, two)  # a gene before all others shifts every shard
    build(after, store)
    bins = 2 * 5
    new = len(set(noting.seen))
    assert bins < new <= 2 * bins, "the new gene's bins and those of one damaged row"
    build(after, tmp_path / "fresh.zarr")
    assert tree_digest(store) == tree_digest(tmp_path / "fresh.zarr")


def test_the_command_tells_what_and_why(tmp_path, noting):
    one, two = plants()
    store = tmp_path / "s.zarr"
    build(write(tmp_path / "in", one), store)
    dataset = write(tmp_path / "in", one, two)
    before = tree_digest(store)
    run = CliRunner().invoke(cli, ["plan", str(dataset), "--store", str(store)])
    assert run.exit_code == 0, run.output
    assert "new species" in run.output
    facts = json.loads(
        CliRunner().invoke(cli, ["plan", str(dataset), "--store", str(store), "--json"]).stdout
    )
    row = next(r for r in facts["groups"] if (r["species"], r["group"]) == ("plant_b", "noting"))
    assert row["reasons"] == ["new species"]
    assert row["windows_to_compute"] == facts["windows_to_compute"] > 0
    assert tree_digest(store) == before, "fs plan writes nothing"
    assert not (tmp_path / "s.zarr.build").exists()
    assert np.isfinite(facts["seconds"])
