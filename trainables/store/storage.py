"""The storage of records and stages: a local directory, or a bucket on S3, Google Cloud Storage or Azure.

A file is complete or absent, and of several processes that claim one, exactly one gets it: local files appear by
rename after fsync and by links, objects by writes under conditions.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, urlsplit

from trainables.core import credentials
from trainables.core.errors import SpecError, StorageError
from trainables.store.local_files import LocalFiles

if TYPE_CHECKING:
    from trainables.store.object_store import Bucket, Version
    from trainables.store.storage_options import StorageOptions

Address = str | dict[str, Any]
"""What another process opens the same storage from: a location, with options where there are any. Plain data."""

SCHEMES = {"s3": "S3", "gs": "Google Cloud Storage", "az": "Azure"}
_QUERY = {"endpoint_override": "endpoint", "region": "region", "scheme": "allow_http"}
"""Options by the names that URIs had for them."""


class Storage:
    """Files below one directory or prefix, named by relative paths with forward slashes.

    On an object store directories are prefixes: they exist as long as there is an object below.

    Raises (every method):
        FileNotFoundError: the file to read is missing.
        StorageError: the disk, the network or the permissions refuse.
    """

    def __init__(self, location: Address, options: StorageOptions | None = None) -> None:
        """Open a local directory, a URI, or an `address`; nothing is created, and no server is asked yet.

        A directory that is missing now is created by the first write. One that disappears later is not made anew.
        `options` that leave something open are completed from the environment; a directory needs none.

        Raises:
            SpecError: the URI holds credentials or a query.
            StorageError: its scheme is unknown.
        """
        if isinstance(location, dict):
            from trainables.store.storage_options import StorageOptions

            options, location = StorageOptions.model_validate(location["options"]), location["location"]
        if credentials.in_uri(str(location)):
            raise SpecError(f"the storage: {credentials.ADVICE}")
        self.location = str(location)
        self.options = options
        self._local: LocalFiles | None = None
        if "://" in self.location and not self.location.startswith("file://"):
            self._open_bucket()
        else:
            self.location = os.path.abspath(self.location.removeprefix("file://"))
            self._local = LocalFiles(self.location)
            self.options = None

    def _open_bucket(self) -> None:
        scheme, name, self._prefix = parsed_uri(self.location)
        self.location = "/".join(part for part in (f"{scheme}://{name}", self._prefix) if part)
        from trainables.store.object_store import bucket
        from trainables.store.storage_options import StorageOptions

        self.options = (self.options or StorageOptions()).completed(scheme)
        self._bucket: Bucket = bucket(scheme, name, self.options)

    def __repr__(self) -> str:
        return f"Storage({self.location!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Storage) and (self.location, self.options) == (other.location, other.options)

    def __hash__(self) -> int:
        return hash(self.location)

    def __reduce__(self) -> tuple[type[Self], tuple[Address]]:
        return type(self), (self.address,)

    @property
    def local(self) -> Path | None:
        """The directory on this machine, or None for a remote storage."""
        return Path(self.location) if self._local else None

    @property
    def address(self) -> Address:
        """What another process opens this storage from; without credentials."""
        options = self.options.plain() if self.options else {}
        return {"location": self.location, "options": options} if options else self.location

    def child(self, path: str) -> Storage:
        """Open a directory below this one."""
        return self._beside(f"{self.location.rstrip('/')}/{path}")

    def parent(self) -> Storage:
        """Open the directory around this one; a bucket is its own."""
        above = self.location.rstrip("/").rpartition("/")[0] or "/"
        return self if above.endswith(":/") else self._beside(above)

    def _beside(self, location: str) -> Storage:
        """Open another place of the same storage, through the same connections."""
        return Storage(location, self.options)

    def _checked(self, path: str) -> str:
        if path.startswith("/") or ".." in path.split("/"):
            raise StorageError(f"{path!r} leads out of the storage {self.location}")
        return path

    def _key(self, path: str) -> str:
        return "/".join(part for part in (self._prefix, self._checked(path).strip("/")) if part)

    def read(self, path: str) -> bytes:
        """Return a file's content."""
        return self._local.read(self._checked(path)) if self._local else self._bucket.read(self._key(path))

    def read_all(self, paths: Sequence[str]) -> list[bytes | None]:
        """Return the contents of files, None for those that are missing; objects are read several at a time."""
        if self._local is None:
            return self._bucket.read_all([self._key(path) for path in paths])
        found: list[bytes | None] = []
        for path in paths:
            try:
                found.append(self._local.read(self._checked(path)))
            except FileNotFoundError:
                found.append(None)
        return found

    def write(self, path: str, content: bytes, *, durable: bool = True) -> None:
        """Write a file; a reader sees the old content, the new, or none, never a part.

        One that is not `durable` costs no wait for the disk, and may be lost with the machine.
        """
        if self._local:
            self._local.write(self._checked(path), content, durable=durable)
        else:
            self._bucket.write(self._key(path), content)

    def claim(self, path: str, content: bytes) -> bool:
        """Create a file that must not exist; return False where it does. Exactly one of several processes gets True."""
        if self._local:
            return self._local.claim(self._checked(path), content)
        return self._bucket.claim(self._key(path), content)

    def read_version(self, path: str) -> tuple[bytes, Version]:
        """Return an object's content, and what `swap` knows this version of it by; only of a remote storage."""
        return self._bucket.read_version(self._key(path))

    def swap(self, path: str, content: bytes, version: Version) -> Version | None:
        """Replace an object that still has a version; return its new one, None where it was changed or deleted.

        Only of a remote storage: files have no versions.
        """
        return self._bucket.swap(self._key(path), content, version)

    def check_exclusive(self) -> None:
        """Refuse an object store on which several processes can get the same claim; asked once in a process.

        Raises:
            StorageError: says what the store ignores.
        """
        if self._local is None:
            self._bucket.check_exclusive(self._prefix)

    def is_link(self, path: str) -> bool:
        """Return whether a path is a link, or leads through one below the storage."""
        return self._local.is_link(path) if self._local else False

    def exists(self, path: str) -> bool:
        """Return whether a file exists."""
        return self._local.exists(self._checked(path)) if self._local else self._bucket.exists(self._key(path))

    def has_directory(self, path: str = "") -> bool:
        """Return whether a directory exists: on an object store, whether there is anything in it."""
        return self._local.has_directory(self._checked(path)) if self._local else self._bucket.has_any(self._key(path))

    def names(self, path: str = "") -> list[str]:
        """Return the sorted names in a directory; none where it does not exist."""
        return self._local.names(self._checked(path)) if self._local else self._bucket.names(self._key(path))

    def delete(self, path: str, *, through_links: bool = False) -> None:
        """Delete a file; a missing one is not an error, and of a link what it leads to stays.

        Raises:
            StorageError: a directory on the way below the storage is a link, without `through_links`.
        """
        self._refuse_links(path, through_links)
        if self._local:
            self._local.delete(self._checked(path))
        else:
            self._bucket.delete(self._key(path))

    def delete_directory(self, path: str) -> None:
        """Delete a directory with all in it, or a file; a missing one is not an error, and what links lead to stays.

        Raises:
            StorageError: a directory on the way below the storage is a link.
        """
        self._refuse_links(path, through_links=False)
        if self._local:
            self._local.delete_directory(self._checked(path))
        else:
            self._bucket.delete_below(self._key(path))

    def _refuse_links(self, path: str, through_links: bool) -> None:
        if not through_links and (way := path.rpartition("/")[0]) and self.is_link(way):
            raise StorageError(f"{self.location}/{way} is a link: nothing is deleted where it leads")

    def size(self, path: str) -> int:
        """Return the bytes of all files in a directory and below; 0 where it does not exist."""
        return self._local.size(self._checked(path)) if self._local else self._bucket.size(self._key(path))

    def age(self, path: str, now: float) -> float:
        """Return the seconds between a file's last change and the Unix time `now`; objects know it to the second."""
        return self._local.age(self._checked(path), now) if self._local else self._bucket.age(self._key(path), now)


