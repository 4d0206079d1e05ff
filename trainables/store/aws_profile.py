"""Credentials of the AWS profile of this machine's user, as the AWS tools read them; obstore reads the environment."""

from __future__ import annotations

import configparser
import importlib.util
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trainables.core.errors import StorageError

_OTHER_WAYS = ("sso_session", "sso_start_url", "role_arn", "credential_process", "login_session")
_KEYS = {
    "aws_access_key_id": "access_key_id",
    "aws_secret_access_key": "secret_access_key",
    "aws_session_token": "session_token",
}


@dataclass(frozen=True)
class AwsProfile:
    """A profile: static `keys`, or a `provider` that fetches temporary ones; never printed."""

    keys: dict[str, str] = field(default_factory=dict, repr=False)
    region: str | None = None
    provider: Any = field(default=None, repr=False)


def aws_profile() -> AwsProfile | None:
    """Return the profile that AWS_PROFILE names, or the default one; None without one, or with keys in the environment.

    Raises:
        StorageError: AWS_PROFILE names none, or one that needs boto3, which is not installed.
    """
    named = os.environ.get("AWS_PROFILE")
    if os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return None
    name = named or "default"
    found = {
        **_section("AWS_CONFIG_FILE", "config", name),
        **_section("AWS_SHARED_CREDENTIALS_FILE", "credentials", name),
    }
    if not found:
        if named:
            raise StorageError(f"AWS_PROFILE is {named}, but ~/.aws/config and ~/.aws/credentials have no such profile")
        return None
    region = found.get("region")
    if found.keys() >= {"aws_access_key_id", "aws_secret_access_key"}:
        return AwsProfile({own: found[key] for key, own in _KEYS.items() if key in found}, region)
    if not found.keys() & set(_OTHER_WAYS):
        return None
    if importlib.util.find_spec("boto3") is None:
        raise StorageError(
            f"the AWS profile {name} gets its credentials by {', '.join(sorted(found.keys() & set(_OTHER_WAYS)))}, for "
            "which boto3 is needed: `pip install boto3`, or export keys with `aws configure export-credentials`"
        )
    import boto3
    from obstore.auth.boto3 import Boto3CredentialProvider

    return AwsProfile({}, region, Boto3CredentialProvider(boto3.Session(profile_name=name)))


def _section(variable: str, file: str, name: str) -> dict[str, str]:
    """Return the settings of a profile in one of the two files."""
    path = Path(os.environ.get(variable) or Path.home() / ".aws" / file).expanduser()
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(path)
    except (configparser.Error, UnicodeDecodeError):
        raise StorageError(f"{path} cannot be read: it is not a file of AWS profiles") from None
    heading = name if file == "credentials" or name == "default" else f"profile {name}"
    return dict(parser[heading]) if parser.has_section(heading) else {}
