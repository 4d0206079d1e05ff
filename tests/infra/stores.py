"""Storages of every kind for one set of tests, and how other processes reach them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path

from benchmarks.nodes import free_port
from tests.infra.services import DIRECT, ObjectStore, serving
from tests.object_server import ObjectServer
from trainables.store.storage import Storage
from trainables.store.storage_options import OPTIONS_VARIABLE, StorageOptions


@dataclass(frozen=True)
class Place:
    """A storage: `root`, its options, and the variables with its credentials."""

    root: str
    options: StorageOptions = field(default_factory=StorageOptions)
    credentials: dict[str, str] = field(default_factory=dict)

    def storage(self, path: str) -> Storage:
        """Open a directory below the root; `environment` must be this process's too."""
        return Storage(f"{self.root}/{path}", self.options)

    def environment(self) -> dict[str, str]:
        """Return the environment of a process that uses the storage; no proxy stands before it."""
        kept = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy") and not k.startswith("AWS_")}
        return {**kept, OPTIONS_VARIABLE: self.options.words(), **self.credentials}


def of_s3(store: ObjectStore) -> Place:
    """Return an S3 server as a storage."""
    keys = {name: value for name, value in store.environment.items() if name != "AWS_REGION"}
    return Place(store.uri, StorageOptions(endpoint=store.endpoint, region="us-east-1"), keys)


@contextmanager
def google() -> Iterator[Place]:
    """A stand-in of Google's XML interface, which is what obstore uses and the emulators lack."""
    server = ObjectServer()
    yield Place("gs://bucket", StorageOptions(endpoint=server.endpoint, anonymous=True))
    server.close()


AZURITE = "azurite-blob"
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
"""The account and the key that the emulator is known for."""


@contextmanager
def azurite(folder: Path) -> Iterator[Place]:
    """Azure's emulator (npm: azurite) with one container."""
    port = free_port()
    endpoint = f"http://127.0.0.1:{port}/{ACCOUNT}"
    words = [shutil.which(AZURITE) or AZURITE, "--silent", "--inMemoryPersistence", "--disableTelemetry"]
    words += ["--skipApiVersionCheck", "--blobHost", "127.0.0.1", "--blobPort", str(port)]
    with serving(words, f"http://127.0.0.1:{port}/", folder):
        _make_container(endpoint)
        options = StorageOptions(endpoint=endpoint, account=ACCOUNT)
        yield Place("az://infra", options, {"AZURE_STORAGE_ACCOUNT_KEY": KEY})


def _make_container(endpoint: str) -> None:
    date, version = formatdate(usegmt=True), "2021-08-06"
    told = f"x-ms-date:{date}\nx-ms-version:{version}\n/{ACCOUNT}/{ACCOUNT}/infra\nrestype:container"
    signed = hmac.new(base64.b64decode(KEY), f"PUT{chr(10) * 12}{told}".encode(), hashlib.sha256).digest()
    headers = {
        "x-ms-date": date,
        "x-ms-version": version,
        "Authorization": f"SharedKey {ACCOUNT}:{base64.b64encode(signed).decode()}",
        "Content-Length": "0",
    }
    request = urllib.request.Request(f"{endpoint}/infra?restype=container", method="PUT", headers=headers)
    DIRECT.open(request, timeout=30).close()
