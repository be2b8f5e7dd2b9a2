from __future__ import annotations

import pytest

from featurestore.fetch.web import Web
from tests.builders.download_server import download_server


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def server():
    with download_server() as running:
        yield running


@pytest.fixture
def pauses():
    """Seconds that were waited between tries; none are waited really."""
    return []


@pytest.fixture
def web(server, pauses):
    made = Web(server.url, allow_http=True, timeout=5.0, retries=3, sleep=pauses.append)
    yield made
    made.close()
