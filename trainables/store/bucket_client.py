"""Clients for buckets on S3, Google Cloud Storage and Azure: endpoints, credentials, timeouts and retries."""

from __future__ import annotations

import os
import socket
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from urllib.parse import urlsplit

from trainables.core.errors import StorageError
from trainables.store import bucket_errors
from trainables.store.aws_profile import aws_profile
from trainables.store.storage_options import StorageOptions

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

Store: TypeAlias = "S3Store | GCSStore | AzureStore"

CONNECT_SECONDS = 5.0
SILENT_SECONDS = 30.0
"""How long a server may say nothing before a request is sent again."""
REQUEST_SECONDS = 600.0
RETRIES: Any = {
    "max_retries": 10,
    "retry_timeout": timedelta(seconds=60),
    "backoff": {"init_backoff": timedelta(seconds=0.2), "max_backoff": timedelta(seconds=8), "base": 2},
}
"""How often, and for how long, a request is repeated that fails in passing."""
METADATA_SERVICE = ("169.254.169.254", 80)
"""Where machines in a cloud ask for the credentials of their role."""


def open_bucket(scheme: str, name: str, options: StorageOptions) -> Store:
    """Return a client for a bucket.

    Raises:
        StorageError: its server does not answer, or there are no credentials.
    """
    from obstore.exceptions import BaseError
    from obstore.store import AzureStore, GCSStore

    settings: dict[str, Any] = {"client_options": _client(options), "retry_config": RETRIES}
    uri = f"{scheme}://{name}"
    try:
        if scheme == "s3":
            return _s3(name, options, settings)
        if scheme == "gs":
            _check_reachable(options.endpoint or "https://storage.googleapis.com", uri)
            found = {"base_url": options.endpoint, "skip_signature": options.anonymous or None}
            if options.anonymous:
                settings["credential_provider"] = lambda: {"token": "none", "expires_at": None}
            return GCSStore(name, config=cast(Any, _given(found)), **settings)
        account = options.account
        if account is None and options.endpoint is None:
            raise StorageError(
                f"{uri}: the storage account is not known; write it as the option `account`, or set "
                "AZURE_STORAGE_ACCOUNT_NAME"
            )
        _check_reachable(options.endpoint or f"https://{account}.blob.core.windows.net", uri)
        found = {"account_name": account, "endpoint": options.endpoint, "skip_signature": options.anonymous or None}
        return AzureStore(name, config=cast(Any, _given(found)), **settings)
    except (BaseError, ValueError, ImportError) as error:
        raise StorageError(f"cannot open the storage {uri}: {bucket_errors.words(str(error), uri, options)}") from None


def _s3(name: str, options: StorageOptions, settings: dict[str, Any]) -> S3Store:
    from obstore.store import S3Store

    profile = None if options.anonymous else aws_profile()
    if profile is not None and profile.provider is not None:
        settings["credential_provider"] = profile.provider
    region = options.region or (profile.region if profile else None) or "us-east-1"
    endpoint = options.endpoint
    if endpoint and not options.path_style:
        parts = urlsplit(endpoint)
        endpoint = parts._replace(netloc=f"{name}.{parts.netloc}").geturl()
    _check_reachable(endpoint or f"https://s3.{region}.amazonaws.com", f"s3://{name}")
    if not options.anonymous and profile is None and not _known_to_aws():
        _check_role(f"s3://{name}")
    found = {
        "region": region,
        "endpoint": endpoint,
        "virtual_hosted_style_request": not options.path_style,
        "skip_signature": options.anonymous or None,
        **(profile.keys if profile else {}),
    }
    return S3Store(name, config=cast(Any, _given(found)), **settings)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _client(options: StorageOptions) -> dict[str, Any]:
    """Return the settings of connections.

    Raises:
        StorageError: the certificate cannot be read on this machine.
    """
    found: dict[str, Any] = {
        "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
        "read_timeout": timedelta(seconds=SILENT_SECONDS),
        "timeout": timedelta(seconds=REQUEST_SECONDS),
        "allow_http": (options.endpoint or "").startswith("http://"),
    }
    if options.ca_certificate:
        try:
            with open(options.ca_certificate, "rb") as file:
                found["root_certificate"] = file.read()
        except OSError as error:
            raise StorageError(f"ca_certificate {options.ca_certificate} on {socket.gethostname()}: {error}") from None
    return found


def _check_reachable(endpoint: str, uri: str) -> None:
    """Refuse an address where nothing listens at once, and not after all retries; a proxy knows addresses itself.

    Raises:
        StorageError: nobody answers there.
    """
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY")):
        return
    parts = urlsplit(endpoint)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or error
        raise StorageError(
            f"{uri}: no server answers at {parts.hostname}:{port} from {socket.gethostname()} ({reason}); check the "
            "network and the option `endpoint` (in the cluster file, or in ROBUSTSEARCH_STORAGE_OPTIONS)"
        ) from None


def _known_to_aws() -> bool:
    """Return whether the environment names credentials that obstore finds itself."""
    names = (
        "AWS_ACCESS_KEY_ID",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    )
    return any(os.environ.get(name) for name in names) or os.environ.get("AWS_SKIP_SIGNATURE", "").lower() == "true"


def _check_role(uri: str) -> None:
    """Refuse a machine that has no credentials and is in no cloud that could give it some.

    Raises:
        StorageError: names where credentials are looked for.
    """
    try:
        socket.create_connection(METADATA_SERVICE, timeout=2).close()
    except OSError:
        raise StorageError(bucket_errors.no_credentials(uri)) from None
