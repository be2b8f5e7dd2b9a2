"""Addresses of stores on the network: told from paths, taken apart, and kept free of secrets in messages."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from featurestore.errors import InputError, did_you_mean

SCHEMES: Final = ("s3", "gs", "https", "http")
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_URL_IN_TEXT: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)([^\s\"'<>]*)")
_SIGNED: Final = re.compile(
    r"(?i)\b(X-(?:Amz|Goog)-[A-Za-z-]+|AWSAccessKeyId|GoogleAccessId|Signature|sig|token|password)"
    r"=[^&\s\"'<>]+"
)
_SECRET_VARIABLES: Final = (
    "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ACCESS_KEY_ID", "GOOGLE_SERVICE_ACCOUNT_KEY",
)  # fmt: skip


def is_url(text: str | Path) -> bool:
    """Whether a store is named by an address rather than by a path."""
    return isinstance(text, str) and _URL.match(text) is not None


def store_place(text: str) -> str | Path:
    """A store as a user names it: an address stays text, anything else is a path."""
    return text if is_url(text) else Path(text)


def scrub(text: str) -> str:
    """A text without what may be secret: user and password of addresses, query strings, keys.

    Error messages of libraries quote addresses as they were requested; a signed one opens the
    object to whoever reads the log.
    """
    text = _URL_IN_TEXT.sub(_clean_url, text)
    text = _SIGNED.sub(r"\1=…", text)
    for name in _SECRET_VARIABLES:
        secret = os.environ.get(name, "")
        if len(secret) >= 4:
            text = text.replace(secret, "…")
    return text


def _clean_url(found: re.Match[str]) -> str:
    scheme, rest = found[1], found[2]
    rest, mark, _ = rest.partition("?")
    authority, slash, path = rest.partition("/")
    if "@" in authority:
        authority = f"…@{authority.rpartition('@')[2]}"
    return f"{scheme}{authority}{slash}{path}{'?…' if mark else ''}"


@dataclass(frozen=True)
class Address:
    """Where a remote store lies.

    Parameters
    ----------
    scheme : {"s3", "gs", "https", "http"}
    host : str
        Bucket, or host with port.
    path : str
        Prefix within it, no slash at either end.
    query : str
        Of a signed ``https`` address, sent with every request; never shown.
    """

    scheme: str
    host: str
    path: str
    query: str = ""

    @property
    def label(self) -> str:
        """The address as messages show it."""
        return f"{self.scheme}://{self.host}" + (f"/{self.path}" if self.path else "")

    @property
    def url(self) -> str:
        """The address as requests need it; may hold a signature."""
        return self.label + (f"?{self.query}" if self.query else "")

    def __repr__(self) -> str:
        return f"Address({self.label!r})"

    @property
    def is_bucket(self) -> bool:
        """Whether it is object storage, which can list and write."""
        return self.scheme in {"s3", "gs"}


def parse_address(url: str) -> Address:
    """Take an address apart.

    Raises
    ------
    InputError
        For an unknown scheme, no bucket, or credentials in the address.
    """
    try:
        parts = urlsplit(url)
        user = parts.username is not None or parts.password is not None
        _ = parts.port
    except ValueError as error:
        raise InputError(f"{scrub(url)}: not an address ({scrub(str(error))})") from None
    scheme, shown = parts.scheme.lower(), scrub(url)
    if scheme not in SCHEMES:
        raise InputError(
            f"{shown}: {scheme}:// is no place a store is read from.{did_you_mean(scheme, SCHEMES)} "
            f"Known: {', '.join(f'{s}://' for s in SCHEMES)}"
        )
    if user:
        raise InputError(
            f"{shown}: an address with a user or password in it ends up in logs and histories. Leave them out; "
            "credentials are taken from the environment or from the usual files (~/.netrc, ~/.aws/credentials)"
        )
    if not parts.netloc:
        raise InputError(f"{shown}: no {'bucket' if scheme in {'s3', 'gs'} else 'host'} named")
    if parts.query and scheme in {"s3", "gs"}:
        raise InputError(
            f"{shown}: an address of a bucket takes no query; leave out what follows ?"
        )
    path = parts.path.strip("/")
    if any(part in {"", ".", ".."} for part in path.split("/")) and path:
        raise InputError(f"{shown}: empty, '.' or '..' within the path")
    return Address(scheme, parts.netloc, path, parts.query)
