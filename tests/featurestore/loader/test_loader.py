"""The loader gives every gene once an epoch with the values of the store, and goes on where it stood."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
import threading
import time
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import featurestore
from featurestore.errors import DamagedStoreError, InputError, UnknownNameError
from featurestore.loader import StoreLoader, prefetched

FEATURES = ["kmer", "onehot"]


def threads() -> int:
    return sum(thread.name.startswith("meristem") for thread in threading.enumerate())


def same(batch, truth, rows=None) -> None:
    """Every value of a batch is that of the store."""
    index = np.asarray(batch.index)
    where = index if rows is None else rows[index]
    assert np.array_equal(np.asarray(batch.species), truth["species"][where])
    assert np.array_equal(np.asarray(batch.row), truth["row"][where])
    for name, values in batch.features.items():
        found = np.asarray(values)
        assert found.dtype == truth[name].dtype
        assert found.tobytes() == np.ascontiguousarray(truth[name][where]).tobytes()


@pytest.mark.parametrize("cache", [0, 1 << 30], ids=["from-store", "held"])
@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("shuffle", ["global", "blocks", "no"])
def test_every_gene_once_an_epoch_with_its_values(store, truth, shuffle, prefetch, cache):
    loader = StoreLoader(
        store, FEATURES, batch_size=8, shuffle=shuffle, prefetch=prefetch, cache_bytes=cache,
        block_rows=4, buffer_rows=20,
    )  # fmt: skip
    assert loader.gene.tolist() == truth["gene"].tolist()
    orders = []
    for _ in range(2):
        batches = list(loader)  # all are held: none may be overwritten by a later one
        assert len(batches) == len(loader) == -(-len(truth["row"]) // 8)
        for batch in batches:
            same(batch, truth)
            assert isinstance(batch.features["kmer"], torch.Tensor)
        orders.append(np.concatenate([batch.index for batch in batches]).tolist())
        assert sorted(orders[-1]) == list(range(len(truth["row"])))
    assert (orders[0] == orders[1]) == (shuffle == "no")
    assert threads() == 0


def test_a_seed_gives_the_same_batches_and_another_others(store):
    def order(**options):
        loader = StoreLoader(store, ["kmer"], batch_size=5, **options)
        return [batch.index.tolist() for batch in loader]

    assert order(seed=3) == order(seed=3, prefetch=0, threads=2) == order(seed=3, cache_bytes=0)
    assert order(seed=3) != order(seed=4)


def test_threads_read_ahead_in_order(store, truth):
    loader = StoreLoader(store, FEATURES, batch_size=3, threads=3, prefetch=7, cache_bytes=0)
    wanted = [b.index.tolist() for b in StoreLoader(store, ["kmer"], batch_size=3, prefetch=0)]
    seen = []
    for batch in loader:
        same(batch, truth)
        seen.append(batch.index.tolist())
    assert seen == wanted
    assert threads() == 0


def until(true) -> None:
    """Wait for what other threads are about to do."""
    for _ in range(500):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come about")


@given(
    st.integers(1, 30), st.integers(0, 40), st.integers(0, 3), st.sampled_from(["global", "blocks"])
)
@settings(max_examples=25, deadline=None)
def test_resumed_in_mid_epoch_the_rest_is_bit_for_bit_the_same(built, size, done, depth, shuffle):
    def make() -> StoreLoader:
        return StoreLoader(
            built, FEATURES, batch_size=size, prefetch=depth, shuffle=shuffle, buffer_rows=17,
            block_rows=3, seed=5,
        )  # fmt: skip

    def frozen(batch):
        return batch.index.tolist(), [v.numpy().tobytes() for v in batch.features.values()]

    whole = make()
    wanted = [[frozen(batch) for batch in whole] for _ in range(3)]
    first, seen = make(), []
    state = first.state_dict()
    while len(seen) < done:
        for batch in first:
            seen.append(frozen(batch))
            if len(seen) == done:  # with others read ahead
                state = json.loads(json.dumps(first.state_dict()))
                break
    second = make()
    second.load_state_dict(state)
    epoch, place = state["epoch"], state["batch"]
    assert epoch * len(first) + place == done
    rest = [[frozen(batch) for batch in second] for _ in range(epoch, epoch + 2)]
    every = [batch for one in [*wanted, *future(make(), 3, epoch + 2, frozen)] for batch in one]
    assert seen == every[:done]
    assert rest[0] == every[epoch * len(first) + place : (epoch + 1) * len(first)]
    assert rest[1] == every[(epoch + 1) * len(first) : (epoch + 2) * len(first)]


def future(loader, start, end, frozen):
    """Epochs ``start`` … ``end`` − 1 of a loader that is set to them."""
    for epoch in range(start, end):
        loader.set_epoch(epoch)
        yield [frozen(batch) for batch in loader]


def test_a_state_of_other_settings_is_refused_by_name(store):
    state = StoreLoader(store, ["kmer"], batch_size=4).state_dict()
    for options in ({"batch_size": 5}, {"batch_size": 4, "seed": 1}, {"batch_size": 4, "genes": {"beta": [1, 2]}}):  # fmt: skip
        with pytest.raises(InputError, match="another loader"):
            StoreLoader(store, ["kmer"], **options).load_state_dict(state)


def test_an_epoch_left_half_way_is_not_begun_again(store):
    loader = StoreLoader(store, ["kmer"], batch_size=8, cache_bytes=0)
    first = next(iter(loader)).index.tolist()
    assert loader.state_dict()["batch"] == 1
    second = next(iter(loader)).index.tolist()
    assert loader.epoch == 1
    assert first != second
    loader.set_epoch(0)
    assert next(iter(loader)).index.tolist() == first
    loader.close()
    assert threads() == 0


def test_left_half_way_no_thread_stays(store):
    loader = StoreLoader(store, FEATURES, batch_size=2, cache_bytes=0)
    for _ in range(5):
        for _ in loader:
            break
    gc.collect()
    until(lambda: threads() == 0)
    kept = iter(loader)
    next(kept)
    assert threads() == 2
    again = iter(loader)  # a new epoch ends the one before, though its iterator is held
    next(again)
    assert threads() == 2
    loader.close()
    assert threads() == 0
    assert list(kept) == []


def test_a_damaged_shard_is_an_error_of_the_consumer(built, tmp_path):
    path = shutil.copytree(built, tmp_path / "s.zarr")
    shard = next(p for p in sorted((path / "alpha/kmer/embedding/c").rglob("*")) if p.is_file())
    data = bytearray(shard.read_bytes())
    for place in range(0, len(data) - 2000, 50):
        data[place] ^= 1
    shard.write_bytes(bytes(data))
    loader = StoreLoader(path, ["kmer"], batch_size=4, cache_bytes=0)
    with pytest.raises(DamagedStoreError):
        list(loader)
    assert threads() == 0


@pytest.mark.parametrize("count", [1, 3])
def test_an_error_comes_in_its_place_and_once(count):
    def task(number):
        time.sleep(0.02 if number == 1 else 0)
        if number == 2:
            raise RuntimeError("third")
        return number

    ahead = prefetched((lambda n=n: task(n) for n in range(9)), 5, count)
    assert [next(ahead), next(ahead)] == [0, 1]
    with pytest.raises(RuntimeError, match="third"):
        next(ahead)
    assert list(ahead) == []
    assert threads() == 0


def test_an_error_of_asking_for_tasks_comes_too():
    def tasks():
        yield lambda: 1
        raise RuntimeError("no more")

    ahead = prefetched(tasks(), 2, 2)
    assert next(ahead) == 1
    with pytest.raises(RuntimeError, match="no more"):
        next(ahead)
    assert threads() == 0


@given(st.integers(0, 40), st.integers(1, 6), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_results_come_in_order_whichever_is_done_first(n, depth, count):
    waits = np.random.default_rng(n).random(n) / 500

    def task(number):
        time.sleep(waits[number])
        return number

    assert list(prefetched((lambda i=i: task(i) for i in range(n)), depth, count)) == list(range(n))
    assert threads() == 0


@pytest.mark.parametrize("count", [1, 2])
def test_reading_ahead_is_bounded_and_closes_what_it_reads(count):
    given_out, closed = [], threading.Event()

    def tasks():
        try:
            for i in range(1000):
                given_out.append(i)
                yield lambda i=i: i
        finally:
            closed.set()

    ahead = prefetched(tasks(), 3, count)
    assert next(ahead) == 0
    time.sleep(0.1)
    assert len(given_out) == 4
    ahead.close()
    assert closed.is_set()
    assert list(ahead) == []
    assert threads() == 0


def test_memory_of_a_batch_is_used_again_only_when_nobody_holds_it(store, truth):
    loader = StoreLoader(store, ["kmer"], batch_size=4, cache_bytes=0, prefetch=0)
    places, held, parts = set(), [], []
    for epoch in range(10):
        for number, batch in enumerate(loader):
            places.add(batch.features["kmer"].data_ptr())
            if number == epoch:
                held.append(batch)
                parts.append((batch.index, batch.features["kmer"][1:, 0]))  # a view is enough
            del batch
    assert len(places) < 10 + 10
    for batch in held:
        same(batch, truth)
    del held
    for index, part in parts:
        assert np.array_equal(part.numpy(), truth["kmer"][index.numpy()][1:, 0])


def test_memory_stays_flat_over_many_epochs(store):
    few = {"alpha": np.arange(0, 50, 5), "beta": np.arange(0, 37, 6)}  # from every shard
    loader = StoreLoader(store, FEATURES, batch_size=8, genes=few, cache_bytes=0, shuffle="blocks")
    size = []
    tracemalloc.start()
    try:
        for epoch in range(40):
            for _ in loader:
                pass
            if epoch in (2, 39):
                gc.collect()
                size.append(tracemalloc.get_traced_memory()[0])
    finally:
        tracemalloc.stop()
    batch = sum(v.nbytes for v in next(iter(loader)).features.values())
    loader.close()
    # How many batches are being read at the end of an epoch is a matter of timing, ten at most; one
    # an epoch that is not let go would be 37 of them.
    assert size[1] - size[0] < 15 * batch


def test_some_genes_in_the_order_asked_for(store, truth):
    names = store.genes("beta").gene[[5, 2, 9]].tolist()
    loader = StoreLoader(
        store, ["kmer"], genes={"beta": names, "alpha": np.array([7])}, shuffle="no", tensors=False
    )
    (batch,) = loader
    assert loader.gene.tolist() == [*names, store.genes("alpha").gene[7]]
    assert loader.species == ["beta", "alpha"]
    assert batch.row.tolist() == [5, 2, 9, 7]
    assert np.array_equal(batch.features["kmer"][1], store.features("beta", "kmer")[2])


def test_targets_by_gene_and_by_species(store, truth):
    n = len(truth["row"])
    mine = np.random.default_rng(0).normal(size=(n, 2)).astype(np.float32)
    for batch in StoreLoader(store, ["kmer"], targets=mine, batch_size=7):
        assert np.array_equal(batch.targets.numpy(), mine[batch.index.numpy()])
    every = {
        s: np.arange(len(store.genes(s).gene)) + 100.0 * i for i, s in enumerate(store.species)
    }
    for batch in StoreLoader(store, ["kmer"], targets=every, batch_size=7):
        assert batch.targets.shape[1] == 1
        wanted = batch.row.numpy() + 100 * batch.species.numpy()
        assert np.array_equal(batch.targets[:, 0].numpy(), wanted.astype(np.float32))


@pytest.mark.parametrize("tensors", [True, False])
def test_numbers_are_cast_and_codes_are_not(store, truth, tensors):
    loader = StoreLoader(store, FEATURES, dtype="float32", tensors=tensors, batch_size=9)
    for batch in loader:
        kmer, codes = (np.asarray(batch.features[name]) for name in FEATURES)
        assert kmer.dtype == np.float32
        assert codes.dtype == np.uint8
        assert np.array_equal(kmer, truth["kmer"][np.asarray(batch.index)].astype(np.float32))
    half = next(iter(StoreLoader(store, ["kmer"], dtype=torch.bfloat16)))
    assert half.features["kmer"].dtype == torch.bfloat16


def test_drop_last_and_ranks(store, truth):
    n = len(truth["row"])
    assert [len(b.index) for b in StoreLoader(store, ["kmer"], batch_size=16, drop_last=True)] == [16] * (n // 16)  # fmt: skip
    ranks = [StoreLoader(store, FEATURES, batch_size=7, rank=r, world_size=3) for r in range(3)]
    single = StoreLoader(store, FEATURES, batch_size=21)
    for whole, *parts in zip(single, *ranks, strict=True):
        new = [i for p in parts for i in p.index[: len(p.index) - p.repeated].tolist()]
        assert sorted(new) == sorted(whole.index.tolist())
        assert len({len(p.index) for p in parts}) == 1
        for part in parts:
            same(part, truth)


def test_ranks_share_a_block_shuffle(store, truth):
    ranks = [
        StoreLoader(
            store, ["kmer"], batch_size=4, rank=r, world_size=3, shuffle="blocks", block_rows=3,
            buffer_rows=10, cache_bytes=0,
        )
        for r in range(3)
    ]  # fmt: skip
    seen = []
    for parts in zip(*ranks, strict=True):
        for part in parts:
            same(part, truth)
            seen += part.index[: len(part.index) - part.repeated].tolist()
    assert sorted(seen) == list(range(len(truth["row"])))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"features": ["kmre"]}, "kmer"),
        ({"features": []}, "no features"),
        ({"features": ["kmer", "kmer"]}, "twice"),
        ({"species": ["alhpa"]}, "alpha"),
        ({"genes": {"alpha": ["nobody"]}}, "nobody"),
        ({"genes": {"alpha": [1, 1]}}, "twice"),
        ({"genes": {"alpha": [1000]}}, "1000"),
        ({"genes": {"alpha": []}}, "no gene"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"rank": 2, "world_size": 2}, "rank 2"),
        ({"shuffle": "yes"}, "shuffle"),
        ({"dtype": "floatish"}, "floatish"),
        ({"targets": np.zeros(3)}, "3 rows"),
        ({"targets": {"alpha": np.zeros(50)}}, "beta"),
        ({"targets": {"alpha": np.zeros(50), "beta": np.zeros(3)}}, "3 rows"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_read(store, options, words):
    with pytest.raises((InputError, UnknownNameError), match=words):
        StoreLoader(store, **({"features": ["kmer"]} | options))


@pytest.mark.skipif(torch.cuda.is_available(), reason="says what is missing without CUDA")
def test_cuda_that_is_not_there_is_said(store):
    for options in ({"device": "cuda"}, {"pin_memory": True}):
        with pytest.raises(InputError, match="CUDA"):
            StoreLoader(store, ["kmer"], **options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_batches_arrive_on_cuda(store, truth):
    loader = StoreLoader(store, FEATURES, batch_size=8, device="cuda", dtype="float32")
    for _ in range(3):
        for batch in loader:
            wanted = truth["kmer"][batch.index.numpy()].astype(np.float32)
            assert np.array_equal(batch.features["kmer"].cpu().numpy(), wanted)


def test_torch_is_imported_only_for_tensors(built):
    code = (
        "import sys, featurestore.loader as l\n"
        f"x = l.StoreLoader({str(built)!r}, ['kmer'], tensors=False)\n"
        "n = sum(len(b.row) for b in x)\n"
        "print(n, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split()[1] == "False"


def test_an_open_store_or_its_path(built):
    one, other = (next(iter(StoreLoader(s, ["kmer"]))) for s in (built, featurestore.open(built)))
    assert torch.equal(one.features["kmer"], other.features["kmer"])
