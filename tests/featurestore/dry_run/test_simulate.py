"""The dry run against schedules worked out by hand, a scheduler of its own, and stores that were really built."""

from __future__ import annotations

import hashlib
import heapq
import json
import threading
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.growth.data import write_simulated
from featurestore.build.engine import build
from featurestore.build.workers.jobs import Job
from featurestore.cli import cli
from featurestore.embedders.registry import make_embedder
from featurestore.errors import InputError
from featurestore.inputs.model import Region
from featurestore.sample import write_sample
from featurestore.simulate import probe as simulate_probe
from featurestore.simulate.dry_run import Outcome, simulate
from featurestore.simulate.events import Costs, Crew, Played, Stage, play
from featurestore.simulate.measure import parallel_speed
from featurestore.simulate.models import spec_of_model
from featurestore.simulate.rates import GIVEN, ModelRate, Rates, load_rates
from featurestore.simulate.workload import Workload, workload_of_numbers
from featurestore.store.manifest import read_manifest

GPU = Crew(workers=1, threads=3, slots=1, gpu=True, cores=8, one_machine=False, scheduler=True)
REGIONS = (Region("promoter", "tss", 5000, 0), Region("terminator", "tts", 0, 5000))


def jobs(count: int, *, costly: bool = True, needs: str = "", gives: str = "") -> list[Job]:
    """Jobs that differ in their name alone."""
    kind = "costly" if costly else "cheap"
    return [Job(f"{gives}{kind}{i}", "shard", (), costly, needs, gives) for i in range(count)]


def timed(crew: Crew, count: int, *, costly: bool = True, disk: float = 1e9, **stages: float) -> Played:  # fmt: skip
    """Play equal jobs of the stages given."""
    seconds: dict[Stage, float] = dict(stages.items())  # type: ignore[misc]
    return play(jobs(count, costly=costly), crew, lambda job: Costs(seconds), disk_share=disk)


def test_one_after_the_other() -> None:
    alone = Crew(workers=1, threads=1, slots=1, cores=1)
    assert timed(alone, 3, model=10.0).seconds == pytest.approx(30)
    assert timed(alone, 3, prepare=1.0, model=10.0, write=2.0).seconds == pytest.approx(39)


def test_workers_share_the_jobs() -> None:
    two = Crew(workers=2, threads=1, slots=1, one_machine=False)
    assert timed(two, 3, model=10.0).seconds == pytest.approx(20)
    assert timed(two, 4, model=10.0).seconds == pytest.approx(20)
    assert timed(two, 4, model=10.0).model == pytest.approx([20, 20])


def test_the_next_is_prepared_and_the_last_written_while_the_model_computes() -> None:
    # Outside the model's time stand only the first two preparations, which share one
    # interpreter, and the last write.
    assert timed(GPU, 1, prepare=2.0, model=10.0, write=3.0).seconds == pytest.approx(2 + 10 + 3)
    assert timed(GPU, 5, prepare=2.0, model=10.0, write=3.0).seconds == pytest.approx(4 + 50 + 3)


def test_writing_slower_than_the_model_is_the_limit() -> None:
    # Two jobs share a GPU: 10 s of writing and 4 of computing each make a pair every 14 s.
    assert timed(GPU, 2, model=4.0, write=10.0).seconds == pytest.approx(4 + 4 + 10)
    assert timed(GPU, 4, model=4.0, write=10.0).seconds == pytest.approx(14 + 4 + 14)


def test_cores_are_shared() -> None:
    crew = Crew(workers=1, threads=2, slots=2, cores=1)
    assert timed(crew, 2, model=10.0).seconds == pytest.approx(20)
    assert timed(replace(crew, cores=2), 2, model=10.0).seconds == pytest.approx(10)
    both = replace(crew, cores=2, model_cores=2)
    assert timed(both, 2, model=10.0).seconds == pytest.approx(20)


def test_the_interpreter_of_a_process_serves_one_thread() -> None:
    threads = Crew(workers=1, threads=2, slots=2, cores=2)
    processes = Crew(workers=2, threads=1, slots=1, cores=2)
    assert timed(threads, 2, prepare=4.0).seconds == pytest.approx(8)
    assert timed(processes, 2, prepare=4.0).seconds == pytest.approx(4)


