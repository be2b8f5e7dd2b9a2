"""Builds: complete, resumable at any instant, never computing twice, excluding each other."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import featurestore
from featurestore.build import engine
from featurestore.build.engine import build
from featurestore.build.sealing.lock import build_lock
from featurestore.embedders.random_conv import RandomConv
from featurestore.errors import InputError, StoreLockedError
from featurestore.inputs.problems import DataSetError
from featurestore.sequence.iupac import decode
from featurestore.store.verify import repair
from tests.builders.dataset import write_dataset
from tests.builders.species import random_species
from tests.oracles import windows as oracle


def tree_digest(root: Path) -> dict[str, str]:
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(root.rglob("*"))
        if p.is_file()
    }


@pytest.fixture
def small_shards(monkeypatch):
    """Sixteen genes a shard, so that small data have many shards."""
    monkeypatch.setattr("featurestore.schema.SHARD_GENES", 16)


@pytest.fixture
def dataset(tmp_path) -> Path:
    return write_dataset(
        tmp_path / "in",
        random_species("plant_a", genes=70),
        random_species("plant_b", genes=40, seed=1),
    )


def test_every_window_in_the_store_is_the_one_looked_up_base_by_base(
    tmp_path, dataset, small_shards
):
    build(dataset, tmp_path / "s.zarr")
    store = featurestore.open(tmp_path / "s.zarr")
    for species in store.species:
        genes = store.genes(species)
        names = store.text(species, "genome/contig_id").tolist()
        starts, lengths = (
            store.array(species, "genome/contig_start"),
            store.array(species, "genome/contig_length"),
        )
        genome = store.array(species, "genome/code")
        contigs = {
            n: decode(genome[s : s + k]) for n, s, k in zip(names, starts, lengths, strict=True)
        }
        codes, padded = store.features(species, "onehot"), store.array(species, "sequence/padded")
        for i in range(len(genes.gene)):
            low, high = sorted((int(genes.tss[i]), int(genes.tts[i])))
            for r, (anchor, up, down) in enumerate([("tss", 400, 100), ("tts", 100, 400)]):
                contig = contigs[str(genes.contig[i])]
                want = oracle.window(contig, low, high - 1, int(genes.strand[i]), anchor, up, down)
                assert decode(codes[i, r]) == want
                assert padded[i, r] <= want.count("N")


def test_kmer_features_follow_from_the_stored_bases(tmp_path, dataset, small_shards):
    build(dataset, tmp_path / "s.zarr")
    store = featurestore.open(tmp_path / "s.zarr")
    codes = store.features("plant_a", "onehot")
    got = store.features("plant_a", "kmer")
    channel = store.text("plant_a", "kmer/channel").tolist()
    for gene, region, position, word in [(3, 0, 2, "A"), (9, 1, 0, "GC"), (60, 1, 4, "TTA")]:
        text = decode(codes[gene, region, position * 100 : (position + 1) * 100])
        words = [text[i : i + len(word)] for i in range(len(text) - len(word) + 1)]
        countable = [w for w in words if set(w) <= set("ACGT")]
        want = countable.count(word) / len(countable)
        assert got[gene, region, position, channel.index(word)] == pytest.approx(want, abs=1e-3)


def test_the_same_inputs_give_the_same_bytes_on_threads_and_processes(
    tmp_path, dataset, small_shards
):
    build(dataset, tmp_path / "a.zarr")
    build(dataset, tmp_path / "b.zarr")
    assert tree_digest(tmp_path / "a.zarr") == tree_digest(tmp_path / "b.zarr")


@pytest.mark.slow
def test_worker_processes_give_the_same_bytes(tmp_path, dataset):
    build(dataset, tmp_path / "a.zarr")
    run = subprocess.run(
        [sys.executable, "-m", "featurestore", "build", str(dataset), "--store", str(tmp_path / "b.zarr"), "--workers", "2"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert tree_digest(tmp_path / "a.zarr") == tree_digest(tmp_path / "b.zarr")


def test_a_second_build_has_nothing_to_do(tmp_path, dataset):
    build(dataset, tmp_path / "s.zarr")
    before = tree_digest(tmp_path / "s.zarr")
    assert build(dataset, tmp_path / "s.zarr").up_to_date
    assert tree_digest(tmp_path / "s.zarr") == before
    assert not (tmp_path / "s.zarr.build").exists()


_KILLED_BUILD = """
import sys
import featurestore.schema
featurestore.schema.SHARD_GENES = 16
import featurestore.build.shards.tasks as tasks, featurestore.build.workers.execute as execute
from featurestore.build.engine import build
from pathlib import Path
import time
original = tasks.run_task
def slow(*args):                        # spreads the instants of the kill over all stages
    time.sleep(0.01)
    return original(*args)
