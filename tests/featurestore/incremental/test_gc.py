"""``fs gc`` removes what nothing refers to, keeps what is in use or not ours, and says so."""

from __future__ import annotations

import fcntl
import gc
import json
import os
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import featurestore
from featurestore.build.engine import build
from featurestore.build.sealing.replaced import replaced_folder, replaced_trees
from featurestore.cli import cli
from tests.builders.dataset import write_dataset
from tests.builders.species import random_species
from tests.featurestore.test_build import tree_digest


def run(*args) -> dict:
    result = CliRunner().invoke(cli, ["gc", *[str(a) for a in args], "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def by_fate(facts: dict) -> tuple[set[str], set[str]]:
    gone = {Path(i["path"]).name for i in facts["items"] if i["removed"]}
    return gone, {Path(i["path"]).name for i in facts["items"] if not i["removed"]}


@pytest.fixture
def replaced(tmp_path) -> tuple[Path, list]:
    """A store that was replaced while two readers had it open; the readers are in a list."""
    store = tmp_path / "s.zarr"
    build(write_dataset(tmp_path / "in", random_species("plant", genes=20)), store)
    readers = [featurestore.open(store), featurestore.open(store)]
    build(write_dataset(tmp_path / "in", random_species("plant", genes=20, seed=5)), store)
    return store, readers


def test_a_replaced_store_stays_as_long_as_it_is_read(replaced):
    store, readers = replaced
    whole = tree_digest(store)
    [tree] = replaced_trees(store)
    size = sum(p.stat().st_size for p in tree.rglob("*") if p.is_file())
    while readers:
        facts = run(store)
        assert by_fate(facts) == (set(), {tree.name})
        assert "reader" in facts["items"][0]["why"]
        readers.pop()
        gc.collect()
    told = run(store, "--dry-run")
    assert tree.exists()
    assert told["freed_bytes"] <= size
    assert run(store)["freed_bytes"] == told["freed_bytes"] > 0
    assert not replaced_folder(store).exists()
    assert tree_digest(store) == whole
    assert run(store)["items"] == []


def test_files_that_the_store_shares_are_not_counted_as_freed(tmp_path):
    store = tmp_path / "s.zarr"
    dataset = write_dataset(tmp_path / "in", random_species("plant", genes=20))
    build(dataset, store, embedders=["onehot"])
    reader = featurestore.open(store)
    build(dataset, store, embedders=["onehot", "kmer"])  # takes every shard over
    del reader
    gc.collect()
    shared = (store / "plant/sequence/code/c/0/0/0").stat()
    assert shared.st_nlink == 2
    [tree] = replaced_trees(store)
    size = sum(p.stat().st_size for p in tree.rglob("*") if p.is_file())
    assert run(store)["freed_bytes"] <= size - shared.st_size


def test_where_the_file_system_cannot_tell_nothing_goes_unasked(replaced, monkeypatch):
    store, readers = replaced
    readers.clear()
    gc.collect()

    def refuse(descriptor, operation):
        raise OSError(37, os.strerror(37))

    monkeypatch.setattr(fcntl, "flock", refuse)
    [tree] = replaced_trees(store)
    facts = run(store)
    assert by_fate(facts) == (set(), {tree.name})
    assert "--unseen" in facts["items"][0]["why"]
    assert by_fate(run(store, "--unseen")) == ({tree.name}, set())


def test_what_dead_builds_left_goes_and_the_work_area_only_when_asked(tmp_path, monkeypatch):
    from featurestore.build import engine

    store, work = tmp_path / "s.zarr", tmp_path / "s.zarr.build"
    dataset = write_dataset(tmp_path / "in", random_species("plant", genes=20))
    build(dataset, store, embedders=["onehot"])

    def dies(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(engine, "seal", dies)
        with pytest.raises(KeyboardInterrupt):
            build(dataset, store, embedders=["kmer"])
    shutil.copytree(work, tmp_path / ".s.zarr.build.removed")
    half = replaced_folder(store) / ".0123.removed"
    half.mkdir(parents=True)
    (half / "zarr.json").write_text("{}")
    (work / "store" / ".0.partial").write_bytes(b"x" * 1000)
    (store / "plant" / "notes.txt").write_text("mine")
    assert by_fate(run(store, "--dry-run")) == by_fate(run(store))
    assert not half.exists()
    assert not (tmp_path / ".s.zarr.build.removed").exists()
    assert not (work / "store" / ".0.partial").exists()
    facts = run(store)
    assert by_fate(facts) == (set(), {"s.zarr.build", "notes.txt"})
    told = {Path(i["path"]).name: i for i in facts["items"]}
    assert "4 of 4 shards done" in told["s.zarr.build"]["what"]
    result = build(dataset, store, embedders=["kmer"])  # what was kept serves
    assert result.computed == 0
    with monkeypatch.context() as patch:
        patch.setattr(engine, "seal", dies)
        with pytest.raises(KeyboardInterrupt):
            build(write_dataset(tmp_path / "in", random_species("plant", genes=21)), store)
    (store / "plant" / "notes.txt").unlink(missing_ok=True)
    assert by_fate(run(store, "--work-area")) == ({"s.zarr.build"}, set())
    assert not work.exists()


def test_a_running_build_is_left_alone_and_no_other_folder_is_touched(tmp_path):
    from featurestore.build.sealing.lock import build_lock

    store = tmp_path / "s.zarr"
    build(write_dataset(tmp_path / "in", random_species("plant", genes=20)), store)
    with build_lock(tmp_path / "s.zarr.build"):
        (tmp_path / "s.zarr.build" / ".0.partial").write_text("being written")
        facts = run(store, "--work-area")
        assert by_fate(facts) == (set(), {"s.zarr.build"})
        assert "is running" in facts["items"][0]["why"]
        assert (tmp_path / "s.zarr.build" / ".0.partial").exists()
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "a.txt").write_text("years")
    refused = CliRunner().invoke(cli, ["gc", str(tmp_path / "thesis")])
    assert (refused.exit_code, (tmp_path / "thesis" / "a.txt").exists()) == (2, True)
    assert CliRunner().invoke(cli, ["gc", str(tmp_path / "none.zarr")]).exit_code == 2
