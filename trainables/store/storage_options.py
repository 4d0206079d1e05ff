"""How an object store is reached: endpoint, region and the like, from a cluster file or the environment. Never keys."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from typing import Any, Self
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, ValidationError, field_validator, model_validator

from trainables.core import credentials
from trainables.core.errors import SpecError
from trainables.core.registry import nearest
from trainables.core.spec import Spec, first_error, plain

OPTIONS_VARIABLE = "ROBUSTSEARCH_STORAGE_OPTIONS"
"""The environment variable with options as `name=value`, separated by spaces."""

_VARIABLES = {
    "s3": {
        "endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
        "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
        "allow_http": ("AWS_ALLOW_HTTP",),
        "ca_certificate": ("AWS_CA_BUNDLE",),
    },
    "az": {
        "account": ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"),
        "endpoint": ("AZURE_STORAGE_ENDPOINT",),
    },
}
"""Variables of the providers that stand for options, by scheme: workers get what the launch has."""

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class StorageOptions(Spec):
    """How the object store of a URI is reached. Credentials are not options: each machine takes them from its own
    environment, credentials file or instance role.
    """

    model_config = ConfigDict(hide_input_in_errors=True)

    endpoint: str | None = Field(
        default=None,
        description="URL of the server, such as https://minio.example.org:9000; null is the provider's own.",
    )
    region: str | None = Field(default=None, description="Region of the bucket (S3); null is us-east-1.")
    path_style: bool = Field(
        default=True, description="S3: requests go to `endpoint/bucket`; false sends them to `bucket.endpoint`."
    )
    allow_http: bool = Field(
        default=False, description="Accept an endpoint without TLS; on this machine (localhost) one always is."
    )
    account: str | None = Field(default=None, description="Azure: the storage account.")
    anonymous: bool = Field(
        default=False, description="Send requests without credentials, for emulators and servers without accounts."
    )
    ca_certificate: str | None = Field(
        default=None,
        description="PEM file, on every machine, with the authority that signed the endpoint's certificate.",
    )

    @model_validator(mode="before")
    @classmethod
    def _no_credentials(cls, data: Any) -> Any:
        for name in data if isinstance(data, Mapping) else ():
            if name not in cls.model_fields and credentials.is_name(str(name)):
                raise ValueError(f"{str(name)[:40]} is a credential, which would be recorded and sent: {ADVICE}")
        return data

    @field_validator("endpoint")
    @classmethod
    def _an_endpoint(cls, endpoint: str | None) -> str | None:
        if endpoint is None:
            return None
        if credentials.in_uri(endpoint):
            raise ValueError(credentials.ADVICE)
        parts = urlsplit(endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            raise ValueError(f"{endpoint!r} is not a URL of a server; write it as https://host:port")
        return endpoint.rstrip("/")

    @model_validator(mode="after")
    def _encrypted(self) -> Self:
        parts = urlsplit(self.endpoint or "")
        if parts.scheme == "http" and not self.allow_http and parts.hostname not in _LOOPBACK:
            raise ValueError(
                f"the endpoint {self.endpoint} has no TLS: what is sent can be read and changed on the way; write "
                "https://, or `allow_http: true` (AWS_ALLOW_HTTP=true) where the network is trusted"
            )
        return self

    def plain(self) -> dict[str, str | bool]:
        """Return the options that are not the defaults, as plain data."""
        return {name: value for name, value in plain(self).items() if value != type(self).model_fields[name].default}

    def words(self) -> str:
        """Return the options as the environment variable takes them."""
        return shlex.join(
            f"{name}={str(value).lower() if value is True or value is False else value}"
            for name, value in self.plain().items()
        )

    def completed(self, scheme: str) -> Self:
        """Return the options with what they leave open taken from the environment.

        Raises:
            SpecError: a variable of the environment is wrong.
        """
        given = {**_provider_variables(scheme), **_own_variable(), **self.plain()}
        try:
            return type(self).model_validate(given)
        except ValidationError as error:
            raise SpecError(f"{OPTIONS_VARIABLE} or the provider's variables: {first_error(error)}") from None


ADVICE = (
    "give it to each machine by environment variables (such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_KEY), by the provider's credentials file, or by an "
    "instance role"
)


def _provider_variables(scheme: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for option, variables in _VARIABLES.get(scheme, {}).items():
        value = next((os.environ[name] for name in variables if os.environ.get(name)), None)
        if value is not None:
            found[option] = _TRUTH.get(value.lower(), value) if option == "allow_http" else value
    if os.environ.get("AWS_VIRTUAL_HOSTED_STYLE_REQUEST", "").lower() == "true" and scheme == "s3":
        found["path_style"] = False
    return found


def _own_variable() -> dict[str, Any]:
    """Return the options of our own environment variable.

    Raises:
        SpecError: it is not a list of `name=value`, or names what is not an option; its text is not repeated.
    """
    found: dict[str, Any] = {}
    known = StorageOptions.model_fields
    try:
        words = shlex.split(os.environ.get(OPTIONS_VARIABLE, ""))
    except ValueError as error:
        raise SpecError(f"{OPTIONS_VARIABLE}: {error}; write name=value, separated by spaces") from None
    for word in words:
        name, mark, value = word.partition("=")
        if credentials.is_name(name) and name not in known:
            raise SpecError(f"{OPTIONS_VARIABLE}: {name[:40]} is a credential; {ADVICE}")
        if not mark or name not in known:
            what = f"{name[:40]!r} is not an option" if mark else "a word is not name=value"
            raise SpecError(f"{OPTIONS_VARIABLE}: {what}{nearest(name, known)} (allowed: {', '.join(known)})")
        flag = isinstance(known[name].default, bool)
        if flag and value.lower() not in _TRUTH:
            raise SpecError(f"{OPTIONS_VARIABLE}: {name}={value[:20]}: write true or false")
        found[name] = _TRUTH[value.lower()] if flag else value
    return found