def parsed_uri(uri: str) -> tuple[str, str, str]:
    """Return scheme, bucket and prefix of a URI.

    Raises:
        SpecError: it has a query, or a user; the message says what to write instead.
        StorageError: its scheme is unknown, or the bucket is missing.
    """
    scheme, _, rest = uri.partition("://")
    plain, _, query = rest.partition("?")
    if query:
        raise SpecError(f"the storage {scheme}://{plain}: options are not read from the URI; {_instead(query)}")
    name, _, prefix = plain.partition("/")
    if scheme not in SCHEMES:
        known = ", ".join(f"{known}:// ({provider})" for known, provider in SCHEMES.items())
        raise StorageError(f"cannot open the storage {uri}: {scheme}:// is none of {known}, or a local directory")
    if not name or "@" in name or "#" in plain:
        raise StorageError(f"cannot open the storage {uri}: write it as {scheme}://BUCKET/FOLDER")
    parts = [part for part in prefix.split("/") if part]
    if ".." in parts or "." in parts:
        raise StorageError(f"cannot open the storage {uri}: its path has a part that is . or ..")
    return scheme, name, "/".join(parts)


def _instead(query: str) -> str:
    """Return what to write for the query of a URI; keys in it were refused before."""
    given = dict(parse_qsl(query, keep_blank_values=True))
    scheme = given.get("scheme", "https")
    found: dict[str, str] = {}
    for name, value in given.items():
        option = _QUERY.get(name, name)
        if option == "endpoint" and not urlsplit(value).netloc:
            value = f"{scheme}://{value}"
        if name == "scheme":
            value = "true" if scheme == "http" else "false"
        found[option] = value
    listed, words = (", ".join(f"{k}: {v}" for k, v in found.items()), " ".join(f"{k}={v}" for k, v in found.items()))
    return (
        f"write `storage_options: {{{listed}}}` in the cluster file, or set ROBUSTSEARCH_STORAGE_OPTIONS='{words}' "
        "(see docs/manual/object-stores.md)"
    )