def test_the_disk_is_shared() -> None:
    two = Crew(workers=2, threads=1, slots=1, one_machine=False)
    assert timed(two, 2, write=10.0, disk=1.0).seconds == pytest.approx(20)
    assert timed(two, 2, write=10.0, disk=1.5).seconds == pytest.approx(10 / 0.75)
    assert timed(two, 2, write=10.0, disk=2.0).seconds == pytest.approx(10)


def test_a_model_is_loaded_once_a_worker() -> None:
    two = Crew(workers=2, threads=2, slots=1, gpu=True, cores=4, one_machine=False, scheduler=True)
    played = play(jobs(6), two, lambda job: Costs({"model": 10.0}, "m", 7.0))
    assert played.seconds == pytest.approx(7 + 30)
    one = play(jobs(6), replace(two, workers=1), lambda job: Costs({"model": 10.0}, "m", 7.0))
    assert one.seconds == pytest.approx(7 + 60)
    assert one.spent["load"] == pytest.approx(7)


def test_shards_wait_for_the_inputs_they_share() -> None:
    two = Crew(workers=2, threads=1, slots=1, one_machine=False)
    pieces, rest = jobs(1, gives="m"), jobs(2, needs="m")
    played = play(pieces + rest, two, lambda job: Costs({"model": 10.0}))
    assert played.ended[pieces[0].name] == pytest.approx(10)
    assert played.seconds == pytest.approx(20)


def test_jobs_without_a_model_do_not_wait_for_the_gpu() -> None:
    mixed = jobs(2) + jobs(1, costly=False)
    costs = {True: Costs({"model": 10.0}), False: Costs({"finish": 1.0})}
    played = play(mixed, GPU, lambda job: costs[job.costly])
    assert played.ended["cheap0"] == pytest.approx(1)
    assert played.seconds == pytest.approx(20)


def test_workers_take_no_job_before_they_have_started() -> None:
    four = Crew(workers=4, threads=1, slots=1, cores=2)
    # Four starts of 3 s on two cores take 6; then a job each, two cores for four.
    played = play(jobs(4), four, lambda job: Costs({"model": 1.0}), start_seconds=3.0)
    assert played.seconds == pytest.approx(6 + 2)


def listed(seconds: list[float], workers: int) -> float:
    """List scheduling as the textbooks have it: each job to the worker that is free first."""
    free = [0.0] * workers
    for each in seconds:
        heapq.heappush(free, heapq.heappop(free) + each)
    return max(free)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=30), st.integers(1, 6))
def test_agrees_with_list_scheduling(seconds: list[float], workers: int) -> None:
    crew = Crew(workers=workers, threads=1, slots=1, one_machine=False)
    listing = jobs(len(seconds))
    took = {job.name: each for job, each in zip(listing, seconds, strict=True)}
    played = play(listing, crew, lambda job: Costs({"model": took[job.name]}))
    assert played.seconds == pytest.approx(listed(seconds, workers), abs=1e-6)
    assert sum(played.model) == pytest.approx(sum(seconds), abs=1e-6)
    assert sorted(played.ended) == sorted(took)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(*[st.floats(0, 5)] * 4), min_size=1, max_size=12),
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 3),
)  # fmt: skip
def test_no_work_is_lost_and_none_is_done_twice(
    stages: list[tuple[float, float, float, float]], workers: int, threads: int, cores: int
) -> None:
    crew = Crew(workers=workers, threads=threads, slots=min(threads, 2), cores=cores)
    listing = jobs(len(stages))
    names: tuple[Stage, ...] = ("prepare", "model", "finish", "write")
    table = {
        job.name: dict(zip(names, each, strict=True))
        for job, each in zip(listing, stages, strict=True)
    }
    played = play(listing, crew, lambda job: Costs(table[job.name]))
    on_cores = sum(sum(each[:3]) for each in stages)
    longest = max(sum(each) for each in stages)
    assert len(played.ended) == played.jobs == len(stages)
    assert played.seconds >= max(on_cores / cores, longest) - 1e-6
    assert played.seconds <= sum(sum(each) for each in stages) + 1e-6
    for at, name in enumerate(names):  # a stage takes its own time, or longer where it shares
        assert played.spent.get(name, 0.0) >= sum(each[at] for each in stages) - 1e-6


