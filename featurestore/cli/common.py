"""What both commands share: groups that import a command only when it is called, exit codes.

Light on purpose (click and the error tree): ``fs --help`` and ``bench --help`` pass through here.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import click

from featurestore.cells import for_terminal
from featurestore.errors import MeristemError, did_you_mean
from featurestore.plain_json import plain


class LazyGroup(click.Group):
    """A group of commands that live in modules imported only when the command runs.

    Parameters
    ----------
    *args, **kwargs
        As for :class:`click.Group`.
    lazy : mapping of command name to (``"module:attribute"``, short help)
        The short help stands here a second time so that ``--help`` imports nothing.

    Notes
    -----
    Every :class:`~featurestore.errors.MeristemError` that a command raises ends as its message
    on stderr and its exit code, also under ``click.testing.CliRunner``.
    """

    def __init__(
        self, *args: Any, lazy: Mapping[str, tuple[str, str]] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order declared."""
        return [*self.lazy, *(name for name in super().list_commands(ctx) if name not in self.lazy)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click's, with the nearest name for an unknown one."""
        name = args[0]
        names = self.list_commands(ctx)
        if name not in names and not name.startswith("-"):
            ctx.fail(f"No such command {name!r}.{did_you_mean(name, names)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the short help given here, without importing any."""
        rows = [(name, short) for name, (_, short) in self.lazy.items()]
        for name in super().list_commands(ctx):
            command = self.commands[name]
            if name not in self.lazy and not command.hidden:
                rows.append((name, command.get_short_help_str()))
        if rows:
            with formatter.section("Commands"):
                formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        """Run, turning errors of the project into messages with exit codes."""
        try:
            return super().invoke(ctx)
        except MeristemError as error:
            click.echo(for_terminal(f"Error: {error}"), err=True)
            raise click.exceptions.Exit(error.exit_code) from error
        except OSError as error:
            where = f"{error.filename}: " if error.filename else ""
            _fail(
                f"{where}{error.strerror or error}\n"
                "    → check that the path is right, may be written, and has space",
                error,
            )
        except MemoryError as error:
            _fail(
                f"not enough memory ({error})\n"
                "    → take fewer genes, shorter regions or smaller bins, or a larger machine",
                error,
            )


def _fail(message: str, error: Exception) -> NoReturn:
    """End a command for what the machine refuses: no space, no permission, no memory."""
    click.echo(f"Error: {message}", err=True)
    raise click.exceptions.Exit(1) from error


def main_with_exit_codes(group: click.Group, name: str) -> Callable[[], NoReturn]:
    """The function that a console script calls.

    Exit codes: 0 done, 1 failed or interrupted, 2 usage or input, 3 incomplete or damaged
    store, 4 leakage.
    """

    def main() -> NoReturn:
        group.main(prog_name=name)
        raise SystemExit(0)

    return main


def echo_json(value: Any) -> None:
    """Print facts as JSON on stdout: what ``--json`` gives."""
    text = json.dumps(plain(value), indent=1, ensure_ascii=False, allow_nan=False)
    if not text.replace("\n", "").isprintable():  # a name that a terminal would obey
        text = "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)
    click.echo(text)


class StorePlace(click.Path):
    """A folder, or the address of a store on the network (which stays text: a path would lose a slash)."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """An address as it is, anything else as a path."""
        if isinstance(value, str) and "://" in value:
            return value
        return super().convert(value, param, ctx)


class BuiltPlace(click.Path):
    """A folder that a build writes; an address is refused with what to do instead."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        if isinstance(value, str) and "://" in value:
            self.fail(
                "a store is built in a folder of this machine or of a file system that the workers share. Build it "
                "there, then publish it: fs export STORE --to zarr --out ADDRESS",
                param,
                ctx,
            )
        return super().convert(value, param, ctx)


store_argument = click.argument("store", type=StorePlace())
backend_option = click.option(
    "--backend",
    type=click.Choice(["obstore", "fsspec"]),
    help="What reads an address (s3://, gs://, https://). Default: obstore.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
