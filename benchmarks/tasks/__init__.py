"""Tasks of the benchmark: what is learned, what is predicted, how it is scored.

A task is a class that meets :class:`benchmarks.tasks.base.Task`, entered in :data:`TASKS`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from featurestore.errors import unknown_name

if TYPE_CHECKING:
    from benchmarks.tasks.base import Task

TASKS: Final = {"expression": "benchmarks.tasks.expression:ExpressionTask"}


def get_task(name: str) -> Task:
    """The task of a name, imported only now.

    Raises
    ------
    UnknownNameError
        With the nearest and all known names.
    """
    if name not in TASKS:
        raise unknown_name("task", name, TASKS)
    module, _, attribute = TASKS[name].partition(":")
    task: Task = getattr(importlib.import_module(module), attribute)()
    return task
