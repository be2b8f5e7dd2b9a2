"""Inside torch's DataLoader, forked or spawned, the batches are the loader's own, each once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from featurestore.loader import StoreLoader

FEATURES = ["kmer", "onehot"]


def contents(batches):
    return [
        (b.index.tolist(), [np.asarray(v).tobytes() for v in b.features.values()]) for b in batches
    ]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
@pytest.mark.parametrize(
    ("workers", "options"),
    [
        (0, {}),
        (2, {"multiprocessing_context": "fork"}),
        (2, {"multiprocessing_context": "fork", "persistent_workers": True}),
        (2, {"multiprocessing_context": "spawn", "persistent_workers": True}),
    ],
    ids=["none", "fork", "fork-persistent", "spawn"],
)
def test_the_same_batches_in_the_same_order(store, workers, options):
    def make() -> StoreLoader:
        return StoreLoader(store, FEATURES, batch_size=8, threads=2, cache_bytes=0)

    plain, inside = make(), make()
    next(iter(inside))  # its threads and files are in use before the fork
    inside.set_epoch(0)
    wanted = [contents(plain) for _ in range(2)]
    several = inside.workers(workers, **options)
    assert [contents(several) for _ in range(2)] == wanted


def test_a_plain_data_loader_and_its_epochs(store):
    loader = StoreLoader(store, ["kmer"], batch_size=8, tensors=False)
    dataset = loader.dataset()
    orders = []
    for epoch in range(2):
        dataset.set_epoch(epoch)
        batches = list(DataLoader(dataset, batch_size=None))
        assert isinstance(batches[0].features["kmer"], torch.Tensor)
        orders.append([i for batch in batches for i in batch.index.tolist()])
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(loader.rows))
    assert orders[0] != orders[1]
    dataset.set_epoch(1, batch=2)
    rest = [i for batch in DataLoader(dataset, batch_size=None) for i in batch.index.tolist()]
    assert rest == orders[1][16:]
