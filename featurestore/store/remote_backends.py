"""Two ways to ask for bytes on the network, obstore and fsspec, with one set of errors.

A missing object is ``FileNotFoundError``; :class:`RefusedError` will not get better by asking again,
:class:`PassingError` may. Retrying, caching and checking are the caller's (``remote.py``).
"""

from __future__ import annotations

import base64
import importlib.util
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, NoReturn, Protocol

from featurestore.errors import InputError, MissingDependencyError, RemoteStoreError
from featurestore.store.remote_credentials import (
    check_google,
    is_private,
    may_be_http,
    netrc_login,
    s3_config,
)
from featurestore.store.remote_url import Address, scrub

BackendName = Literal["obstore", "fsspec"]
BACKENDS: Final = ("obstore", "fsspec")
_STATUS: Final = re.compile(r"status code: (\d{3})")
_FSSPEC_PACKAGES: Final = {"s3": "s3fs", "gs": "gcsfs", "https": "aiohttp", "http": "aiohttp"}


@dataclass(frozen=True)
class RemoteOptions:
    """How long to wait and how often to ask.

    Parameters
    ----------
    timeout : float
        Seconds that one request may take, its body included.
    connect_timeout : float
        Seconds until a connection stands.
    attempts : int
        Requests at most for one piece.
    backoff, longest_backoff : float
        Seconds before the second request; doubled each time (with jitter) up to the longest.
    """

    timeout: float = 60.0
    connect_timeout: float = 10.0
    attempts: int = 6
    backoff: float = 0.2
    longest_backoff: float = 10.0


class RefusedError(Exception):
    """The server said no: no access, no such bucket, a request it does not understand."""


class PassingError(Exception):
    """No answer, a broken one, or one that says to come back: worth another try."""


class AlreadyThereError(Exception):
    """A conditional put found an object."""


class Backend(Protocol):
    """One place on the network; keys are relative to it."""

    def get(self, key: str, start: int, length: int | None) -> bytes:
        """``length`` bytes from ``start``, or the whole object."""

    def size(self, key: str) -> int:
        """Bytes of an object."""


def make_backend(address: Address, name: BackendName | None, options: RemoteOptions) -> Backend:
    """The backend asked for; obstore where none is named.

    Raises
    ------
    MissingDependencyError
        If it is not installed.
    """
    if name not in (None, *BACKENDS):
        raise InputError(f"backend {name!r}: choose one of {', '.join(BACKENDS)}")
    if (name or "obstore") == "obstore":
        if importlib.util.find_spec("obstore") is None:
            raise MissingDependencyError(
                "reading stores from the network takes obstore: pip install 'meristem[remote]' "
                "(or choose fsspec, with backend='fsspec' or --backend fsspec)"
            )
        return ObstoreBackend(address, options)
    for package in ("fsspec", _FSSPEC_PACKAGES[address.scheme]):
        if importlib.util.find_spec(package) is None:
            raise MissingDependencyError(
                f"fsspec reads {address.scheme}:// with {package}: pip install {package} (or leave the backend to obstore)"
            )
    return FsspecBackend(address, options)


_USED_BY: list[int] = []
"""The process that first used obstore: its threads do not come along into a forked one."""


def refuse_fork(opened_by: int, label: str) -> None:
    """Say at once what else would wait for ever.

    Raises
    ------
    RemoteStoreError
        In a process that was forked off the one that opened a remote store.
    """
    if os.getpid() != opened_by:
        raise RemoteStoreError(
            f"{label}: a forked process cannot go on with the connections of its parent. Start workers with "
            "multiprocessing's 'spawn' (torch: multiprocessing_context='spawn'), or read in threads"
        )


