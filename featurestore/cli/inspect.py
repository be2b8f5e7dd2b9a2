"""``fs ls``, ``fs info``, ``fs verify``, ``fs repair``, ``fs embedders``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from featurestore.cells import for_terminal
from featurestore.cli.common import backend_option, echo_json, json_option, store_argument
from featurestore.errors import DamagedStoreError, InputError, StoreNotFoundError

if TYPE_CHECKING:
    from featurestore.store.reader import Store
    from featurestore.store.remote_backends import BackendName
    from featurestore.store.verify import Verification

_store = click.argument("store", type=click.Path(path_type=Path))


def _facts(store: Store) -> dict[str, Any]:
    rows = []
    for species in store.species:
        genes = store.stored(species, "gene").shape[0]
        for name in store.embedders(species) or [""]:
            group = "sequence" if name == "onehot" else name
            array = (
                "code"
                if name == "onehot"
                else next(iter(store.embedder_attrs(species, name)["outputs"]), "")
                if name
                else ""
            )
            stored = store.stored(species, f"{group}/{array}") if name else None
            prefix = f"{species}/{group}/"
            size = (
                sum(f.size for p, f in store.manifest.files.items() if p.startswith(prefix))
                if name
                else 0
            )
            rows.append(
                {
                    "species": species, "genes": genes, "embedder": name, "array": f"{group}/{array}" if name else "",
                    "shape": list(stored.shape) if stored else [], "dims": list(stored.dims) if stored else [],
                    "dtype": str(stored.dtype) if stored else "", "bytes": size,
                }
            )  # fmt: skip
        rows += _variant_rows(store, species, genes)
    return {
        "store": str(store.path), "digest": store.digest, "dataset_digest": store.dataset_digest,
        "schema_version": store.attrs["meristem"]["schema_version"], "simulated": store.attrs["meristem"]["simulated"],
        "files": len(store.manifest.files) + 1, "bytes": sum(f.size for f in store.manifest.files.values()),
        "groups": rows,
    }  # fmt: skip


def _named(row: dict[str, Any]) -> str:
    return f"{row['embedder']} of {row['variants']}" if "variants" in row else str(row["embedder"])


def _variant_rows(store: Store, species: str, genes: int) -> list[dict[str, Any]]:
    """Facts of the variant sets of a species: a row for what each embedder embeds of each."""
    rows = []
    for name in store.variant_sets(species):
        for embedder in store.embedders(species):
            group = f"variants/{name}/{'sequence' if embedder == 'onehot' else embedder}"
            outputs = store.embedder_attrs(species, embedder)["outputs"] or {"code": 0}
            path = f"{group}/{next(iter(outputs))}"
            if not store.has(species, path):
                continue
            stored, prefix = store.stored(species, path), f"{species}/{group}/"
            size = sum(f.size for p, f in store.manifest.files.items() if p.startswith(prefix))
            rows.append(
                {
                    "species": species, "genes": genes, "embedder": embedder, "array": path, "variants": name,
                    "shape": list(stored.shape), "dims": list(stored.dims), "dtype": str(stored.dtype), "bytes": size,
                }
            )  # fmt: skip
    return rows


def _imputed(store: Store, species: str) -> dict[str, Any]:
    """Shape and origin of the completed table of a species, where the store has one."""
    if not store.has(species, "imputed/value"):
        return {}
    stored, prefix = store.stored(species, "imputed/value"), f"{species}/imputed/"
    attributes = store.meta(species, "imputed")["attributes"]
    return {
        "imputed": {
            "shape": list(stored.shape), "dims": list(stored.dims), "unit": attributes["unit"],
            "bytes": sum(f.size for p, f in store.manifest.files.items() if p.startswith(prefix)),
            **attributes["meristem"],
        }
    }  # fmt: skip


@click.command()
@store_argument
@backend_option
@json_option
def ls(store: Path | str, backend: BackendName | None, as_json: bool) -> None:
    """List species and embedders of STORE, a folder or an address."""
    from featurestore.store.reader import open_store

    facts = _facts(open_store(store, backend=backend))
    if as_json:
        echo_json(facts)
        return
    for row in facts["groups"]:
        shape = " × ".join(f"{n:,} {d}" for n, d in zip(row["shape"], row["dims"], strict=True))
        click.echo(
            f"{row['species']:<28} {_named(row):<14} {shape}  {row['dtype']}  {row['bytes'] / 1e6:,.1f} MB"
        )


@click.command()
@store_argument
@backend_option
@json_option
def info(store: Path | str, backend: BackendName | None, as_json: bool) -> None:
    """Tell all that STORE knows of itself: funnel, notes, embedders, digests."""
    from featurestore.build.sealing.funnel import describe
    from featurestore.store.reader import open_store

    opened = open_store(store, backend=backend)
    facts = _facts(opened)
    facts["species"] = {
        s: {
            "funnel": opened.funnel(s),
            "notes": opened.notes(s),
            "samples": opened.meta(s, "expression/value")["shape"][1]
            if opened.has(s, "expression/value")
            else 0,
            "embedders": {e: opened.embedder_attrs(s, e) for e in opened.embedders(s)},
            **_imputed(opened, s),
        }
        for s in opened.species
    }
    if as_json:
        echo_json(facts)
        return
    simulated = "  (SIMULATED data)" if facts["simulated"] else ""
    click.echo(
        f"{opened.path}: schema {facts['schema_version']}, {facts['files']} files, {facts['bytes'] / 1e6:,.1f} MB{simulated}"
    )
    click.echo(f"digest {facts['digest']}\ndata set {facts['dataset_digest']}")
    for name, one in facts["species"].items():
        click.echo(for_terminal(f"\n{name}: {describe(one['funnel'])}; {one['samples']} samples"))
        for note in one["notes"]:
            click.echo(for_terminal(f"  {note}"))
        for embedder, attrs in one["embedders"].items():
            unknown = "not stated" if attrs.get("digest") else "none"
            seen = ", ".join(attrs["pretraining_species"]) or unknown
            click.echo(
                f"  {embedder}: {attrs['type']} {attrs.get('checkpoint', '')} (pre-trained on: {seen})"
            )
        if "imputed" in one:
            done = one["imputed"]
            shape = " × ".join(
                f"{n:,} {d}" for n, d in zip(done["shape"], done["dims"], strict=True)
            )
            click.echo(
                f"  imputed: completed table, {shape}, {done['unit']}, of run {done.get('run', '?')}; derived, a "
                "build that changes the store leaves it out"
            )


@click.command()
@store_argument
@backend_option
@click.option(
    "--recompute",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    help="Fraction of genes to compute again.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which genes that is.")
@json_option
def verify(
    store: Path | str, backend: BackendName | None, recompute: float, seed: int, as_json: bool
) -> None:
    """Check structure, checksums and completeness of STORE; exit 3 if anything is wrong."""
    result = _verified(store, backend, recompute, seed)
    if as_json:
        echo_json({**asdict(result), "intact": result.intact})
    else:
        for finding in result.findings:
            click.echo(for_terminal(f"{finding.file}: {finding.what}"))
        for note in result.notes:
            click.echo(for_terminal(note))
        again = f", {result.recomputed} genes computed again" if recompute else ""
        click.echo(
            f"{result.files} files, {result.bytes / 1e6:,.1f} MB{again}: {'intact' if result.intact else 'DAMAGED'}"
        )
    if result.intact:
        return
    if "://" in result.store:
        raise DamagedStoreError(
            f"{result.store}: {len(result.findings)} finding(s). Delete the objects named, then publish the store again "
            "with 'fs export': only what is missing is sent."
        )
    raise DamagedStoreError(
        f"{store}: {len(result.findings)} finding(s). Run 'fs repair {store}', then 'fs build' again: only what "
        "is damaged is computed anew."
    )


def _verified(
    store: Path | str, backend: BackendName | None, recompute: float, seed: int
) -> Verification:
    if isinstance(store, Path):
        from featurestore.build.shards.recompute import verify_values

        return verify_values(store, recompute, seed)
    from featurestore.store.remote_verify import verify_remote

    if recompute:
        raise InputError(
            "--recompute embeds anew what a build computed: give the store that it built, a folder"
        )
    return verify_remote(store, backend=backend)


@click.command()
@_store
@json_option
def repair(store: Path, as_json: bool) -> None:
    """Remove damaged files of STORE, so that the next build makes them anew."""
    from featurestore.build.sealing.lock import build_lock
    from featurestore.build.work_area import WorkArea
    from featurestore.store.verify import repair as run

    store = store.resolve()
    work = WorkArea.beside(store)
    idle = not work.root.exists()
    if not store.is_dir():
        raise StoreNotFoundError(f"{store}: no store here")
    with build_lock(work.root):
        removed = run(store)
        if idle:
            work.remove()
    if as_json:
        echo_json([asdict(f) for f in removed])
        return
    for finding in removed:
        click.echo(f"removed {finding.file}: {finding.what}")
    click.echo(
        f"{len(removed)} removed; now run: fs build DATASET --store {store}"
        if removed
        else "intact; nothing to repair"
    )


@click.command()
@json_option
def embedders(as_json: bool) -> None:
    """List embedder types, and why one is unavailable."""
    from featurestore.embedders.registry import list_embedders

    rows = list_embedders()
    if as_json:
        echo_json([asdict(r) for r in rows])
        return
    for row in rows:
        state = row.summary if row.available else f"unavailable: {row.reason}"
        settings = ", ".join(f"{k} = {v}" for k, v in row.parameters.items())
        click.echo(f"{row.type:<16} {state}" + (f"  [{settings}]" if settings else ""))
        if row.path:
            click.echo(f"{'':<16} computed by {row.path}")
