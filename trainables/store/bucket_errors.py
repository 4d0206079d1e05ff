"""What the errors of object stores mean, in words; their own texts hold addresses, headers and identifiers of keys."""

from __future__ import annotations

import re
import socket

from trainables.store.storage_options import StorageOptions

_STATUS = re.compile(r"status code: (\d+)")
_CODE = re.compile(r"<Code>(\w+)</Code>")
_REGION = re.compile(r"<Region>([a-z0-9-]+)</Region>")
_MESSAGE = re.compile(r"<Message>([^<]{1,200})")
_PASSING = ("error sending request", "timed out", "timeout", "request or response body error", "connection")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
_KEYS = ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken", "AuthenticationFailed")
_REGIONS = (
    "PermanentRedirect",
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "TemporaryRedirect",
)


def no_bucket(text: str) -> bool:
    """Return whether an error says that the bucket does not exist, and not the object in it."""
    return any(code in text for code in _NO_BUCKET)


def passing(text: str) -> bool:
    """Return whether a request may succeed that is sent again, or may even have succeeded."""
    status = _STATUS.search(text)
    return (
        int(status[1]) in (408, 409, 429) or int(status[1]) >= 500
        if status
        else any(w in text.lower() for w in _PASSING)
    )


def words(text: str, uri: str, options: StorageOptions, *, bucket_missing: bool = False) -> str:
    """Return what an error of the store behind `uri` means and what to do.

    Units: the text is that of obstore's exception.
    """
    text = text.split("\n\nDebug source")[0]
    status, code = _STATUS.search(text), _CODE.search(text)
    number, name = int(status[1]) if status else 0, code[1] if code else ""
    if bucket_missing or no_bucket(text):
        return no_such_bucket(uri)
    if "169.254.169.254" in text or "metadata.google.internal" in text or "token request" in text:
        return no_credentials(uri)
    if name in _REGIONS or number == 301 or "Received redirect without LOCATION" in text:
        there = _REGION.search(text)
        where = f"in the region {there[1]}" if there else "in another region"
        here = options.region or "us-east-1"
        return f"the bucket is {where}, and not in {here}: write its `region` in `storage_options`, or set AWS_REGION"
    if name in _KEYS or number == 401:
        return f"the server does not accept the credentials of {socket.gethostname()} ({name or number})"
    if number == 403:
        return f"access denied: the credentials of {socket.gethostname()} do not allow this ({name or number})"
    if "BadScheme" in text or "builder error" in text:
        return "the endpoint has no TLS: write `allow_http: true` in `storage_options` where the network is trusted"
    if not status and any(word in text.lower() for word in _PASSING):
        return f"the server at {options.endpoint or 'the provider'} does not answer{_tries(text)}"
    if number in (429, 503):
        return f"the server is too busy ({name or number}){_tries(text)}"
    if number:
        said = _MESSAGE.search(text)
        return f"the server answers {number}{f' {name}' if name else ''}{f': {said[1]}' if said else ''}{_tries(text)}"
    return " ".join(text.split())[:300]


def _tries(text: str) -> str:
    tries = re.search(r"after (\d+) retries", text)
    return f", after {tries[1]} retries" if tries else ""


def no_such_bucket(uri: str) -> str:
    """Say that a bucket does not exist."""
    what = "container" if uri.startswith("az://") else "bucket"
    return f"there is no {what} {'/'.join(uri.split('/')[:3])}: create it with the provider's tools first"


def no_credentials(uri: str) -> str:
    """Say that a machine has no credentials, and where they are looked for."""
    where = {
        "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, ~/.aws/credentials, an instance role",
        "gs": "GOOGLE_APPLICATION_CREDENTIALS, `gcloud auth application-default login`, the machine's service account",
        "az": "AZURE_STORAGE_ACCOUNT_KEY, AZURE_CLIENT_ID, AZURE_USE_AZURE_CLI=true, an identity of the machine",
    }[uri.partition(":")[0]]
    return f"{socket.gethostname()} has no credentials for {uri}; looked for: {where}"
