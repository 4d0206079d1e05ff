"""Objects of a bucket on S3, Google Cloud Storage or Azure: conditional writes, listings by prefix, errors in words.

A bucket is opened once per process and options. An object becomes visible when it is complete. A request that fails in
passing (5xx, throttling, a lost connection, a timeout) is sent again, for a minute at most.
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import Any, TypeVar

from trainables.core.errors import StorageError
from trainables.store import bucket_errors, paths
from trainables.store.bucket_client import Store, open_bucket
from trainables.store.storage_options import StorageOptions

T = TypeVar("T")
Version = dict[str, str]
"""What tells the versions of an object apart: its ETag or its generation."""

SCHEMES = ("s3", "gs", "az")
CLAIM_TRIES = 5
AT_ONCE = 16
"""How many objects are read at the same time."""
PART_BYTES = 16 * 1024**2
"""Larger objects are sent in parts of this size."""
PARTS_AT_ONCE = 4
MARK = "claim"
"""The object's metadata with what tells one claim from every other: an answer that was lost is found by it."""
_used_by: int | None = None
"""The process that opened a bucket first: in one forked from it obstore has no threads, and would wait for ever."""


class Bucket:
    """One bucket, opened by the first request."""

    def __init__(self, scheme: str, name: str, options: StorageOptions) -> None:
        self.uri = f"{scheme}://{name}"
        self._scheme, self._name, self._options = scheme, name, options
        self._opening = threading.Lock()
        self._store: Store | None = None
        self._exclusive = False

    def store(self) -> Store:
        """Return the opened bucket.

        Raises:
            StorageError: its server does not answer, there are no credentials, or this is a forked process.
        """
        global _used_by
        if _used_by not in (None, os.getpid()):
            raise StorageError(
                f"{self.uri} was opened by the process that this one was forked from, and cannot be used here; start "
                "processes anew, with multiprocessing.get_context('spawn')"
            )
        _used_by = os.getpid()
        with self._opening:
            if self._store is None:
                self._store = open_bucket(self._scheme, self._name, self._options)
            return self._store

    @contextmanager
    def _reported(self, what: str, key: str, *, missing: bool = True) -> Iterator[None]:
        """Turn errors of the store into ours, and leave a `missing` object to the caller."""
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            if missing and not bucket_errors.no_bucket(str(error)):
                raise FileNotFoundError(2, "no such object", f"{self.uri}/{key}") from None
            said = bucket_errors.words(str(error), self.uri, self._options, bucket_missing=True)
            raise StorageError(f"cannot {what} {self.uri}/{key}: {said}") from None
        except (BaseError, NotImplementedError, OSError, ValueError) as error:
            said = bucket_errors.words(str(error), self.uri, self._options)
            raise StorageError(f"cannot {what} {self.uri}/{key}: {said}") from None

    def read(self, key: str) -> bytes:
        """Return an object's content."""
        return self.read_version(key)[0]

    def read_version(self, key: str) -> tuple[bytes, Version]:
        """Return an object's content with its version."""
        import obstore

        with self._reported("read", key):
            found = _waited(lambda: obstore.get(self.store(), key))
            return _waited(lambda: bytes(found.bytes())), _version(found.meta)

    def read_all(self, keys: Sequence[str]) -> list[bytes | None]:
        """Return the contents of objects, several at a time; None for those that are missing."""

        def read(key: str) -> bytes | None:
            try:
                return self.read(key)
            except FileNotFoundError:
                return None

        if len(keys) < 2:
            return [read(key) for key in keys]
        self.store()
        with ThreadPoolExecutor(min(AT_ONCE, len(keys)), thread_name_prefix="bucket") as pool:
            return list(pool.map(read, keys))

    def write(self, key: str, content: bytes) -> None:
        """Write an object, whatever is there: one request, or one for each part of a large one."""
        import obstore

        with self._reported("write", key, missing=False):
            _waited(
                lambda: obstore.put(
                    self.store(), key, content, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE, mode="overwrite"
                )
            )

    def claim(self, key: str, content: bytes) -> bool:
        """Create an object that must not exist; of several that try, exactly one does."""
        return self._conditional(key, content, "create") is not None

    def swap(self, key: str, content: bytes, version: Version) -> Version | None:
        """Replace an object if it still has this version; return the new version, None where it has another."""
        return self._conditional(key, content, version)

    def _conditional(self, key: str, content: bytes, mode: Any) -> Version | None:
        """Write under a condition; the answer to a request may be lost, and then it is repeated, or looked after."""
        from obstore.exceptions import AlreadyExistsError, GenericError, PreconditionError

        mark = uuid.uuid4().hex
        for last in [False] * (CLAIM_TRIES - 1) + [True]:
            with self._reported("write", key, missing=False):
                try:
                    return self._put(key, content, mode, mark)
                except (AlreadyExistsError, PreconditionError):
                    pass
                except FileNotFoundError as error:
                    if mode == "create" or bucket_errors.no_bucket(str(error)):
                        raise StorageError(bucket_errors.no_such_bucket(self.uri)) from None
                    return None  # The object to replace is gone.
                except GenericError as error:
                    if last or not bucket_errors.passing(str(error)):
                        raise
            try:
                found, version = self._marked(key)
            except FileNotFoundError:
                if mode != "create":
                    return None
            else:
                if found == mark:
                    return version
                if mode == "create" or version != mode:
                    return None
            time.sleep(random.uniform(0.05, 0.5))
        raise StorageError(f"cannot write {self.uri}/{key}: others write it all the time")

    def _put(self, key: str, content: bytes, mode: Any, mark: str) -> Version:
        import obstore

        marked: Any = {MARK: mark}
        result = _waited(
            lambda: obstore.put(self.store(), key, content, mode=mode, attributes=marked, use_multipart=False)
        )
        return _version(result)

    def _marked(self, key: str) -> tuple[str | None, Version]:
        import obstore

        with self._reported("read", key):
            found = _waited(lambda: obstore.get(self.store(), key))
            return found.attributes.get(MARK), _version(found.meta)

    def check_exclusive(self, folder: str) -> None:
        """Refuse a store that ignores the conditions of writes; found out once, with an object that is then deleted.

        Raises:
            StorageError: two processes could both win a claim there.
        """
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        if self._exclusive:
            return
        key, mark = f"{folder}/{paths.PROBE}{uuid.uuid4().hex}".lstrip("/"), uuid.uuid4().hex
        with self._reported("write", key, missing=False):
            first = self._put(key, b"1", "create", mark)
            try:
                for mode in ("create", first, first):  # The second use of a version comes after it was replaced.
                    try:
                        self._put(key, uuid.uuid4().bytes, mode, mark)
                        refused = False
                    except (AlreadyExistsError, PreconditionError):
                        refused = True
                    if mode == "create" and not refused:
                        raise StorageError(f"{self.uri} {_NOT_EXCLUSIVE} (If-None-Match is ignored)")
                if not refused:
                    raise StorageError(f"{self.uri} {_NOT_EXCLUSIVE} (If-Match is ignored)")
            finally:
                self.delete(key)
        self._exclusive = True

    def exists(self, key: str) -> bool:
        """Return whether there is an object of that name."""
        import obstore

        try:
            with self._reported("look for", key):
                _waited(lambda: obstore.head(self.store(), key))
        except FileNotFoundError:
            return False
        return True

    def age(self, key: str, now: float) -> float:
        """Return the seconds between an object's last change, to the second, and the Unix time `now`."""
        import obstore

        with self._reported("read the age of", key):
            return now - _waited(lambda: obstore.head(self.store(), key))["last_modified"].timestamp()

    def has_any(self, prefix: str) -> bool:
        """Return whether any object lies below a prefix."""
        return any(self._below(prefix))

    def names(self, prefix: str) -> list[str]:
        """Return the sorted names of what lies directly below a prefix."""
        import obstore

        with self._reported("list", prefix):
            found = _waited(lambda: obstore.list_with_delimiter(self.store(), prefix or None))
        below = [*found["common_prefixes"], *(each["path"] for each in found["objects"])]
        # Some tools put an empty object in a folder's place.
        names = {path.rstrip("/").rpartition("/")[2] for path in below if path.rstrip("/") != prefix}
        return sorted(name for name in names if name)

    def _below(self, prefix: str) -> Iterator[Any]:
        import obstore

        with self._reported("list", prefix):
            pages = iter(obstore.list(self.store(), prefix or None, chunk_size=1000))
            while (page := _waited(lambda: next(pages, None))) is not None:
                yield from page

    def size(self, prefix: str) -> int:
        """Return the bytes of all objects below a prefix."""
        return sum(each["size"] for each in self._below(prefix))

    def delete(self, key: str) -> None:
        """Delete an object; a missing one is not an error."""
        import obstore

        with suppress(FileNotFoundError), self._reported("delete", key):
            _waited(lambda: obstore.delete(self.store(), key))

    def delete_below(self, prefix: str) -> None:
        """Delete all objects below a name, hundreds with a request where the store can, or the object of that name."""
        for last in (False, False, True):
            keys = [each["path"] for each in self._below(prefix)]
            try:
                for first in range(0, len(keys), 1000):
                    self._delete_many(prefix, keys[first : first + 1000])
                break
            except FileNotFoundError:  # Somebody else deletes too; some stores stop there.
                continue
            except StorageError:
                if last:
                    raise
        if not keys:
            self.delete(prefix)

    def _delete_many(self, prefix: str, keys: list[str]) -> None:
        import obstore

        with self._reported("delete", prefix):
            _waited(lambda: obstore.delete(self.store(), keys))


_NOT_EXCLUSIVE = (
    "does not refuse to create what exists or to replace what has changed, so that two launches could drive one study, "
    "and it cannot hold studies: use a store with conditional writes (AWS S3, Google Cloud Storage, Azure, or a recent "
    "MinIO, Ceph, R2 or SeaweedFS), or a shared directory"
)


@lru_cache(maxsize=64)
def bucket(scheme: str, name: str, options: StorageOptions) -> Bucket:
    """Return a bucket, the same object for the same options, so that connections are shared."""
    return Bucket(scheme, name, options)


def _version(found: Any) -> Version:
    return {name: found[name] for name in ("e_tag", "version") if found.get(name) is not None}


def _waited(call: Callable[[], T]) -> T:
    """Wait for a request such that a signal can end the wait, which obstore's own does not allow."""
    if threading.current_thread() is not threading.main_thread():
        return call()
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    # At the end of the process nobody waits for a request that was given up.
    threading.Thread(target=work, name="bucket", daemon=True).start()
    return future.result()