class ObstoreBackend:
    """Requests by obstore (the Rust crate ``object_store``)."""

    def __init__(self, address: Address, options: RemoteOptions) -> None:
        from obstore.store import from_url

        if not _USED_BY:
            _USED_BY.append(os.getpid())
        refuse_fork(_USED_BY[0], address.label)
        client: dict[str, Any] = {
            "timeout": timedelta(seconds=options.timeout),
            "connect_timeout": timedelta(seconds=options.connect_timeout),
        }
        config: dict[str, Any] = {}
        provider = None
        if address.scheme == "s3":
            config = s3_config(os.environ)
            provider = config.pop("credential_provider", None)
            client["allow_http"] = may_be_http(config.get("endpoint"), os.environ)
        elif address.scheme == "gs":
            check_google(os.environ)
            client["allow_http"] = may_be_http(os.environ.get("STORAGE_EMULATOR_HOST"), os.environ)
        else:
            client["allow_http"] = address.scheme == "http"
            if login := netrc_login(address):
                word = base64.b64encode(":".join(login).encode()).decode()
                client["default_headers"] = {"authorization": f"Basic {word}"}
        keywords: dict[str, Any] = {"client_options": client, "retry_config": {"max_retries": 0}}
        if config:
            keywords["config"] = config
        if provider is not None:
            keywords["credential_provider"] = provider
        try:
            self.store: Any = from_url(address.url, **keywords)
        except Exception as error:  # noqa: BLE001 - the Rust side raises its base class; retold scrubbed
            raise RemoteStoreError(f"{address.label}: {_told(error)}") from None

    def get(self, key: str, start: int, length: int | None) -> bytes:
        """``length`` bytes from ``start``, or the whole object."""
        import obstore

        span = None if length is None else {"range": (start, start + length)}
        try:
            return bytes(obstore.get(self.store, key, options=span).bytes())  # type: ignore[arg-type] # a TypedDict
        except Exception as error:  # noqa: BLE001 - sorted by its kind below
            sort_obstore(error)

    def size(self, key: str) -> int:
        """Bytes of an object."""
        import obstore

        try:
            return int(obstore.head(self.store, key)["size"])
        except Exception as error:  # noqa: BLE001 - sorted by its kind below
            sort_obstore(error)

    def put_new(self, key: str, data: bytes, attributes: dict[str, str]) -> None:
        """Write an object that is not there yet; raises :class:`AlreadyThereError` if it is."""
        import obstore

        try:
            obstore.put(self.store, key, data, mode="create", attributes=attributes)
        except obstore.exceptions.AlreadyExistsError:
            raise AlreadyThereError(key) from None
        except Exception as error:  # noqa: BLE001 - sorted by its kind below
            sort_obstore(error)

    def describe(self, key: str) -> tuple[int, dict[str, str]]:
        """Bytes and attributes of an object, without its body."""
        import obstore

        try:
            found = obstore.get(self.store, key, options={"head": True})
            return int(found.meta["size"]), {str(k): str(v) for k, v in found.attributes.items()}
        except Exception as error:  # noqa: BLE001 - sorted by its kind below
            sort_obstore(error)

    def list(self) -> Iterator[tuple[str, int]]:
        """Keys and sizes of everything there."""
        import obstore

        try:
            for page in obstore.list(self.store):
                for meta in page:
                    yield str(meta["path"]), int(meta["size"])
        except Exception as error:  # noqa: BLE001 - sorted by its kind below
            sort_obstore(error)


def _told(error: BaseException) -> str:
    """First line of what a library says, without secrets and without markup."""
    text = str(error).split("\n\nDebug source")[0]
    code = re.search(r"<Code>(\w+)</Code>(?:.*?<Message>(.*?)</Message>)?", text, re.DOTALL)
    line = text.split("\n")[0].split(": <?xml")[0].strip().rstrip(":")
    return scrub(line + (f" ({code[1]}: {code[2] or ''})" if code else ""))[:500]


def sort_obstore(error: Exception) -> NoReturn:
    """Raise what an error of obstore means."""
    from obstore import exceptions as kinds

    text, told = str(error), _told(error)
    if isinstance(error, RefusedError | PassingError | AlreadyThereError):
        raise error
    if isinstance(error, FileNotFoundError):
        if "NoSuchBucket" in text:
            raise RefusedError(f"there is no such bucket ({told})") from None
        raise FileNotFoundError(told) from None
    if isinstance(error, kinds.PermissionDeniedError | kinds.UnauthenticatedError):
        raise RefusedError(_no_access(told)) from None
    status = _STATUS.search(text)
    if status is not None and status[1] == "416":
        raise RefusedError(f"the object is shorter than it should be ({told})") from None
    if status is not None and status[1][0] in "34" and status[1] not in {"408", "429"}:
        raise RefusedError(told) from None
    if isinstance(error, kinds.NotSupportedError):
        raise RefusedError(
            f"the server does not serve parts of files (HTTP ranges): {told}"
        ) from None
    if not isinstance(error, kinds.BaseError | OSError):
        raise error
    if re.search(r"[Cc]redential|IMDS|security-credentials|metadata.google", text.split("\n\n")[0]):
        raise RefusedError(f"no credentials: {told}") from None
    kind = re.search(r"kind: (Timeout|Connect|Interrupted)", text)
    why = {
        "Timeout": "no answer in time: ",
        "Connect": "no connection: ",
        "Interrupted": "cut short: ",
    }
    raise PassingError((why[kind[1]] if kind else "") + told) from None


