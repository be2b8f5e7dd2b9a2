"""Everything before the first shard: inputs read and laid down, shards planned, what is there taken over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from featurestore.build.planning.group_plan import BuildPlan, SpeciesPlan, Task
from featurestore.build.planning.held import stored_species
from featurestore.build.planning.plan import plan_species
from featurestore.build.planning.request import Request
from featurestore.build.planning.room import check_room
from featurestore.build.reuse.aside import index_set_aside, set_aside
from featurestore.build.reuse.existing import index_known_bins, readable_manifest, take_over
from featurestore.build.windows.laid_down import lay_down_species, species_stamp, taken_up
from featurestore.build.work_area import WorkArea
from featurestore.inputs.dataset import DatasetConfig
from featurestore.inputs.load import load_species
from featurestore.inputs.model import SpeciesData
from featurestore.inputs.problems import Problems
from featurestore.store.reader import open_store


@dataclass(frozen=True)
class Prepared:
    """A build whose shards may run.

    Parameters
    ----------
    plan : BuildPlan
    data : list of SpeciesData
        Big arrays memory-mapped from the work area.
    pending : list of Task
        Shards to compute, in the order of the plan.
    resumed, taken_over : int
        Shards that an interrupted run had finished, and that the present store holds.
    known : mapping of embedder to number of distinct inputs that the present store has vectors of
    replanned : bool
        Whether a store is there of which nothing could be taken over.
    """

    plan: BuildPlan
    data: list[SpeciesData]
    pending: list[Task]
    resumed: int
    taken_over: int
    known: Mapping[str, int]
    replanned: bool


def read_species(work: WorkArea, request: Request, store: Path) -> list[SpeciesData]:
    """Read every species, one in memory at a time, and lay it down in the work area.

    Raises
    ------
    DataSetError
        With every mistake of all files.
    """
    problems = Problems()
    found: list[SpeciesData] = []
    config = request.selected()
    for name in config.species:
        if name in request.held:
            given = stored_species(open_store(store), name, config)
            found.append(lay_down_species(work.inputs(name), given, config.bin))
            continue
        data = _one_species(work, config, name, problems)
        if data is not None:
            found.append(data)
    problems.items[:] = dict.fromkeys(problems.items)  # files that several species share
    problems.raise_if_any()
    return found


def _one_species(
    work: WorkArea, config: DatasetConfig, name: str, problems: Problems
) -> SpeciesData | None:
    try:
        stamp = species_stamp(config, name)
    except OSError:
        stamp = ""  # a file is missing: reading tells which
    folder = work.inputs(name)
    if stamp and (data := taken_up(folder, stamp)) is not None:
        return data
    data = load_species(config, name, problems)
    # After a mistake the others are read for theirs, and nothing is written any more.
    if data is None or problems.items:
        return None
    return lay_down_species(folder, data, config.bin, stamp)


def make_plan(work: WorkArea, request: Request, data: list[SpeciesData]) -> BuildPlan:
    """Plan all species whose windows were laid down."""
    bin_bp = request.config.bin
    species: tuple[SpeciesPlan, ...] = tuple(
        plan_species(d, work.inputs(d.name), request.embedders, bin_bp) for d in data
    )
    return BuildPlan(request.digest, bin_bp, species)


def earlier_plan(work: WorkArea) -> BuildPlan | None:
    """The plan of the unfinished build in a work area, or None where there is none to read."""
    try:
        return BuildPlan.load(work.plan)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def prepare(work: WorkArea, request: Request, store: Path, *, large: bool = False) -> Prepared:
    """Read the inputs, plan the shards, and take over whatever need not be computed.

    Parameters
    ----------
    large : bool
        Whether very many vectors of long windows were asked for, see
        :func:`~featurestore.build.planning.room.check_room`.

    Raises
    ------
    StorageError
        If the disk has no room for what is to be computed.
    InputError
        If it is very much and was not asked for.
    DataSetError
        Mistakes of the data set, all in one report; nothing has been computed then.
    """
    data = read_species(work, request, store)
    plan = make_plan(work, request, data)
    if (old := earlier_plan(work)) is not None:
        set_aside(work, old, plan)
    plan.save(work.plan)
    tasks = plan.tasks()
    done = {t for t in tasks if work.read_marker(t, plan.key(t)) is not None}
    resumed = len(done)
    manifest = readable_manifest(store) if store.exists() else None
    if manifest is not None:
        done |= take_over(work, plan, store, manifest, done)
    pending = [t for t in tasks if t not in done]
    check_room(work, plan, pending, large=large)
    known: dict[str, int] = {}
    if manifest is not None:
        known = index_known_bins(work, plan, store, pending)
    index_set_aside(work, plan, pending)
    return Prepared(
        plan, data, pending, resumed, len(done) - resumed, known,
        replanned=manifest is not None and not done,
    )  # fmt: skip


def told(prepared: Prepared, store: Path) -> list[str]:
    """What a build has to tell of its preparation."""
    lines = [
        f"{name}: {count:,} distinct inputs of the present store need no model run"
        for name, count in prepared.known.items()
    ]
    if prepared.replanned:
        lines.append(f"{store} was built from other inputs or windows: all of it is made anew")
    return lines
