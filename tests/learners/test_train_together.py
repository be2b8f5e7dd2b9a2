"""Two processes that train together reach what one reaches with the same batches; the first saves."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from featurestore.errors import InputError
from learners.base import Budget
from learners.neural.distributed import Ranks, current_ranks, process_group
from learners.neural.plan import TrainingPlan
from learners.neural.rows import Rows
from learners.targets import TargetScale

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    """What two processes under torchrun left."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}  # fmt: skip
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    said = []
    # Once in some hundreds of runs torch's own threads abort (SIGABRT, "terminate called without
    # an active exception") as the group is taken down. Nothing but that is tried again, in a new
    # folder: in the old one lie checkpoints that a second run would go on from.
    for _ in range(3):
        out: Path = tmp_path_factory.mktemp("together")
        done = subprocess.run(
            [sys.executable, *launch, str(HERE / "train_together.py"), str(out)],
            env=environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        if done.returncode == 0:
            return out
        said.append(done.stderr)
        if "without an active exception" not in done.stderr:
            break
    raise AssertionError("\n\n".join(said))


@pytest.fixture
def here(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import train_together

    return train_together


@pytest.mark.parametrize("epochs", [1, 12])
def test_two_processes_are_one_with_the_same_batches(script, here, epochs):
    alone = here.fitted(epochs)
    together = here.Perceptron.load(script / str(epochs))
    test = here.data().test
    assert np.allclose(alone.predict(test), together.predict(test), atol=1e-4)
    said = [json.loads((script / f"{epochs}-{rank}.json").read_text()) for rank in range(2)]
    assert said[0] == said[1]
    assert said[0]["world"] == 2
    for one, other in zip(alone.learning_curve, said[0]["curve"], strict=True):
        assert one == pytest.approx(other, rel=1e-4)


def test_processes_take_up_together_what_was_ended(script, here):
    test = here.data().test
    whole = here.Perceptron.load(script / "12").predict(test)
    assert np.array_equal(whole, here.Perceptron.load(script / "resumed").predict(test))
    first, second = (json.loads((script / f"lines-{rank}.json").read_text()) for rank in range(2))
    assert first[0] == "taken up after epoch 4"
    assert len(first) == 1 + 12 - 4
    assert second == []  # the first process speaks for all
    assert len(list((script / "checkpoint").iterdir())) == 1


def test_shares_make_up_the_batches_of_one_process(here, monkeypatch):
    monkeypatch.setattr("learners.neural.rows.CACHE_BYTES", 0)
    train = here.data().train
    scale = TargetScale.of(train)

    def batches(rank, world):
        rows = Rows(train, scale, "cpu", Ranks(rank, world), seed=5)
        return [targets for _, targets, _ in rows.batches(TrainingPlan().batch_size, 3)]

    for whole, first, second in zip(batches(0, 1), batches(0, 2), batches(1, 2), strict=True):
        assert torch.equal(whole[0::2], first)
        assert torch.equal(whole[1::2], second)


def test_read_ahead_or_held_in_memory_is_the_same(here, monkeypatch):
    held = here.fitted(3)
    monkeypatch.setattr("learners.neural.rows.CACHE_BYTES", 0)
    streamed = here.fitted(3)
    test = here.data().test
    assert np.array_equal(held.predict(test), streamed.predict(test))


def test_alone_without_torchrun_and_half_of_it_is_refused(monkeypatch):
    for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with process_group() as ranks:
        assert ranks == current_ranks() == Ranks()
        assert ranks.alone
        assert ranks.first
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match="torchrun"), process_group():
        pass
    assert Budget().device == "cpu"