def numbers(species: int = 3, genes: int = 3000, **more: int) -> Workload:
    """A workload of l32 on EMPRES's regions."""
    specs = {"plantcaduceus-l32": spec_of_model("plantcaduceus-l32", "empres", 250)}
    return workload_of_numbers(specs, species=species, genes=genes, regions=REGIONS, bin_bp=250, **more)  # fmt: skip


RATES = Rates().with_model("plantcaduceus-l32", ModelRate(100.0, device="cuda", load_s=10.0))


def outcome(workload: Workload, workers: int) -> Outcome:
    """On machines with one GPU each."""
    return simulate(workload, RATES, workers, cores=8, one_machine=False)


def test_more_workers_are_never_slower_and_compute_the_same() -> None:
    workload = numbers()
    found = [outcome(workload, n) for n in (1, 2, 3, 5, 8, 16, 64)]
    seconds = [o.seconds for o in found]
    assert seconds == sorted(seconds, reverse=True)
    assert len({(o.bytes, o.files, o.requests.publish, o.windows) for o in found}) == 1
    for each in found:
        # 3 species × 3,000 genes × 40 windows at 100/s, whoever computes them.
        assert each.stages["model"] == pytest.approx(3 * 3000 * 40 / 100)
        used = each.model_use * each.worker_hours * 3600
        assert used == pytest.approx(3 * 3000 * 40 / 100, rel=1e-6)
        assert each.seconds == pytest.approx(sum(p.seconds for p in each.phases))
    assert outcome(workload, 4) == outcome(workload, 4)


def test_seventeen_species_on_l32_take_the_time_of_their_windows() -> None:
    one = outcome(numbers(17, 35_000), 1)
    hours = 17 * 35_000 * 40 / 100 / 3600
    assert hours <= one.hours <= 1.02 * hours
    # 35,000 genes × 40 bins × 1,024 channels × 2 bytes, a crc32c a gene, an index entry a row of each shard.
    per_species = 35_000 * (40 * 1024 * 2 + 4)
    vectors = 17 * per_species
    assert vectors <= one.bytes_by_group["plantcaduceus-l32"] <= vectors * 1.01


def sizes_of(store: Path) -> tuple[dict[str, int], int]:
    """Bytes of the shards of each group, and number of all files, from the files of a store."""
    keys = read_manifest(store).keys
    groups = {name.split("/", 1)[1].rpartition("/")[0] for name in keys}
    sizes = dict.fromkeys(groups, 0)
    whole = {"region", "bin_start", "channel", "contig_id", "contig_start", "contig_length",
             "labelled", "sample", "tissue", "genotype", "line", "control"}  # fmt: skip
    files = [p for p in store.rglob("*") if p.is_file()]
    for path in files:
        _, _, rest = path.relative_to(store).as_posix().partition("/")
        array, is_chunk, _ = rest.partition("/c/")
        group, _, name = array.rpartition("/")
        if is_chunk and group in sizes and name not in whole:
            sizes[group] += path.stat().st_size
    return sizes, len(files)