execute.run_task = slow
build(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_build_killed_at_ten_random_instants_gives_the_bytes_of_one_never_killed(
    tmp_path, dataset, small_shards
):
    build(dataset, tmp_path / "never.zarr")
    target = tmp_path / "killed.zarr"
    rng = random.Random(7)
    finished_before: dict[str, int] = {}
    kills = 0
    while kills < 10:
        process = subprocess.Popen([sys.executable, "-c", _KILLED_BUILD, str(dataset), str(target)])
        done = target.with_name("killed.zarr.build") / "done"
        _wait_for(lambda done=done, process=process: done.exists() or process.poll() is not None)
        time.sleep(rng.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
        if target.exists():  # it had finished: start over, the next kill comes earlier
            assert tree_digest(target) == tree_digest(tmp_path / "never.zarr")
            subprocess.run(["rm", "-rf", str(target)], check=True)
            finished_before = {}
            continue
        markers = (
            {str(p): p.stat().st_mtime_ns for p in done.rglob("[!.]*.json")}
            if done.exists()
            else {}
        )
        for path, stamp in finished_before.items():
            assert markers.get(path) == stamp, "a finished shard was computed again"
        finished_before = markers
    result = build(dataset, target)
    assert result.resumed == len(finished_before)
    assert tree_digest(target) == tree_digest(tmp_path / "never.zarr")
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith((".", "killed"))) == [
        "killed.zarr", "killed.zarr.log.jsonl",
    ]  # fmt: skip


def _wait_for(condition, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "timed out"
        time.sleep(0.005)


def test_two_builds_of_one_store_exclude_each_other(tmp_path, dataset):
    code = (
        "import sys, time; from pathlib import Path; from featurestore.build.sealing.lock import build_lock\n"
        "with build_lock(Path(sys.argv[1])):\n    print('held', flush=True); time.sleep(60)"
    )
    work = tmp_path / "s.zarr.build"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(work)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreLockedError, match=f'"pid": {holder.pid}'):
            build(dataset, tmp_path / "s.zarr")
    finally:
        holder.kill()
        holder.wait()
        if holder.stdout:
            holder.stdout.close()
    assert (work / "lock").exists(), "the dead process left its lock behind"
    assert not build(dataset, tmp_path / "s.zarr").up_to_date


def test_the_lock_is_free_again_after_use(tmp_path):
    for _ in range(2):
        with build_lock(tmp_path / "w"):
            assert json.loads((tmp_path / "w" / "lock").read_text())["pid"] == os.getpid()


class _Counting(RandomConv):
    """Counts the windows that the model sees, without the padding of batches."""

    seen: list[bytes] = []  # noqa: RUF012 - shared by all instances on purpose

    def embed(self, codes):
        type(self).seen += [row.tobytes() for row in codes if (row < 4).any()]
        return super().embed(codes)


@pytest.fixture
def counting(monkeypatch):
    pytest.importorskip("torch", reason="the random embedder needs torch")
    import featurestore.embedders.registry as registry
    from featurestore.build.shards import tasks

    original = registry.embedder_class
    monkeypatch.setattr(
        registry, "embedder_class", lambda name: _Counting if name == "random" else original(name)
    )
    tasks._embedder.cache_clear()
    _Counting.seen = []
    yield _Counting
    tasks._embedder.cache_clear()


def test_equal_model_inputs_are_computed_once(tmp_path, small_shards, counting):
    twin = random_species("twin", genes=60, duplicate=True)
    path = write_dataset(tmp_path / "in", twin, embedders='["random"]')
    build(path, tmp_path / "s.zarr")
    assert len(counting.seen) == len(set(counting.seen)) > 0
    store = featurestore.open(tmp_path / "s.zarr")
    digests = store.array("twin", "random/input_digest").reshape(-1, 16)
    distinct = {d.tobytes() for d in digests if d.any()}
    assert len(counting.seen) == len(distinct) < len(digests)
    # and a duplicated gene has the same vectors
    codes, vectors = store.features("twin", "onehot"), store.features("twin", "random")
    first, second = next(
        (a, b) for a in range(60) for b in range(a) if (codes[a] == codes[b]).all()
    )
    np.testing.assert_array_equal(vectors[first], vectors[second])


def test_a_changed_gene_recomputes_the_bins_it_touches_and_no_other(
    tmp_path, small_shards, counting
):
    one = random_species("plant", genes=40)
    build(write_dataset(tmp_path / "in", one, embedders='["random"]'), tmp_path / "s.zarr")
    before = set(counting.seen)
    place = int(one.tss[20]) - 30 if one.strand[20] > 0 else int(one.tss[20]) + 30
    offset = int(one.genome.contig_start[one.genome.contig_id.index(one.contig[20])])
    one.genome.code[offset + place] = (one.genome.code[offset + place] + 1) % 4
    path = write_dataset(tmp_path / "in", one, embedders='["random"]')
    counting.seen = []
    result = build(path, tmp_path / "s.zarr")
    assert not result.up_to_date
    assert 1 <= len(counting.seen) <= 6  # genes overlap: the base may lie in several windows
    assert not set(counting.seen) & before
    fresh = build(path, tmp_path / "fresh.zarr")
    assert fresh.digest == result.digest
    assert tree_digest(tmp_path / "fresh.zarr") == tree_digest(tmp_path / "s.zarr")


def test_a_new_embedder_is_added_and_the_others_are_taken_over(tmp_path, dataset, small_shards):
    build(dataset, tmp_path / "s.zarr", embedders=["onehot"])
    result = build(dataset, tmp_path / "s.zarr", embedders=["kmer"])
    assert result.taken_over > 0
    assert result.computed == result.shards - result.taken_over
    build(dataset, tmp_path / "both.zarr", embedders=["onehot", "kmer"])
    assert tree_digest(tmp_path / "s.zarr") == tree_digest(tmp_path / "both.zarr")


def test_a_damaged_shard_is_not_taken_over_but_computed_again(tmp_path, dataset, small_shards):
    build(dataset, tmp_path / "s.zarr", embedders=["onehot"])
    victim = tmp_path / "s.zarr/plant_a/sequence/code/c/1/0/0"
    raw = bytearray(victim.read_bytes())
    raw[10] ^= 4
    victim.write_bytes(raw)
    build(dataset, tmp_path / "s.zarr", embedders=["kmer"])
    build(dataset, tmp_path / "both.zarr")
    assert tree_digest(tmp_path / "s.zarr") == tree_digest(tmp_path / "both.zarr")


def test_a_species_may_be_built_alone_and_the_other_later(tmp_path, dataset):
    build(dataset, tmp_path / "s.zarr", species=["plant_b"])
    assert featurestore.open(tmp_path / "s.zarr").species == ["plant_b"]
    build(dataset, tmp_path / "s.zarr", species=["plant_a"])
    assert featurestore.open(tmp_path / "s.zarr").species == ["plant_a", "plant_b"]


def test_nothing_is_dropped_silently(tmp_path, dataset):
    build(dataset, tmp_path / "s.zarr")
    alone = write_dataset(tmp_path / "in2", random_species("plant_a", genes=70))
    with pytest.raises(InputError, match="plant_b"):
        build(alone, tmp_path / "s.zarr")
    assert featurestore.open(tmp_path / "s.zarr").species == ["plant_a", "plant_b"]


def test_mistakes_are_told_before_any_work(tmp_path, dataset):
    (dataset.parent / "plant_a.fa").unlink()
    (dataset.parent / "plant_b.tsv").write_text("gene\ts0\nG00000\tmany\n")
    with pytest.raises(DataSetError) as caught:
        build(dataset, tmp_path / "s.zarr")
    assert len(caught.value.problems) >= 2
    assert "plant_a.fa" in str(caught.value)
    assert "many" in str(caught.value)
    assert not (tmp_path / "s.zarr").exists()


def test_values_float16_cannot_hold_are_failures_that_are_told(
    tmp_path, dataset, monkeypatch, counting
):
    def overflow(self, codes):
        values = np.zeros((len(codes), 128), np.float32)
        values[(codes[:, :20] == codes[0, :20]).all(axis=1)] = 1e6
        return {"embedding": values}

    monkeypatch.setattr(_Counting, "embed", overflow)
    result = build(dataset, tmp_path / "s.zarr", embedders=["random"])
    assert result.failures
    assert "65,504" in result.failures[0]
    store = featurestore.open(tmp_path / "s.zarr")
    fine = store.feature_status("plant_a", "random")
    assert not fine.all()
    vectors = store.features("plant_a", "random")
    assert np.isfinite(vectors[fine]).all()
    reasons = store.feature_status_reason("plant_a", "random")
    assert all(("failed" in r) == (not ok) for r, ok in zip(reasons, fine, strict=True))
    embedded = next(s for s in store.funnel("plant_a") if s["stage"] == "embedded")
    assert sum(lost["count"] for lost in embedded["lost"]) == (~fine).sum()


def test_the_log_beside_the_store_holds_what_depends_on_time(tmp_path, dataset):
    build(dataset, tmp_path / "s.zarr")
    records = [
        json.loads(line) for line in (tmp_path / "s.zarr.log.jsonl").read_text().splitlines()
    ]
    assert records[-1]["event"] == "built"
    inside = b"".join(p.read_bytes() for p in (tmp_path / "s.zarr").rglob("zarr.json"))
    assert str(tmp_path).encode() not in inside


def test_the_request_names_unknown_species_and_embedders(tmp_path, dataset):
    with pytest.raises(InputError, match="Did you mean 'plant_a'"):
        build(dataset, tmp_path / "s.zarr", species=["plant_A"])
    with pytest.raises(InputError, match="Did you mean 'kmer'"):
        build(dataset, tmp_path / "s.zarr", embedders=["kmers"])
    assert engine.WorkArea.beside(tmp_path / "s.zarr").root.name == "s.zarr.build"


def test_a_folder_that_is_no_store_is_never_replaced(tmp_path, dataset):
    thesis = tmp_path / "p"
    thesis.mkdir()
    (thesis / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not a store"):
        build(dataset, thesis)
    (thesis / "manifest.json").write_text("{}")
    with pytest.raises(InputError, match="not a store"):
        build(dataset, thesis)
    with pytest.raises(InputError, match="lies inside it"):
        build(dataset, dataset.parent)
    with pytest.raises(InputError, match="not a store"):
        build(dataset, dataset.parent / "plant_a.fa")
    with pytest.raises(InputError, match="not a store"):
        repair(thesis)
    assert sorted(p.name for p in thesis.iterdir()) == ["manifest.json", "thesis.txt"]


@pytest.mark.parametrize("victim", ["manifest.json", "zarr.json", "plant_a/random/zarr.json"])
def test_what_a_damaged_store_held_is_built_again_not_dropped(tmp_path, dataset, victim):
    pytest.importorskip("torch", reason="the random embedder needs torch")
    store = tmp_path / "s.zarr"
    build(dataset, store, embedders=["kmer", "random"])
    whole = tree_digest(store)
    raw = bytearray((store / victim).read_bytes())
    raw[len(raw) // 2] ^= 1
    (store / victim).write_bytes(raw)
    repair(store)
    build(dataset, store, species=["plant_b"], embedders=["kmer"])
    assert tree_digest(store) == whole


def test_a_link_to_a_store_is_that_store(tmp_path, dataset):
    build(dataset, tmp_path / "real.zarr", embedders=["onehot"])
    (tmp_path / "link.zarr").symlink_to(tmp_path / "real.zarr")
    build(dataset, tmp_path / "link.zarr", embedders=["kmer"])
    assert (tmp_path / "link.zarr").is_symlink()
    assert featurestore.open(tmp_path / "real.zarr").embedders("plant_a") == ["onehot", "kmer"]


def test_a_kill_around_the_exchange_is_recovered(tmp_path, dataset, monkeypatch):
    """Stopped after the exchange: the work area holds the old store under markers of the new one."""
    from featurestore.build import engine as module

    store = tmp_path / "s.zarr"
    build(dataset, store, embedders=["onehot"])

    def dies(self):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.WorkArea, "remove", dies)
        with pytest.raises(KeyboardInterrupt):
            build(dataset, store, embedders=["kmer"])
    assert (tmp_path / "s.zarr.build").exists()
    assert build(dataset, store, embedders=["kmer"]).up_to_date
    assert not (tmp_path / "s.zarr.build").exists()
    with monkeypatch.context() as patch:
        patch.setattr(module.WorkArea, "remove", dies)
        (dataset.parent / "plant_b.families.tsv").write_text("gene\tfamily\nG00000\tX\n")
        with pytest.raises(KeyboardInterrupt):
            build(dataset, store)
    build(dataset, store, species=["plant_a"], embedders=["onehot"])
    build(dataset, tmp_path / "fresh.zarr")
    assert tree_digest(store) == tree_digest(tmp_path / "fresh.zarr")


def test_without_an_exchange_of_the_kernel_a_kill_between_two_renames_loses_nothing(
    tmp_path, dataset, monkeypatch
):
    from featurestore.build.sealing import finalise

    store = tmp_path / "s.zarr"
    build(dataset, store, embedders=["onehot", "kmer"])
    whole = tree_digest(store)
    aside = finalise.between(store)
    aside.parent.mkdir()
    store.rename(aside)  # the instant between the two renames
    assert not store.exists()
    assert build(dataset, store, embedders=["onehot"]).digest == featurestore.open(store).digest
    assert tree_digest(store) == whole
    monkeypatch.setattr(finalise, "_exchange", lambda one, other: False)
    (dataset.parent / "plant_b.families.tsv").write_text("gene\tfamily\nG00000\tX\n")
    build(dataset, store)
    build(dataset, tmp_path / "fresh.zarr")
    assert tree_digest(store) == tree_digest(tmp_path / "fresh.zarr")


def test_a_finished_shard_that_was_damaged_since_is_mended_in_the_same_run(
    tmp_path, dataset, small_shards, monkeypatch
):
    from featurestore.build import engine as module

    store = tmp_path / "s.zarr"

    def dies(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module, "seal", dies)
        with pytest.raises(KeyboardInterrupt):
            build(dataset, store)
    shard = tmp_path / "s.zarr.build/store/plant_a/kmer/embedding/c/1/0/0/0"
    raw = bytearray(shard.read_bytes())
    raw[7] ^= 1
    shard.write_bytes(raw)
    assert build(dataset, store).computed == 1
    build(dataset, tmp_path / "fresh.zarr")
    assert tree_digest(store) == tree_digest(tmp_path / "fresh.zarr")


def test_mistakes_in_embedders_are_told_before_any_work(tmp_path, dataset):
    text = dataset.read_text()
    for name, settings, what in (
        ("family", 'type = "kmer"', "group of the store itself"), ('"k.4"', 'type = "kmer"', "letters, digits"),
        ("k", 'type = "kmer"\nkk = 3', "Did you mean 'k'"),
    ):  # fmt: skip
        key = name.strip('"')
        bad = (
            text.replace('["onehot", "kmer"]', f'["{key}"]') + f"\n[embedders.{name}]\n{settings}\n"
        )
        dataset.write_text(bad)
        with pytest.raises(InputError, match=what):
            build(dataset, tmp_path / "s.zarr")
        assert not (tmp_path / "s.zarr.build").exists()
