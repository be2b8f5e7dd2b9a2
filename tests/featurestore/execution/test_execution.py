"""Where a build runs changes nothing of its bytes: threads, processes, schedulers, clusters, by hand."""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner

from featurestore.build import engine
from featurestore.build.engine import build
from featurestore.build.shards.examine import culprits
from featurestore.build.shards.tasks import run_task
from featurestore.build.work_area import WorkArea
from featurestore.build.workers import execute
from featurestore.build.workers.cluster import (
    check_execution,
    cluster_class,
    local_cluster,
    parsed_options,
    start_cluster,
    visible_gpus,
)
from featurestore.build.workers.execution import Execution
from featurestore.build.workers.jobs import Job, Lanes, attempt, in_order, own_version
from featurestore.cli import cli
from featurestore.errors import (
    ClusterError,
    IncompleteStoreError,
    InputError,
    MissingDependencyError,
    StorageError,
    StoreLockedError,
)
from tests.builders.dataset import write_dataset
from tests.builders.misbehaving import install
from tests.builders.species import random_species
from tests.featurestore.test_build import tree_digest

pytestmark = [
    # Dask looks for its own address with sockets that it leaves to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
EMBEDDER = '[embedders.model]\ntype = "misbehaving"\n'


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    """An embedder plugin that workers find too: they are given this process's path."""
    folder = install(tmp_path_factory.mktemp("plugin") / "site")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setenv("PYTHONPATH", str(folder))
        yield folder


@pytest.fixture(scope="module")
def cluster(plugin):
    dask = pytest.importorskip("dask")
    importlib.import_module("distributed")  # first: its defaults would go with what is set here

    few = {"distributed.scheduler.allowed-failures": 1}  # each death costs seconds
    with dask.config.set(few), local_cluster(2, None) as started:
        yield started


def two_species(folder: Path, settings: str = "", embedders: str = '["onehot", "kmer", "model"]'):
    return write_dataset(
        folder,
        random_species("plant_a", genes=40, duplicate=True),
        random_species("plant_b", genes=24, seed=1),
        embedders=embedders, extra=EMBEDDER + settings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def small_shards():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featurestore.schema.SHARD_GENES", 8)
        yield


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, plugin, small_shards) -> Path:
    return two_species(tmp_path_factory.mktemp("inputs") / "in")


@pytest.fixture(scope="module")
def whole(tmp_path_factory, inputs) -> dict[str, str]:
    target = tmp_path_factory.mktemp("whole") / "s.zarr"
    build(inputs, target)
    return tree_digest(target)


@pytest.fixture
def dataset(tmp_path, inputs) -> Path:
    return Path(shutil.copytree(inputs.parent, tmp_path / "in")) / inputs.name


def test_any_number_of_threads_in_any_order_gives_the_same_bytes(
    tmp_path, dataset, whole, monkeypatch
):
    original = execute.in_order
    for at_once in (1, 2, 8):

        def shuffled(jobs, at_once=at_once):
            pieces = [j for j in original(jobs) if j.gives]
            rest = [j for j in original(jobs) if not j.gives]
            random.Random(at_once).shuffle(rest)
            return pieces + rest

        monkeypatch.setattr(execute, "in_order", shuffled)
        monkeypatch.setattr(execute, "cores", lambda at_once=at_once: at_once)
        target = tmp_path / f"{at_once}.zarr"
        build(dataset, target)
        assert tree_digest(target) == whole


def test_workers_of_a_scheduler_give_the_same_bytes(tmp_path, dataset, whole, cluster):
    seen = []
    build(
        dataset, tmp_path / "s.zarr", execution=Execution(scheduler=cluster.scheduler_address),
        on_task=lambda report, done, total: seen.append((done, total)),
    )  # fmt: skip
    assert tree_digest(tmp_path / "s.zarr") == whole
    assert seen == [(i + 1, len(seen)) for i in range(len(seen))]


def test_workers_that_die_delay_a_build_and_change_nothing(tmp_path, cluster, plugin, small_shards):
    path = two_species(tmp_path / "in", "seconds = 0.05\n", '["model"]')
    build(path, tmp_path / "whole.zarr")
    killed = []

    def kill(report, done, total):
        if done in (2, 5):
            pids = [worker.process.pid for worker in cluster.workers.values()]
            killed.append(next(filter(None, pids)))  # one that was killed before may not be back
            os.kill(killed[-1], signal.SIGKILL)

    target = tmp_path / "s.zarr"
    build(path, target, execution=Execution(scheduler=cluster.scheduler_address), on_task=kill)
    assert len(killed) == 2
    assert tree_digest(target) == tree_digest(tmp_path / "whole.zarr")
    assert not list(tmp_path.glob("*.build"))


@pytest.mark.nightly  # by the real command in tests/faults/test_dask.py, daily
def test_a_window_that_kills_every_worker_is_named_and_the_rest_is_done(
    tmp_path, cluster, plugin, small_shards
):
    species = random_species("plant", genes=24)
    word, gene = word_of(species, 13)
    settings = f'{EMBEDDER}word = "{word}"\nhow = "die"\n'
    path = write_dataset(tmp_path / "in", species, embedders='["kmer", "model"]', extra=settings)
    with pytest.raises(IncompleteStoreError) as caught:
        build(path, tmp_path / "s.zarr", execution=Execution(scheduler=cluster.scheduler_address))
    told = str(caught.value)
    assert "plant/model/1" in told
    assert f"gene {gene}, promoter" in told
    assert "exit code 7" in told
    assert "1 of " in told
    done = tmp_path / "s.zarr.build" / "done" / "plant"
    assert sorted(p.name for p in (done / "model").iterdir()) == ["0.json", "2.json"]
    assert len(list((done / "kmer").iterdir())) == 3


def word_of(species, gene: int) -> tuple[str, str]:
    """Bases in the middle of a bin of a gene's promoter, which no other gene has; and the gene."""
    from featurestore.sequence.iupac import decode
    from featurestore.sequence.windows import cut_window, window_span

    low, high = window_span(int(species.tss[gene]), int(species.strand[gene]), 400, 100)
    start = int(species.genome.contig_start[species.genome.contig_id.index(species.contig[gene])])
    contig = species.genome.code[start : start + 20_000]
    codes, _ = cut_window(contig, low, high, int(species.strand[gene]))
    text = decode(codes)
    at = next(i for i in range(210, 280) if set(text[i : i + 18]) <= set("ACGT"))
    return text[at : at + 18], species.gene[gene]


def test_an_exception_in_a_window_names_the_gene(tmp_path, plugin, small_shards):
    species = random_species("plant", genes=24)
    word, gene = word_of(species, 4)
    path = write_dataset(
        tmp_path / "in", species, embedders='["model"]', extra=f'{EMBEDDER}word = "{word}"\n'
    )
    with pytest.raises(IncompleteStoreError) as caught:
        build(path, tmp_path / "s.zarr")
    assert f"gene {gene}, promoter, bases 200 to 300: ArithmeticError: met the word" in str(
        caught.value
    )


@pytest.mark.parametrize("bad", [set(), {0}, {15}, {31}, {7, 40}, {36, 37}])
def test_inputs_at_fault_are_found_by_halves(bad):
    tried = []

    def fate(first, last):
        tried.append(last - first)
        return "dies" if bad & set(range(first, last)) else ""

    found = list(culprits(fate, 41, 16))
    assert {at for at, _ in found} == {min(b for b in bad if b // 16 == k) for k in {b // 16 for b in bad}}  # fmt: skip
    assert len(tried) <= 3 + 6 * len(bad)


def test_inputs_that_fail_only_together_are_told_as_such():
    assert list(culprits(lambda a, b: "too much" if b - a > 4 else "", 16, 16)) == [
        (-1, "too much")
    ]


def test_a_model_is_loaded_once_in_each_process(tmp_path, plugin, small_shards, cluster):
    seen = tmp_path / "seen"
    path = two_species(tmp_path / "in", f'seen = "{seen}"\n')
    build(path, tmp_path / "s.zarr", execution=Execution(scheduler=cluster.scheduler_address))
    loads = seen.read_text().split()
    assert len(set(loads)) == len(loads) <= 2


def test_each_worker_has_a_gpu_of_its_own_and_models_run_nowhere_else(
    tmp_path, dataset, whole, monkeypatch
):
    from distributed import Client

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert visible_gpus() == ["3", "5"]
    with local_cluster(2, "cuda") as gpus, Client(gpus) as client:
        seen = client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"])
        assert sorted(seen.values()) == ["3", "5"]
        resources = [w["resources"] for w in client.scheduler_info()["workers"].values()]
        assert resources == [{"GPU": 1}, {"GPU": 1}]
        wanted = []
        submit = Client.submit
        monkeypatch.setattr(
            Client, "submit",
            lambda self, *a, **k: wanted.append((a[2], k["resources"])) or submit(self, *a, **k),
        )  # fmt: skip
        at = Execution(scheduler=gpus.scheduler_address, device="cpu")
        build(dataset, tmp_path / "s.zarr", execution=at)
    assert tree_digest(tmp_path / "s.zarr") == whole
    models = {"/model/", "shared/model"}
    for name, resource in wanted:
        costly = any(m in name for m in models)
        assert resource == ({"GPU": 0.5} if costly else None)
    assert {True, False} == {bool(r) for _, r in wanted}


def test_a_cluster_is_started_by_name_or_by_class_and_stopped(tmp_path, dataset, whole):
    at = Execution(
        workers=1, cluster="distributed:LocalCluster",
        options={"n_workers": 0, "threads_per_worker": 2, "processes": False, "dashboard_address": None},
    )  # fmt: skip
    build(dataset, tmp_path / "s.zarr", execution=at)
    assert tree_digest(tmp_path / "s.zarr") == whole


def test_the_job_script_of_a_queue_follows_options_and_configuration(monkeypatch):
    dask = pytest.importorskip("dask")
    pytest.importorskip("dask_jobqueue")
    options = parsed_options(["cores=8", "memory=32GB", "queue=gpu", 'job_extra_directives=["--gres=gpu:1"]'])  # fmt: skip
    at = Execution(cluster="slurm", options=options, adapt=(0, 3))
    with dask.config.set({"jobqueue.slurm.walltime": "11:00:00"}), start_cluster(at) as started:
        script = started.job_script()
    for line in ("#SBATCH -p gpu", "#SBATCH --cpus-per-task=8", "#SBATCH --gres=gpu:1", "#SBATCH -t 11:00:00"):  # fmt: skip
        assert line in script
    assert "distributed.cli.dask_worker tcp://" in script


def test_mistakes_in_where_to_run_are_told_before_any_work(tmp_path, dataset):
    with pytest.raises(InputError, match="Did you mean 'slurm'"):
        check_execution(Execution(cluster="slrm"))
    with pytest.raises(MissingDependencyError, match="pip install no-such"):
        check_execution(Execution(cluster="no_such:Cluster"))
    with pytest.raises(InputError, match="no class 'Nothing'"):
        cluster_class("distributed:Nothing")
    with pytest.raises(InputError, match="tcp://node7:8786"):
        check_execution(Execution(scheduler="node7"))
    with pytest.raises(ClusterError, match="no Dask scheduler answers"):
        build(dataset, tmp_path / "s.zarr", execution=Execution(scheduler="tcp://127.0.0.1:9"))
    assert not (tmp_path / "s.zarr.build").exists()
    with pytest.raises(InputError, match="KEY=VALUE"):
        parsed_options(["queue"])
    for arguments, message in (
        (["--adapt", "5:2", "--cluster", "local"], "MIN:MAX"), (["--adapt", "0:2"], "belong to --cluster"),
        (["--scheduler", "tcp://a:1", "--cluster", "local"], "one of"), (["--scheduler", "tcp://a:1", "--workers", "2"], "--workers out"),
    ):  # fmt: skip
        shown = CliRunner().invoke(
            cli, ["build", str(dataset), "--store", str(tmp_path / "s.zarr"), *arguments]
        )
        assert (shown.exit_code, message in shown.output) == (2, True), shown.output


def test_a_worker_of_another_version_or_that_does_not_see_the_files_stops_the_build(tmp_path):
    (tmp_path / "plan.json").write_text("{}")
    arguments = ("plant/kmer/0", "shard", ("plant", "kmer", 0), None, 1, 1)
    other = attempt(str(tmp_path), *arguments, "0.0.0 (Python 3.11)")
    assert "0.0.0" in other["stop"]
    blind = attempt(str(tmp_path / "elsewhere"), *arguments, own_version())
    assert "share a file system" in blind["stop"]


def test_lanes_keep_models_apart_and_shards_behind_their_pieces():
    jobs = [
        Job("a", "shard", (), costly=True, needs="m"), Job("k", "shard", ()),
        Job("p", "piece", (), costly=True, gives="m"), Job("b", "shard", (), costly=True, needs="n"),
    ]  # fmt: skip
    lanes = Lanes(in_order(jobs))
    first = lanes.take(True, 9)
    assert first.name == "p"
    assert lanes.take(True, 9).name == "b"  # not a: its pool is still being filled
    assert lanes.take(True, 9) is None
    assert lanes.take(False, 1).name == "k"
    assert lanes.take(False, 1) is None
    lanes.landed(first)
    assert lanes.take(True, 1) is None  # b still flies
    assert lanes.take(True, 2).name == "a"
    assert lanes.flying == 3


def test_two_attempts_at_one_shard_leave_what_the_first_wrote(tmp_path, dataset, monkeypatch):
    class EnoughError(Exception):
        pass

    def enough(*_):
        raise EnoughError

    with monkeypatch.context() as patch:
        patch.setattr(engine, "run_pending", enough)
        with pytest.raises(EnoughError):
            build(dataset, tmp_path / "s.zarr")
    work = WorkArea.beside(tmp_path / "s.zarr")
    both, reports = threading.Barrier(2), []
    from featurestore.build.shards import tasks

    original = tasks.commit_turn

    def together(*arguments):
        both.wait(30)
        return original(*arguments)

    monkeypatch.setattr(tasks, "commit_turn", together)
    threads = [
        threading.Thread(target=lambda: reports.append(run_task(str(work.root), "plant_a", "model", 1)))
        for _ in range(2)
    ]  # fmt: skip
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(r["again"] for r in reports) == [False, True]
    marker = work.marker_path(tasks.Task("plant_a", "model", 1))
    for name, (size, _) in json.loads(marker.read_text())["files"].items():
        assert (work.store / name).stat().st_size == size
    assert not list(work.root.rglob("*.partial"))


_SMALL_FILES = """
import resource, sys
import featurestore.schema
featurestore.schema.SHARD_GENES = 8
from featurestore.cli import main
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1))
sys.argv[1:] = sys.argv[2:]
main()
"""


def test_no_room_stops_the_build_at_once_and_it_goes_on_with_room(tmp_path, dataset, whole):
    """The kernel refuses files beyond a size, which ends a write as a full disk does."""
    target = tmp_path / "s.zarr"
    planned = CliRunner().invoke(
        cli, ["build", str(dataset), "--store", str(target), "--plan-only"]
    )
    assert "tasks" in planned.stdout
    command = [sys.executable, "-c", _SMALL_FILES, "2000", "build-shard", str(target), "0-999"]
    stopped = subprocess.run(command, capture_output=True, text=True, check=False)
    assert stopped.returncode == 1
    assert "bytes are free" in stopped.stderr
    assert "needed" in stopped.stderr
    assert stopped.stderr.count("Error") == 1
    assert not list((tmp_path / "s.zarr.build").rglob("*.partial"))
    build(dataset, target)
    assert tree_digest(target) == whole


def test_array_jobs_give_the_same_store(tmp_path, dataset, whole):
    target, run = tmp_path / "s.zarr", CliRunner()

    def fs(*arguments):
        return run.invoke(cli, [str(a) for a in arguments])

    assert fs("build-shard", target, 0).exit_code == 2
    shown = fs("build", dataset, "--store", target, "--plan-only", "--json")
    tasks, first = (json.loads(shown.stdout)[k] for k in ("tasks", "first"))
    assert 0 < first < tasks
    early = fs("finalise", target)
    assert early.exit_code == 3
    assert f"{tasks - first} of {tasks} tasks are not done: {first}-{tasks - 1}" in early.output
    for wrong in ("x", "5-2", tasks):
        assert fs("build-shard", target, wrong).exit_code == 2
    dataset.rename(dataset.with_name("moved.toml"))  # no task and no end needs the data set
    command = [sys.executable, "-m", "featurestore", "build-shard", str(target)]
    both = [subprocess.Popen([*command, f"{i}-{tasks - 1}"], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for i in (0, 3)]  # fmt: skip
    assert [p.wait() for p in both] == [0, 0]
    assert "were already" in fs("build-shard", target, f"0-{tasks - 1}").output
    done = fs("finalise", target)
    assert done.exit_code == 0, done.output
    assert tree_digest(target) == whole
    assert not (tmp_path / "s.zarr.build").exists()


def test_nobody_plans_while_array_tasks_run(tmp_path, dataset):
    from featurestore.build.sealing.lock import build_lock, task_lock

    work = tmp_path / "s.zarr.build"
    work.mkdir()
    with task_lock(work), task_lock(work), pytest.raises(StoreLockedError, match="array tasks"):
        build(dataset, tmp_path / "s.zarr")
    with build_lock(work), pytest.raises(StoreLockedError, match="fs finalise"), task_lock(work):
        pass


def test_a_read_only_place_is_one_clear_error(tmp_path, dataset, monkeypatch):
    from featurestore.build.shards import shard_writer

    def refuses(*_):
        raise PermissionError(
            13, "Permission denied", str(tmp_path / "s.zarr.build" / "store" / "x")
        )

    monkeypatch.setattr(shard_writer, "write_rows", refuses)
    with pytest.raises(StorageError, match="Permission denied") as caught:
        build(dataset, tmp_path / "s.zarr")
    assert str(caught.value).count("Permission denied") == 1


@pytest.mark.nightly  # by the real command in tests/faults/test_dask.py, daily
def test_a_scheduler_that_dies_ends_the_build_and_the_next_goes_on(tmp_path, plugin, small_shards):
    path = two_species(tmp_path / "in", "seconds = 0.1\n", '["model"]')
    with subprocess.Popen(
        [sys.executable, "-c", _SCHEDULER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        address = process.stdout.readline().strip()

        def kill(report, done, total):
            if done == 2:
                process.kill()

        with pytest.raises(ClusterError, match="scheduler was lost"):
            build(path, tmp_path / "s.zarr", execution=Execution(scheduler=address), on_task=kill)
    result = build(path, tmp_path / "s.zarr")
    assert result.resumed >= 2
    build(path, tmp_path / "whole.zarr")
    assert tree_digest(tmp_path / "s.zarr") == tree_digest(tmp_path / "whole.zarr")


_SCHEDULER = """
if __name__ == "__main__":
    import sys
    from featurestore.build.workers.cluster import local_cluster
    with local_cluster(1, None) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()
"""
