"""Builds in forks of one warm process, each killed at one step: ``python -m tests.faults.forks``.

Reads lines of JSON, ``{"arguments": [...], "faults": {...}}``, and answers each with the exit code of
the command, −9 where it killed itself. Starting Python anew for each of some hundred steps would
take minutes; a fork does the same work in a process of its own.
"""

from __future__ import annotations

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout

import meristem_faults  # noqa: F401  # loaded before the forks, as all the rest
import sitecustomize

import featurestore.build.array_jobs
import featurestore.build.engine  # noqa: F401
from featurestore.cli import cli


def child(arguments: list[str], faults: dict, report: int) -> None:
    """Run a command with its faults; what it says goes to the pipe."""
    said = io.StringIO()
    sitecustomize.begin(faults)
    with redirect_stdout(said), redirect_stderr(said):
        try:
            cli.main(arguments, prog_name="fs")
        except SystemExit as ended:
            code = int(ended.code or 0)
    os.write(report, said.getvalue()[-4000:].encode())
    os._exit(code)


def main() -> None:
    for line in sys.stdin:
        told = json.loads(line)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(read)
            child(told["arguments"], told["faults"], write)
        os.close(write)
        with os.fdopen(read) as pipe:
            said = pipe.read()
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(json.dumps([os.waitstatus_to_exitcode(status), said]) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
