"""Credentials for object storage, from the environment or the usual files; never kept, never shown.

What the environment gives, obstore reads by itself. Added here: profile files of AWS, ``~/.netrc``,
and an early word where there is nothing at all, since asking the metadata service of a cloud
that one is not in takes minutes to fail.
"""

from __future__ import annotations

import configparser
import importlib.util
import netrc
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from featurestore.errors import InputError, MissingDependencyError, RemoteStoreError, unknown_name
from featurestore.store.remote_url import Address

_AWS_ENVIRONMENT: Final = (
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), ("AWS_WEB_IDENTITY_TOKEN_FILE",),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",), ("AWS_CONTAINER_CREDENTIALS_FULL_URI",),
)  # fmt: skip
_GOOGLE_ENVIRONMENT: Final = (
    "GOOGLE_APPLICATION_CREDENTIALS", "GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY", "SERVICE_ACCOUNT",
)  # fmt: skip
_GOOGLE_FILE: Final = Path(".config/gcloud/application_default_credentials.json")
_INDIRECT: Final = ("role_arn", "sso_session", "sso_account_id", "credential_process")
_METADATA_SERVICES: Final = {"s3": ("169.254.169.254", 80), "gs": ("metadata.google.internal", 80)}
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


def s3_config(environ: Mapping[str, str]) -> dict[str, Any]:
    """What obstore needs beside the environment to reach S3: keys of a profile, region, endpoint.

    Returns
    -------
    dict
        Of ``S3Config``; ``credential_provider`` apart, where a profile needs boto3.

    Raises
    ------
    InputError
        If the profile that ``AWS_PROFILE`` names does not exist.
    RemoteStoreError
        If there are no credentials anywhere.
    """
    config: dict[str, Any] = {}
    endpoint = environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        config["endpoint"] = endpoint
    anonymous = environ.get("AWS_SKIP_SIGNATURE", "").lower() in {"1", "true", "yes"}
    profile = {} if anonymous or _in_environment(environ) else _profile(environ)
    for name, key in (
        ("aws_access_key_id", "access_key_id"), ("aws_secret_access_key", "secret_access_key"),
        ("aws_session_token", "session_token"),
    ):  # fmt: skip
        if profile.get(name):
            config[key] = profile[name]
    if not any(environ.get(name) for name in ("AWS_REGION", "AWS_DEFAULT_REGION")):
        region = profile.get("region")
        if region:
            config["region"] = region
    if profile.get("endpoint_url") and not endpoint:
        config["endpoint"] = profile["endpoint_url"]
    if anonymous or _in_environment(environ) or "access_key_id" in config:
        return config
    if any(profile.get(name) for name in _INDIRECT):
        config["credential_provider"] = _boto3_provider(environ)
        return config
    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true" or not _answers("s3"):
        raise RemoteStoreError(
            "no credentials for S3: neither in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) nor "
            "in a profile (~/.aws/credentials, chosen by AWS_PROFILE). For a public bucket set AWS_SKIP_SIGNATURE=true"
        )
    return config


def _in_environment(environ: Mapping[str, str]) -> bool:
    return any(all(environ.get(n) for n in names) for names in _AWS_ENVIRONMENT)


def _profile(environ: Mapping[str, str]) -> dict[str, str]:
    """The chosen profile of the two files, credentials over configuration; empty where there is none."""
    home = Path(environ.get("HOME", "~")).expanduser()
    wanted = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
    credentials = _ini(environ.get("AWS_SHARED_CREDENTIALS_FILE"), home / ".aws/credentials")
    configured = _ini(environ.get("AWS_CONFIG_FILE"), home / ".aws/config")
    sections = {n.removeprefix("profile ").strip(): n for n in configured.sections()}
    found: dict[str, str] = {}
    if wanted in sections:
        found |= dict(configured[sections[wanted]])
    if wanted in credentials:
        found |= dict(credentials[wanted])
    if not found and wanted != "default":
        raise unknown_name("AWS profile", wanted, {*sections, *credentials.sections()})
    return found


def _ini(named: str | None, usual: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    path = Path(named).expanduser() if named else usual
    try:
        parser.read(path, encoding="utf-8")
    except (configparser.Error, UnicodeDecodeError):
        # The parser's message would quote the line, which may be a key.
        raise InputError(f"{path}: not a profile file as AWS writes them") from None
    return parser


def _boto3_provider(environ: Mapping[str, str]) -> Any:
    """Roles, single sign-on and credential processes are boto3's business."""
    if importlib.util.find_spec("boto3") is None:
        raise MissingDependencyError(
            "the AWS profile gets its keys from a role, single sign-on or a process, which boto3 does: pip install boto3"
        )
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider

    return Boto3CredentialProvider(boto3.Session(profile_name=environ.get("AWS_PROFILE")))


def check_google(environ: Mapping[str, str]) -> None:
    """Say at once that there are no credentials for Google Cloud Storage.

    Raises
    ------
    RemoteStoreError
    """
    if environ.get("GOOGLE_SKIP_SIGNATURE", "").lower() in {"1", "true", "yes"}:
        return
    home = Path(environ.get("HOME", "~")).expanduser()
    if any(environ.get(n) for n in _GOOGLE_ENVIRONMENT) or (home / _GOOGLE_FILE).exists():
        return
    if not _answers("gs"):
        raise RemoteStoreError(
            "no credentials for Google Cloud Storage: set GOOGLE_APPLICATION_CREDENTIALS to a key file or run "
            "'gcloud auth application-default login'. For a public bucket set GOOGLE_SKIP_SIGNATURE=true"
        )


def _answers(scheme: str) -> bool:
    """Whether the metadata service of the cloud is there, that is, whether we run in it."""
    try:
        socket.create_connection(_METADATA_SERVICES[scheme], timeout=1).close()
    except OSError:
        return False
    return True


def netrc_login(address: Address) -> tuple[str, str] | None:
    """User and password of a host from ``~/.netrc`` (or the file that ``NETRC`` names); for https only."""
    if not is_private(address):
        return None
    host = urlsplit(address.label).hostname or ""
    path = Path(os.environ.get("NETRC") or Path.home() / ".netrc")
    try:
        found = netrc.netrc(str(path)).hosts.get(host)
    except (FileNotFoundError, netrc.NetrcParseError, PermissionError):
        return None
    return (found[0], found[2] or "") if found else None


def is_private(address: Address) -> bool:
    """Whether nobody on the way reads along: https, or this machine."""
    return address.scheme == "https" or (urlsplit(address.label).hostname in _LOOPBACK)


def may_be_http(endpoint: str | None, environ: Mapping[str, str]) -> bool:
    """Whether an endpoint without TLS is spoken to: this machine's, or one that is allowed by name."""
    if endpoint is None or not endpoint.startswith("http://"):
        return False
    allowed = environ.get("AWS_ALLOW_HTTP", "").lower() in {"1", "true", "yes"}
    return allowed or urlsplit(endpoint).hostname in _LOOPBACK
