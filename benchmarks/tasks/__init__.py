"""Tasks of the benchmark: what is learned, what is predicted, how it is scored.

A task is a class that meets :class:`benchmarks.tasks.base.Task`, entered in :data:`TASKS`.
"""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any, Final

from featurestore.errors import InputError, unknown_name

if TYPE_CHECKING:
    from benchmarks.tasks.base import Task

TASKS: Final = {
    "expression": "benchmarks.tasks.expression:ExpressionTask",
    "variants": "benchmarks.tasks.variants:VariantsTask",
    "mutagenesis": "benchmarks.tasks.mutagenesis:MutagenesisTask",
    "imputation": "benchmarks.tasks.imputation:ImputationTask",
    "tracks": "benchmarks.tasks.tracks:TracksTask",
}


def get_task(name: str, **settings: Any) -> Task:
    """The task of a name, imported only now.

    Parameters
    ----------
    name : str
    **settings
        What the user said for one task alone (``variants``, ``lines``); None was not said.

    Raises
    ------
    UnknownNameError
        With the nearest and all known names.
    InputError
        If something was said that this task does not take.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    module, _, attribute = TASKS[name].partition(":")
    made = getattr(importlib.import_module(module), attribute)
    said = {key: value for key, value in settings.items() if value is not None}
    foreign = sorted(set(said) - set(inspect.signature(made).parameters))
    if foreign:
        raise InputError(f"--{foreign[0]} is not for task {name}")
    task: Task = made(**said)
    return task
