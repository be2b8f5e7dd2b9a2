"""A small store, and the servers it is put on."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from featurestore.build.engine import build
from tests.builders.dataset import write_dataset
from tests.builders.remote import S3, FaultyServer, s3_server, web_server
from tests.builders.species import random_species


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """40 genes in shards of 16."""
    folder = tmp_path_factory.mktemp("remote")
    dataset = write_dataset(folder / "in", random_species("plant", genes=40))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("featurestore.schema.SHARD_GENES", 16)
        build(dataset, folder / "s.zarr")
    return folder / "s.zarr"


@pytest.fixture(scope="session")
def moto() -> Iterator[S3]:
    """An S3 server; skips, saying so, without moto or obstore."""
    for package in ("moto", "flask", "obstore"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"needs {package}: pip install 'meristem[test,remote]'")
    with s3_server() as server:
        yield server


@pytest.fixture
def s3(moto, monkeypatch) -> S3:
    """The server, reached by the environment."""
    for name, value in moto.environment.items():
        monkeypatch.setenv(name, value)
    return moto


@pytest.fixture
def web(built) -> Iterator[FaultyServer]:
    """The store over HTTP."""
    pytest.importorskip("obstore", reason="needs obstore: pip install 'meristem[remote]'")
    with web_server(built) as server:
        yield server
