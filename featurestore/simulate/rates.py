"""How fast a machine, a disk, a network and a model are, and where each figure comes from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final

from featurestore.errors import InputError, unknown_name

FORMAT: Final = "meristem rates 1"
MEASURED: Final = "measured here"
ASSUMED: Final = "assumed"
GIVEN: Final = "given"


@dataclass(frozen=True)
class Machine:
    """Speeds that no model decides. The values given here are assumptions, not measurements.

    Parameters
    ----------
    start_s : float
        Until the command has imported what it needs.
    parallel : float
        What all cores give together over as many times what one gives alone: below 1 where cores
        share their parts, or other work has some of them.
    embedders_s : float
        To make the embedders, which imports their modules.
    device_s : float
        To import torch and ask it for a GPU, where a model is costly.
    read_bases_per_s, read_genes_per_s : float
        Inputs read, checked, laid down and planned: time is the sum of both.
    repeats_windows_per_s : float
        Windows searched for those that occur twice, before the shards of a costly model.
    prepare_windows_per_s : float
        Windows cut and digested in a shard, on one core.
    sequence_bases_per_s, genome_bases_per_s : float
        Of the groups that need no model, on one core.
    finish_mb_per_s : float
        Vectors joined, cast and checked, on one core.
    write_mb_per_s, disk_mb_per_s : float
        Of one worker, and of all together on the disk they share.
    file_s : float
        To commit a file, whatever its size.
    task_s, dask_task_s : float
        To hand out a shard and take its report, on threads and through a Dask scheduler.
    readback_mb_per_s : float
        Shards read back and checked before the store is sealed.
    metadata_s : float
        To write a file of metadata.
    sync_s : float
        To flush a file or folder at the end.
    cluster_s, worker_s : float
        To start and stop a Dask scheduler, and until a worker takes its first shard.
    genome_ratio : float
        Compressed size of a base, bytes.
    base_bytes : float
        Memory of a worker before it has a model.
    network_mb_per_s, request_s : float
        To and from object storage, all connections together; one request.
    """

    start_s: float = 1.5
    parallel: float = 1.0
    embedders_s: float = 1.0
    device_s: float = 3.0
    read_bases_per_s: float = 40e6
    read_genes_per_s: float = 15e3
    repeats_windows_per_s: float = 150e3
    prepare_windows_per_s: float = 150e3
    sequence_bases_per_s: float = 200e6
    genome_bases_per_s: float = 100e6
    finish_mb_per_s: float = 800.0
    write_mb_per_s: float = 400.0
    disk_mb_per_s: float = 800.0
    file_s: float = 0.002
    task_s: float = 0.002
    dask_task_s: float = 0.015
    readback_mb_per_s: float = 1500.0
    metadata_s: float = 0.004
    sync_s: float = 0.0005
    cluster_s: float = 1.5
    worker_s: float = 3.0
    genome_ratio: float = 0.28
    base_bytes: float = 250e6
    network_mb_per_s: float = 100.0
    request_s: float = 0.05


@dataclass(frozen=True)
class ModelRate:
    """Speed of one embedder.

    Parameters
    ----------
    windows_per_s : float
        Of one core, or of one GPU.
    load_s : float
        Until it may compute, in a process that has imported what it needs.
    worker_load_s : float
        The same in a worker, which has imported nothing; 0: that and what the machine takes to import.
    memory_bytes : float
        That it takes once loaded.
    device : str
        ``cpu`` or ``cuda``, with the name of the GPU.
    prepare_windows_per_s : float
        Its windows cut and digested on one core; 0: as :class:`Machine` says.
    note : str
        What is to be known of the measurement.
    origin : str
        Where the figures come from.
    """

    windows_per_s: float
    load_s: float = 5.0
    memory_bytes: float = 2e9
    device: str = "cpu"
    prepare_windows_per_s: float = 0.0
    note: str = ""
    worker_load_s: float = 0.0
    origin: str = GIVEN

    @property
    def gpu(self) -> bool:
        """Whether it computes on a GPU."""
        return self.device.startswith("cuda")


@dataclass(frozen=True)
class Rates:
    """Everything that a simulation needs to know of the hardware.

    Parameters
    ----------
    machine : Machine
    models : mapping of embedder to ModelRate
    origin : mapping of a field of the machine to where it comes from
        What is not in it is assumed.
    """

    machine: Machine = field(default_factory=Machine)
    models: Mapping[str, ModelRate] = field(default_factory=dict)
    origin: Mapping[str, str] = field(default_factory=dict)

    def origin_of(self, name: str) -> str:
        """Where a figure of the machine comes from."""
        return self.origin.get(name, ASSUMED)

    def with_machine(self, values: Mapping[str, float], origin: str) -> Rates:
        """The same with some figures of the machine replaced."""
        known = {f.name for f in fields(Machine)}
        for name, value in values.items():
            if name not in known:
                raise unknown_name("rate", name, known)
            if not isinstance(value, (int, float)) or not 0 < float(value) < float("inf"):
                raise InputError(f"rate {name} = {value!r}; give a number above 0")
        machine = replace(self.machine, **{k: float(v) for k, v in values.items()})
        return replace(
            self, machine=machine, origin={**self.origin, **dict.fromkeys(values, origin)}
        )

    def with_model(self, name: str, rate: ModelRate) -> Rates:
        """The same with one embedder's rate."""
        if not 0 < rate.windows_per_s < float("inf"):
            raise InputError(
                f"{name}: {rate.windows_per_s!r} windows per second; give a number above 0"
            )
        return replace(self, models={**self.models, name: rate})

    def save(self, path: Path, about: Mapping[str, Any]) -> None:
        """Write what was measured or given, and nothing that is assumed."""
        machine = {k: v for k, v in asdict(self.machine).items() if k in self.origin}
        models = {
            name: {k: v for k, v in asdict(rate).items() if k != "origin"}
            for name, rate in self.models.items()
        }
        body = {"format": FORMAT, **about, "machine": machine, "models": models}
        path.write_text(json.dumps(body, indent=1) + "\n")


def load_rates(path: Path) -> Rates:
    """Read what :meth:`Rates.save` wrote.

    Raises
    ------
    InputError
        If the file is something else; every figure has to be a number above 0.
    """
    try:
        body = json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; 'fs simulate DATASET --save-rates FILE' writes one") from None  # fmt: skip
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a file of rates ({error})") from None
    if not isinstance(body, dict) or body.get("format") != FORMAT:
        raise InputError(f"{path}: not a file of rates; its format is to be {FORMAT!r}")
    origin = f"from {path.name}"
    machine, models = body.get("machine", {}), body.get("models", {})
    if not isinstance(machine, dict) or not isinstance(models, dict):
        raise InputError(f"{path}: machine and models are to be JSON objects")
    rates = Rates().with_machine(machine, origin)
    known = {f.name for f in fields(ModelRate)} - {"origin"}
    for name, given in models.items():
        if not isinstance(given, dict) or "windows_per_s" not in given:
            raise InputError(f"{path}: model {name!r} has no windows_per_s")
        if unknown := set(given) - known:
            raise unknown_name("setting", min(unknown), known)
        try:
            rates = rates.with_model(name, ModelRate(**given, origin=origin))
        except TypeError:
            raise InputError(f"{path}: model {name!r}: its figures are to be numbers") from None
    return rates