def _no_access(told: str) -> str:
    return (
        f"access refused: the credentials in use may not read this, or the object does not exist and they may not "
        f"list the bucket ({told})"
    )


class FsspecBackend:
    """Requests by fsspec: s3fs, gcsfs or aiohttp, which find credentials in their own usual places."""

    def __init__(self, address: Address, options: RemoteOptions) -> None:
        import fsspec

        self._address, self._passing = address, self._passing_kinds(address.scheme)
        keywords: dict[str, Any] = {"skip_instance_cache": True, "use_listings_cache": False}
        if address.scheme == "s3":
            keywords |= self._s3(options)
        elif address.scheme in {"https", "http"}:
            keywords |= self._http(address, options)
        self._fs: Any = fsspec.filesystem(address.scheme, **keywords)

    @staticmethod
    def _s3(options: RemoteOptions) -> dict[str, Any]:
        anonymous = os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in {"1", "true", "yes"}
        endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
        waits = {"connect_timeout": options.connect_timeout, "read_timeout": options.timeout}
        return {
            "anon": anonymous,
            "endpoint_url": endpoint,
            "config_kwargs": {**waits, "retries": {"max_attempts": 1}},
        }

    @staticmethod
    def _http(address: Address, options: RemoteOptions) -> dict[str, Any]:
        import aiohttp

        waits = aiohttp.ClientTimeout(total=options.timeout, sock_connect=options.connect_timeout)
        keywords: dict[str, Any] = {"client_kwargs": {"timeout": waits}}
        if is_private(address) and (login := netrc_login(address)):
            keywords["client_kwargs"]["auth"] = aiohttp.BasicAuth(*login)
        return keywords

    @staticmethod
    def _passing_kinds(scheme: str) -> tuple[type[BaseException], ...]:
        kinds: list[type[BaseException]] = [OSError, TimeoutError]
        if scheme in {"https", "http", "gs"}:
            import aiohttp

            kinds.append(aiohttp.ClientError)
        if scheme == "s3":
            from botocore.exceptions import BotoCoreError

            kinds.append(BotoCoreError)
        return tuple(kinds)

    def _at(self, key: str) -> str:
        query = f"?{self._address.query}" if self._address.query else ""
        return f"{self._address.label}/{key}{query}"

    def get(self, key: str, start: int, length: int | None) -> bytes:
        """``length`` bytes from ``start``, or the whole object."""
        try:
            if length is None:
                return bytes(self._fs.cat_file(self._at(key)))
            return bytes(self._fs.cat_file(self._at(key), start=start, end=start + length))
        except Exception as error:  # noqa: BLE001 - sorted by its kind below
            self._sort(error)

    def size(self, key: str) -> int:
        """Bytes of an object."""
        try:
            return int(self._fs.size(self._at(key)))
        except Exception as error:  # noqa: BLE001 - sorted by its kind below
            self._sort(error)

    def _sort(self, error: Exception) -> NoReturn:
        told, status = _told(error) or type(error).__name__, getattr(error, "status", None)
        if isinstance(error, FileNotFoundError):
            if "bucket" in str(error).lower():
                raise RefusedError(f"there is no such bucket ({told})") from None
            raise FileNotFoundError(told) from None
        if isinstance(error, PermissionError) or status in {401, 403}:
            raise RefusedError(_no_access(told)) from None
        if type(error).__name__ in {"NoCredentialsError", "DefaultCredentialsError"}:
            raise RefusedError(f"no credentials: {told}") from None
        if isinstance(status, int) and 300 <= status < 500 and status not in {408, 429}:
            raise RefusedError(told) from None
        if isinstance(error, self._passing):
            late = isinstance(error, TimeoutError)
            raise PassingError(f"no answer in time: {told}" if late else told) from None
        raise error
