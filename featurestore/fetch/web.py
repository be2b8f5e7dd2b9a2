"""HTTP as downloads need it: https alone, bounded redirects, proxies of the environment, failures told apart.

The work is urllib3's; what stands here is policy.
"""

from __future__ import annotations

import email.utils
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import urllib3
from urllib3.exceptions import HTTPError, LocationParseError, SSLError

from featurestore.errors import FetchError, InputError

MOST_REDIRECTS: Final = 5
MOST_AT_ONCE: Final = 8
"""Connections to one server."""
LARGEST_LISTING: Final = 1 << 24
"""Bytes of a listing of files."""
_LONGEST_WAIT: Final = 120.0
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_TRY_AGAIN: Final = frozenset({408, 425, 429})


class TransientError(FetchError):
    """What may go away when it is tried again; ``wait`` is what the server asked for, in seconds."""

    def __init__(self, message: str, wait: float = 0.0) -> None:
        super().__init__(message)
        self.wait = wait


@dataclass
class Web:
    """How servers are spoken to.

    Parameters
    ----------
    base_url : str
        A mirror: takes the place of scheme and host of every address; empty for none.
    allow_http : bool
        Whether addresses without encryption may be asked, as first address or as redirect.
    timeout : float
        Seconds without a connection, or without a byte, after which it is tried again.
    retries : int
        Tries in a row without a single new byte before it is given up.
    sleep : called with seconds, optional
        Default: until then, or until :attr:`stopped`.
    """

    base_url: str = ""
    allow_http: bool = False
    timeout: float = 30.0
    retries: int = 5
    sleep: Callable[[float], object] | None = None
    stopped: threading.Event = field(default_factory=threading.Event)
    _managers: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.base_url:
            self._check(self.base_url)

    def placed(self, url: str) -> str:
        """The address on the mirror, where there is one."""
        if not self.base_url:
            return url
        parts = urlsplit(url)
        query = f"?{parts.query}" if parts.query else ""
        return self.base_url.rstrip("/") + parts.path + query

    @contextmanager
    def open(self, url: str, headers: Mapping[str, str] | None = None) -> Iterator[Any]:
        """A response whose body has not been read: status 200, 206 or 416.

        Raises
        ------
        TransientError
            If the server does not answer, or says that it may later.
        FetchError
            For any other status, for a redirect that is not https, and for one too many.
        """
        at = self.placed(url)
        sent = {"Accept-Encoding": "identity", "User-Agent": "meristem-fetch", **(headers or {})}
        for _ in range(MOST_REDIRECTS + 1):
            response = self._ask(at, sent)
            try:
                if response.status in _REDIRECTS:
                    at = self._next(at, response)
                    continue
                _refuse(at, response)
                with _told(at):
                    yield response
                return
            finally:
                response.close()
        raise FetchError(f"{url}: more than {MOST_REDIRECTS} redirects, the last to {at}")

    def read(self, url: str) -> bytes:
        """A small body, tried again as often as a download.

        Raises
        ------
        FetchError
            If it cannot be had, or is larger than :data:`LARGEST_LISTING`.
        """

        def whole() -> bytes:
            with self.open(url) as response:
                body: bytes = response.read(LARGEST_LISTING + 1, decode_content=True)
            if len(body) > LARGEST_LISTING:
                raise FetchError(f"{url}: a listing of more than {LARGEST_LISTING:,} bytes")
            return body

        found: bytes = self.patiently(whole, lambda: 0)
        return found

    def patiently(self, act: Callable[[], Any], progress: Callable[[], int]) -> Any:
        """Do something again after transient failures, with longer and longer pauses.

        Parameters
        ----------
        progress : called without arguments
            How far it is; tries count anew when it is further than ever.
        """
        failures, best = 0, progress()
        while True:
            try:
                return act()
            except TransientError as error:
                now = progress()
                failures = 1 if now > best else failures + 1
                best = max(best, now)
                if failures > self.retries:
                    raise FetchError(
                        f"{error} (given up after {failures} tries; what came is kept, and the same "
                        "command goes on with it)"
                    ) from error
                pause = min(2.0 ** (failures - 1), 60.0) * random.uniform(0.75, 1.25)  # noqa: S311
                (self.sleep or self.stopped.wait)(min(max(pause, error.wait), _LONGEST_WAIT))
                self.go_on()

    def go_on(self) -> None:
        """Raise where all is to stop.

        Raises
        ------
        FetchError
        """
        if self.stopped.is_set():
            raise FetchError("stopped; what came is kept, and the same command goes on with it")

    def close(self) -> None:
        """Let go of all connections."""
        for manager in self._managers.values():
            manager.clear()
        self._managers.clear()

    def _ask(self, url: str, headers: Mapping[str, str]) -> Any:
        self._check(url)
        with _told(url):
            return self._manager(url).request(
                "GET", url, headers=dict(headers), redirect=False, retries=False,
                preload_content=False,
                timeout=urllib3.Timeout(connect=self.timeout, read=self.timeout),
            )  # fmt: skip

    def _check(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme == "http" and not self.allow_http:
            raise InputError(f"{url}: is not encrypted; give --allow-http if that is what you want")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InputError(f"{url}: no address of a web server; write https://…")

    def _next(self, url: str, response: Any) -> str:
        place = response.headers.get("Location")
        if not place:
            raise FetchError(f"{url}: a redirect without a place to go")
        there: str = urljoin(url, place)
        try:
            self._check(there)
        except InputError as error:
            raise FetchError(f"{url}: redirects to {error}") from error
        return there

    def _manager(self, url: str) -> Any:
        """The pool of connections for an address: through the proxy that the environment names, or none."""
        parts = urlsplit(url)
        proxies = getproxies()
        proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
        if proxy and proxy_bypass(parts.netloc):
            proxy = ""
        if proxy and "://" not in proxy:
            proxy = f"http://{proxy}"
        if proxy not in self._managers:
            made = (
                urllib3.ProxyManager(proxy, maxsize=MOST_AT_ONCE)
                if proxy
                else urllib3.PoolManager(maxsize=MOST_AT_ONCE)
            )
            self._managers[proxy] = made
        return self._managers[proxy]


@contextmanager
def _told(url: str) -> Iterator[None]:
    """Failures of the connection as errors of ours."""
    try:
        yield
    except SSLError as error:
        raise FetchError(f"{url}: no trusted connection ({_short(error)})") from error
    except LocationParseError as error:
        raise FetchError(f"{url}: {_short(error)}") from error
    except (HTTPError, ConnectionError, TimeoutError) as error:
        if isinstance(error, FetchError):
            raise
        raise TransientError(f"{url}: {_short(error)}") from error


def _short(error: Exception) -> str:
    text = re.sub(r"<[^<>]* object at 0x[0-9a-f]+>(: )?", "", str(error)) or type(error).__name__
    return text[:300]


def _refuse(url: str, response: Any) -> None:
    """Raise for a status that gives no body to keep."""
    status = int(response.status)
    if status in (200, 206, 416):
        return
    what = f"{url}: the server says {status} {response.reason or ''}".rstrip()
    if status >= 500 or status in _TRY_AGAIN:
        raise TransientError(what, _seconds(response.headers.get("Retry-After", "")))
    hint = {
        401: "; it asks who you are, and fs fetch has no account",
        403: "; it does not let this address have it",
        404: "; there is no such file (has it been moved, or another release?)",
        410: "; the file was taken away",
    }
    raise FetchError(what + hint.get(status, ""))


def _seconds(told: str) -> float:
    """Seconds of a Retry-After header, a number or a date; 0 where it says nothing."""
    if told.isdigit():
        return float(told)
    try:
        return max(email.utils.parsedate_to_datetime(told).timestamp() - time.time(), 0.0)
    except (TypeError, ValueError):
        return 0.0
