"""Builds in forks of one warm process, each killed at one step: ``python -m tests.faults.forks``.

Reads lines of JSON, ``{"arguments": […], "environment": {…}, "faults": {…}}``, and answers each with
the exit code of the command, −9 where it killed itself, and what it said. Starting Python anew for each of some hundred steps would
take minutes; a fork does the same work in a process of its own.
"""

from __future__ import annotations

import gc
import io
import json
import os
import sys
import traceback
from contextlib import redirect_stderr, redirect_stdout, suppress

import meristem_faults  # noqa: F401  # loaded before the forks, as all the rest
import sitecustomize

import featurestore.build.array_jobs
import featurestore.build.engine  # noqa: F401
from featurestore.cli import cli

with suppress(ImportError):
    import torch  # noqa: F401  # a build asks it for a GPU


def child(told: dict) -> tuple[int, str, str]:
    """Run a command with its faults; exit code, and what it said."""
    out, err, code = io.StringIO(), io.StringIO(), 1
    os.environ.update(told["environment"])
    os.setsid()
    with redirect_stdout(out), redirect_stderr(err):
        sitecustomize.begin(told["faults"])
        try:
            cli.main(told["arguments"], prog_name="fs")
        except SystemExit as ended:
            code = int(ended.code or 0)
        except BaseException:  # noqa: BLE001 - as the interpreter would
            traceback.print_exc()
    return code, out.getvalue(), err.getvalue()


def main() -> None:
    gc.freeze()  # a fork has no need to look through what was there before it
    for line in sys.stdin:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            with os.fdopen(write, "w") as pipe:
                json.dump(child(json.loads(line)), pipe)
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as pipe:
            said = pipe.read()
        _, status = os.waitpid(pid, 0)
        code = os.waitstatus_to_exitcode(status)
        sys.stdout.write((said if code == 0 else json.dumps([code, "", ""])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
