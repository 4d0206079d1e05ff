"""The checksum at the end of a record: of its bytes, and of the place where the file belongs.

It finds damage, edits, and a record in another's place. It is not a signature: who can write the file can compute it.
"""

from __future__ import annotations

import hashlib

FORMAT = "format"
CHECKSUM = "checksum"
_MARK = f',\n "{FORMAT}": 2,\n "{CHECKSUM}": "'.encode()
_END = b'"\n}\n'
_TAIL = len(_MARK) + 64 + len(_END)
_KNOWN = (f'"{FORMAT}"'.encode(), f'"{CHECKSUM}"'.encode())
"""What a record with a checksum contains. Neither can stand in a string of JSON, where quotes are escaped."""


def sealed(text: str, place: str) -> bytes:
    """Return a JSON object, which is not empty, with a checksum for the file at `place` in a study's directory."""
    body = text.rstrip().removesuffix("}").rstrip().encode()
    return body + _MARK + _checksum(body, place) + _END


def checksum_fault(content: bytes, place: str, *, required: bool = False) -> str | None:
    """Return what is wrong with the checksum of a record, None where it is right.

    A record of an older version has none; with `required` that is a fault, too.
    """
    body, tail = content[:-_TAIL], content[-_TAIL:]
    if tail == _MARK + _checksum(body, place) + _END:
        return None
    if not required and not any(name in content for name in _KNOWN):
        return None
    if not tail.startswith(_MARK):
        return "its checksum is missing: it was edited, or is damaged"
    return "its checksum differs: it was edited, is damaged, or is another file's"


def _checksum(body: bytes, place: str) -> bytes:
    return hashlib.sha256(f"{place}\n".encode() + body).hexdigest().encode()
