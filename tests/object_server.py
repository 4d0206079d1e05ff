"""A small server of objects in this process, which speaks as much of S3 and of Google's XML dialect as obstore uses.

It counts requests, fails where a test asks it to, and ignores conditions if it is told to. It checks no signatures.
"""

from __future__ import annotations

import hashlib
import threading
import time
import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from xml.sax.saxutils import escape

from trainables.store.storage import Storage
from trainables.store.storage_options import StorageOptions

PAGE = 1000
LOST = "lost"
"""The fault of a server that does what it is asked, and closes the connection without an answer."""


@dataclass
class Stored:
    """One object."""

    content: bytes
    generation: int
    metadata: dict[str, str] = field(default_factory=dict)
    changed: float = field(default_factory=time.time)

    @property
    def etag(self) -> str:
        return f'"{hashlib.md5(self.content).hexdigest()}"'


Fault = Callable[[str, str], "tuple[int, str] | str | None"]
"""Return for a method and a key what goes wrong: a status and the code of an error, LOST, or nothing."""


class ObjectServer:
    """The server; `buckets` are what it holds, by name and key."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.generation = 0
        self.reset()
        server = self

        class Handler(_Handler):
            store = server

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    def reset(self) -> None:
        """Be as new."""
        self.buckets: dict[str, dict[str, Stored]] = {"bucket": {}}
        self.requests: list[tuple[str, str]] = []
        """Method and key (or query of a listing) of each request so far."""
        self.fault: Fault = lambda method, key: None
        self.conditions = True
        """Whether conditions of writes are heeded."""
        self.uploads: dict[str, dict[int, bytes]] = {}

    def options(self) -> StorageOptions:
        """Return how the server is reached."""
        return StorageOptions(endpoint=self.endpoint, anonymous=True)

    def storage(self, path: str = "", scheme: str = "s3") -> Storage:
        """Open the bucket, or a prefix in it."""
        return Storage(f"{scheme}://bucket/{path}", self.options())

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def counted(self) -> Counter[str]:
        """Return how many requests there were of each method."""
        return Counter(method for method, _ in self.requests)

    @contextmanager
    def failing(self, fault: Fault) -> Iterator[None]:
        """Go wrong inside the block."""
        before, self.fault = self.fault, fault
        try:
            yield
        finally:
            self.fault = before


class _Handler(BaseHTTPRequestHandler):
    store: ObjectServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        self._handle()

    do_PUT = do_HEAD = do_DELETE = do_POST = do_GET

    def _handle(self) -> None:
        path, _, query = self.path.partition("?")
        asked = dict(urllib.parse.parse_qsl(query, keep_blank_values=True))
        bucket, _, key = urllib.parse.unquote(path).lstrip("/").partition("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.store.lock:
            self.store.requests.append((self.command, key or query))
        fault = self.store.fault(self.command, key)
        if isinstance(fault, tuple):
            return self._answer(fault[0], f"<Error><Code>{fault[1]}</Code><Message>made</Message></Error>".encode())
        with self.store.lock:
            if (objects := self.store.buckets.get(bucket)) is None:
                answer = _error(404, "NoSuchBucket")
            elif key:
                answer = self._object(objects, key, asked, body)
            elif self.command == "POST" and "delete" in asked:
                answer = _deleted(objects, body)
            else:
                answer = _listed(objects, asked)
        if fault == LOST:
            self.close_connection = True
            return None
        return self._answer(*answer)

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Length": str(len(body)), **(headers or {})}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _object(self, objects: dict[str, Stored], key: str, asked: dict[str, str], body: bytes) -> Answer:
        if "uploads" in asked or "uploadId" in asked:
            return self._upload(objects, key, asked, body)
        stored = objects.get(key)
        if self.command == "PUT":
            return _error(412, "PreconditionFailed") if self._refused(stored) else self._put(objects, key, body)
        if self.command == "DELETE":
            objects.pop(key, None)
            return 204, b"", {}
        if stored is None:
            return _error(404, "NoSuchKey")
        return 200, stored.content, _headers(stored)

    def _refused(self, stored: Stored | None) -> bool:
        new, same = self.headers.get("If-None-Match"), self.headers.get("If-Match")
        generation = self.headers.get("x-goog-if-generation-match")
        if not self.store.conditions:
            return False
        if new == "*" and stored is not None:
            return True
        if same is not None and (stored is None or stored.etag != same):
            return True
        return generation is not None and int(generation) != (stored.generation if stored else 0)

    def _put(self, objects: dict[str, Stored], key: str, body: bytes) -> Answer:
        self.store.generation += 1
        own = {k.lower(): v for k, v in self.headers.items() if "-meta-" in k.lower()}
        objects[key] = Stored(body, self.store.generation, own)
        return 200, b"", _headers(objects[key], length=False)

    def _upload(self, objects: dict[str, Stored], key: str, asked: dict[str, str], body: bytes) -> Answer:
        """Take an object in parts: it is there once it is complete."""
        if "uploads" in asked:
            self.store.generation += 1
            self.store.uploads[str(self.store.generation)] = {}
            text = f"<InitiateMultipartUploadResult><UploadId>{self.store.generation}</UploadId>"
            return 200, f"{text}</InitiateMultipartUploadResult>".encode(), {}
        parts = self.store.uploads[asked["uploadId"]]
        if self.command == "PUT":
            parts[int(asked["partNumber"])] = body
            return 200, b"", {"ETag": f'"{hashlib.md5(body).hexdigest()}"'}
        self._put(objects, key, b"".join(parts[number] for number in sorted(parts)))
        text = f"<CompleteMultipartUploadResult><ETag>{objects[key].etag}</ETag></CompleteMultipartUploadResult>"
        return 200, text.encode(), {"x-goog-generation": str(objects[key].generation)}


Answer = tuple[int, bytes, dict[str, str]]


def _error(status: int, code: str) -> Answer:
    return status, f"<Error><Code>{code}</Code><Message>made</Message></Error>".encode(), {}


def _headers(stored: Stored, *, length: bool = True) -> dict[str, str]:
    found = {
        "ETag": stored.etag,
        "Last-Modified": formatdate(stored.changed, usegmt=True),
        "x-goog-generation": str(stored.generation),
        **stored.metadata,
    }
    return {**found, "Content-Length": str(len(stored.content))} if length else found


def _deleted(objects: dict[str, Stored], body: bytes) -> Answer:
    keys = [each.text or "" for each in ElementTree.fromstring(body).iter() if each.tag.endswith("Key")]
    for key in keys:
        objects.pop(key, None)
    text = "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
    return 200, f"<DeleteResult>{text}</DeleteResult>".encode(), {}


def _listed(objects: dict[str, Stored], asked: dict[str, str]) -> Answer:
    prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
    after = asked.get("continuation-token", asked.get("start-after", ""))
    rows: dict[str, Stored | None] = {}
    for key in sorted(objects):
        if key.startswith(prefix):
            rest = key[len(prefix) :]
            folder = delimiter and delimiter in rest
            rows[prefix + rest.partition(delimiter)[0] + delimiter if folder else key] = (
                None if folder else objects[key]
            )
    names = [name for name in rows if name > after]
    page = names[: int(asked.get("max-keys", PAGE))]
    parts = [f"<IsTruncated>{str(len(names) > len(page)).lower()}</IsTruncated>"]
    if len(names) > len(page):
        parts.append(f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>")
    for name in page:
        if (stored := rows[name]) is None:
            parts.append(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>")
        else:
            when = time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime(stored.changed))
            parts.append(
                f"<Contents><Key>{escape(name)}</Key><LastModified>{when}</LastModified>"
                f"<ETag>{escape(stored.etag)}</ETag><Size>{len(stored.content)}</Size></Contents>"
            )
    return 200, f"<ListBucketResult>{''.join(parts)}</ListBucketResult>".encode(), {}