@pytest.fixture
def quick_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is timed that a size does not follow from."""
    monkeypatch.setattr("featurestore.simulate.measure.SECONDS", 0.2)
    monkeypatch.setattr(simulate_probe, "parallel_speed", lambda cores: 1.0)
    monkeypatch.setattr(simulate_probe, "start_seconds", lambda: 1.0)
    monkeypatch.setattr(simulate_probe, "device_seconds", lambda: 1.0)
    monkeypatch.setattr(simulate_probe, "try_disk", lambda folder, writers: {})


@pytest.mark.parametrize(("one_at_a_time", "expected"), [(False, 1.0), (True, 0.25)])
def test_what_four_cores_give_together(
    monkeypatch: pytest.MonkeyPatch, one_at_a_time: bool, expected: float
) -> None:
    lock = threading.Lock() if one_at_a_time else nullcontext()

    def work(data: bytes) -> None:
        with lock:
            time.sleep(1e-4)

    monkeypatch.setattr(hashlib, "sha256", work)
    assert parallel_speed(4) == pytest.approx(expected, abs=0.37)


@pytest.mark.parametrize("lines", [0, 3])
def test_bytes_and_files_are_those_of_the_store(
    tmp_path: Path, quick_probe: None, lines: int
) -> None:
    write_sample(tmp_path / "data", genes=40, lines=lines)
    dataset, store = tmp_path / "data" / "dataset.toml", tmp_path / "s.zarr"
    workload, _ = simulate_probe.probe(dataset, store, (), (), with_cluster=False)
    assert len(workload.pending) == len(workload.plan.tasks())
    assert sorted(tmp_path.iterdir()) == [tmp_path / "data"]  # nothing stays of the trial
    build(dataset, store)
    sizes, files = sizes_of(store)
    predicted = {k: v for k, v in workload.bytes_by_group().items() if v}
    assert predicted == {k: v for k, v in sizes.items() if v}
    assert workload.data_files() + workload.metadata_files() == files
    total = sum(p.stat().st_size for p in store.rglob("*") if p.is_file())
    metadata = total - sum(sizes.values())
    assert workload.metadata_bytes() == pytest.approx(metadata, rel=0.5)
    again, _ = simulate_probe.probe(dataset, store, (), (), with_cluster=False)
    assert again.pending == ()


def test_plain_numbers_give_the_bytes_of_such_a_store(tmp_path: Path) -> None:
    dataset = write_simulated(tmp_path / "data", genes=150, species=2)
    build(dataset, tmp_path / "s.zarr")
    sizes, _ = sizes_of(tmp_path / "s.zarr")
    regions = (Region("promoter", "tss", 60, 0), Region("terminator", "tts", 0, 60))
    spec = make_embedder("kmer", {"type": "kmer", "k": [1, 2]}).spec
    workload = workload_of_numbers({"kmer": spec}, species=2, genes=75, regions=regions, bin_bp=30)
    predicted = workload.bytes_by_group()
    assert {k: predicted[k] for k in ("sequence", "kmer")} == {k: sizes[k] for k in ("sequence", "kmer")}  # fmt: skip


def test_without_a_rate_nothing_is_made_up() -> None:
    found = CliRunner().invoke(cli, ["simulate", "--species", "17", "--genes", "35000", "--embedder", "plantcaduceus-l32"])  # fmt: skip
    assert found.exit_code == 2
    assert "fs simulate --measure plantcaduceus-l32" in found.output
    with pytest.raises(InputError, match="nothing is known of its speed"):
        simulate(numbers(), Rates(), 1, cores=1, one_machine=True)


def test_the_command_says_where_each_figure_comes_from(tmp_path: Path) -> None:
    rates = tmp_path / "rates.json"
    RATES.with_machine({"write_mb_per_s": 321.0}, GIVEN).save(rates, {})
    words = ["simulate", "--species", "2", "--genes", "500", "--embedder", "plantcaduceus-l32",
             "--rates", str(rates), "--workers", "1,4"]  # fmt: skip
    told = CliRunner().invoke(cli, words)
    assert told.exit_code == 0, told.output
    assert "from rates.json: plantcaduceus-l32 100 windows/s of a GPU" in told.output
    assert "from rates.json: write_mb_per_s 321" in told.output
    assert "assumed: start_s" in told.output
    facts = json.loads(CliRunner().invoke(cli, [*words, "--json"]).output)
    assert facts["machine"]["write_mb_per_s"] == {"value": 321.0, "origin": "from rates.json"}
    assert facts["machine"]["sync_s"]["origin"] == "assumed"
    assert [o["workers"] for o in facts["outcomes"]] == [1, 4]
    assert facts["outcomes"][0]["windows"] == 2 * 500 * 40


def test_rates_are_read_as_they_were_saved_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "rates.json"
    saved = RATES.with_machine({"sync_s": 0.25}, GIVEN)
    saved.save(path, {"cores": 2})
    loaded = load_rates(path)
    assert loaded.machine == saved.machine
    assert loaded.models["plantcaduceus-l32"].windows_per_s == 100.0
    assert "write_mb_per_s" not in loaded.origin  # what was assumed is not passed on as known
    for text, told in (
        ("[]", "format"), ("nonsense", "not a file of rates"),
        ('{"format": "meristem rates 1", "machine": {"sync": 1}}', "sync_s"),
        ('{"format": "meristem rates 1", "machine": {"sync_s": -1}}', "above 0"),
        ('{"format": "meristem rates 1", "machine": {"sync_s": "1"}}', "above 0"),
        ('{"format": "meristem rates 1", "models": {"m": {"windows_per_s": 0}}}', "above 0"),
        ('{"format": "meristem rates 1", "models": {"m": {}}}', "windows_per_s"),
    ):  # fmt: skip
        path.write_text(text)
        with pytest.raises(InputError, match=told):
            load_rates(path)
