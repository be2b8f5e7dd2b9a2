"""``fs fetch``."""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

import click

from featurestore.cli.common import echo_json, json_option
from featurestore.inputs.problems import printable


class _Progress:
    """Bytes of all files together: rate and time left on a terminal, a line every ten seconds elsewhere."""

    def __init__(self, total: int, quiet: bool) -> None:
        self.total, self.quiet = total, quiet
        self.done = self.fresh = 0
        self.started = self.last = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, count: int, now_came: bool) -> None:
        with self._lock:
            self.done += count
            self.fresh += count if now_came else 0  # what was here already is no rate
            now = time.monotonic()
            if self.quiet or now - self.last < (0.2 if sys.stderr.isatty() else 10.0):
                return
            self.last = now
            self._tell(now)

    def _tell(self, now: float) -> None:
        rate = self.fresh / max(now - self.started, 1e-9)
        of = f" of {self.total / 1e6:,.1f}" if self.total else ""
        left = (self.total - self.done) / rate if rate and self.total else 0.0
        line = f"{self.done / 1e6:,.1f}{of} MB, {rate / 1e6:,.1f} MB/s"
        line += f", {max(left, 0):,.0f} s left" if self.total else ""
        if sys.stderr.isatty():
            click.echo(f"\r{line:<70}", nl=False, err=True)
        else:
            click.echo(line, err=True)

    def close(self) -> None:
        """End the line."""
        if not self.quiet and sys.stderr.isatty():
            click.echo("", err=True)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("downloads"),
    show_default=True,
    help="Folder; each name gets one of its own below it.",
)
@click.option("--list", "show", is_flag=True, help="List the sources and how to name them.")
@click.option(
    "--dry-run",
    is_flag=True,
    help="Ask for the list of files, tell sizes and checksums, fetch none.",
)
@click.option(
    "--release", type=click.IntRange(min=1), help="Release of Ensembl Plants.  [default: 60]"
)
@click.option(
    "--only",
    multiple=True,
    metavar="PATTERN",
    help="Only files of such names, e.g. 'tss_*'; repeatable.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 8),
    default=2,
    show_default=True,
    help="Files at once; servers that cost you nothing cost somebody.",
)
@click.option(
    "--base-url",
    envvar="MERISTEM_FETCH_BASE_URL",
    metavar="URL",
    default="",
    help="A mirror, in place of scheme and host of every address; MERISTEM_FETCH_BASE_URL does the "
    "same. For checkpoints of the hub: HF_ENDPOINT.",
)
@click.option("--allow-http", is_flag=True, help="Also speak to servers without encryption.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    help="Seconds without a byte before it is tried again.",
)
@json_option
def fetch(
    names: tuple[str, ...], out: Path, show: bool, dry_run: bool, release: int | None,
    only: tuple[str, ...], jobs: int, base_url: str, allow_http: bool, timeout: float, as_json: bool,
) -> None:  # fmt: skip
    """Fetch public data by NAME, e.g. ensembl-plants:arabidopsis_thaliana or phytoexpr.

    What was cut off goes on where it stopped; a file is there when it is whole and agrees with the
    size and checksum that its server publishes. Nothing is unpacked. Proxies are those of the
    environment (HTTPS_PROXY, NO_PROXY).
    """
    from featurestore.fetch.run import FetchOptions, listings
    from featurestore.fetch.run import fetch as run
    from featurestore.fetch.web import Web

    if show or not names:
        _tell_sources(as_json)
        if not show:
            raise click.UsageError("name something to fetch")
        return
    web = Web(base_url, allow_http, timeout)
    options = FetchOptions(out, release, only, jobs)
    try:
        found = listings(web, names, options)
        if dry_run:
            _tell_files(found, as_json)
            return
        total = sum(file.about or 0 for one in found for file in one.files)
        progress = _Progress(total, as_json)
        outcome = run(web, found, options, progress)
        progress.close()
    finally:
        web.close()
    _tell(outcome, as_json)
    if outcome.failed:
        raise click.exceptions.Exit(1)


def _tell_sources(as_json: bool) -> None:
    from featurestore.fetch.sources import sources

    if as_json:
        echo_json([source.told() for source in sources().values()])
        return
    for source in sources().values():
        click.echo(f"{source.name}\n    {source.what}\n    fs fetch {source.write}")
        click.echo(f"    {source.page}\n    licence: {source.licence}\n    cite: {source.citation}")
        click.echo(f"    checked by: {source.checksums}")


def _tell_files(found: list[Any], as_json: bool) -> None:
    from featurestore.fetch.run import told

    rows = [row for one in found for row in told(one)]
    if as_json:
        echo_json(rows)
        return
    for row in rows:
        size = f"{row['bytes'] / 1e6:>12,.1f} MB" if row["bytes"] is not None else f"{'?':>15}"
        click.echo(printable(f"{size}  {row['name']}  {row['checksum']}"))
    click.echo(f"{sum(row['bytes'] or 0 for row in rows) / 1e9:,.2f} GB in {len(rows)} files")


def _tell(outcome: Any, as_json: bool) -> None:
    rows = [
        {"source": f.source, "path": str(f.path), "bytes": f.size, "state": f.state,
         "checksum": f.checksum, "error": f.error or None}
        for f in outcome.files
    ]  # fmt: skip
    if as_json:
        echo_json({"files": rows, "dataset": outcome.lines})
        return
    for row in rows:
        agrees = f"agrees with {row['checksum']}" if row["checksum"] else "no checksum is published"
        told = row["error"] if row["error"] else f"{row['bytes']:,} bytes, {agrees}"
        click.echo(printable(f"{row['path']}: {row['state']}: {told}"), err=bool(row["error"]))
    if outcome.lines:
        click.echo("# for dataset.toml, paths from this folder:")
        for line in outcome.lines:
            click.echo(printable(line))
