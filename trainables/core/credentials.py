"""Credentials in URIs: what is in a URI is printed, recorded and sent to workers, so none may hold a key."""

from __future__ import annotations

import re
from urllib.parse import unquote

ADVICE = (
    "the URI holds credentials, which would be printed, recorded and sent to every worker; remove them, and give them "
    "to the machines by environment variables (such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "GOOGLE_APPLICATION_CREDENTIALS, AZURE_STORAGE_ACCOUNT_KEY) or by the provider's credentials file"
)

_PORT = r"\d+([/?#]|$)"
_USER_WITH_PASSWORD = re.compile(rf"://(?!\[[0-9a-f:.]*\])[^/?#@:]*:(?!{_PORT})[^@]*@", re.IGNORECASE)
_NAME = (
    r"sig|signature|sas|key|password|passwd|pass|pwd|secret|token|auth|authorization|bearer"
    r"|[\w-]*(access|account|secret|private|api|shared|session|subscription|storage)[\w-]*(key|token|signature)(-?id)?"
    r"|[\w-]*(secret|password|passwd|passphrase|credentials?|token)|[\w-]*-signature"
)
_OPTION = re.compile(r"key|token|secret|passw|pwd|credential|signature|sas(_|$)|bearer", re.IGNORECASE)
_ONE_SLASH = re.compile(r"\b([a-z][a-z0-9+.-]+):/(?!/)", re.IGNORECASE)
_PARAMETER = re.compile(rf"://.*[?&#;]({_NAME})[=:][^&#]", re.IGNORECASE | re.DOTALL)


def is_name(text: str) -> bool:
    """Return whether an option of this name would hold a password, a key or a token."""
    return _OPTION.search(text) is not None


def in_uri(text: str) -> bool:
    """Return whether a text has a URI with a password, a key or a token, however it is encoded."""
    for _ in range(4):
        text = _ONE_SLASH.sub(r"\1://", text)
        if "://" in text and (_USER_WITH_PASSWORD.search(text) or _PARAMETER.search(text)):
            return True
        if (decoded := unquote(text)) == text:
            return False
        text = decoded
    return True
