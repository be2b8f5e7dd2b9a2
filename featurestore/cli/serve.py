"""``fs serve``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("store", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Port; 0 takes any that is free.",
)
@click.option(
    "--origin",
    default="*",
    show_default=True,
    help="Web pages that may read it (CORS): one address, or * for all.",
)
@click.option("--log", is_flag=True, help="A line on stderr for every request.")
def serve(store: Path, host: str, port: int, origin: str, log: bool) -> None:
    """Serve STORE over HTTP, read-only, until interrupted: for browsers, xarray and fs itself."""
    from featurestore.export.serve import StoreServer

    with StoreServer(store, host, port, origin=origin, log=log) as server:
        click.echo(server.url)
        if host not in {"127.0.0.1", "localhost", "::1"}:
            click.echo("others on the network can read this store; stop with Ctrl-C", err=True)
        try:
            server.serve_forever(0.2)
        except KeyboardInterrupt:
            click.echo("stopped", err=True)
