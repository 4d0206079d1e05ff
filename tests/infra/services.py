"""Services on this machine's loopback address: stores of objects, and Prometheus."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.nodes import free_port
from tests.infra.machines import poll

DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""What is here is not asked for through a proxy."""


def answers(url: str) -> bool:
    """Return whether something serves HTTP there, unless it says that it cannot yet."""
    try:
        DIRECT.open(url, timeout=5).close()
    except urllib.error.HTTPError as error:
        return error.code != 503
    except OSError:
        return False
    return True


def tool(name: str) -> str:
    """Return the path of a program, of this Python's environment first."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else (shutil.which(name) or name)


@contextmanager
def serving(words: list[str], url: str, folder: Path, seconds: float = 120) -> Iterator[None]:
    """Run a server until the block ends; it ends with this process too."""
    log = folder / "server.log"
    with open(log, "w") as out:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", *words], stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=folder
        )
    try:
        poll(lambda: process.poll() is not None or answers(url), f"{words[0]} at {url}", seconds)
        assert process.poll() is None, log.read_text()[-3000:]
        yield
    finally:
        process.kill()
        process.wait(30)


class ObjectStore:
    """A store of objects, with one bucket, and what reaches it."""

    def __init__(
        self, scheme: str, endpoint: str, bucket: str, environment: dict[str, str], metrics: str | None = None
    ) -> None:
        self.scheme = scheme
        self.endpoint = endpoint
        self.bucket = bucket
        self.environment = environment
        """Keys, as the store's clients read them from the environment."""
        self._metrics = metrics

    @property
    def uri(self) -> str:
        return f"{self.scheme}://{self.bucket}"

    def requests(self) -> Counter[str]:
        """Return how many requests the server says that it has answered, by kind."""
        assert self._metrics is not None, "this server does not count"
        text = DIRECT.open(self._metrics, timeout=30).read().decode()
        found: Counter[str] = Counter()
        for labels, count in re.findall(r"^SeaweedFS_s3_request_total\{(.*)\} (\S+)$", text, re.M):
            found[dict(re.findall(r'(\w+)="([^"]*)"', labels))["type"]] += int(float(count))
        return found


KEYS = {"AWS_ACCESS_KEY_ID": "infra", "AWS_SECRET_ACCESS_KEY": "infra-secret", "AWS_REGION": "us-east-1"}


@contextmanager
def seaweedfs(folder: Path) -> Iterator[ObjectStore]:
    """SeaweedFS with its S3 gateway: half a minute to be ready."""
    names = ("master", "volume", "filer", "s3")
    metrics = free_port()
    ports = {f"{name}.port{kind}": free_port() for name in names for kind in ("", ".grpc")}
    identity = {
        "name": "infra",
        "credentials": [{"accessKey": KEYS["AWS_ACCESS_KEY_ID"], "secretKey": KEYS["AWS_SECRET_ACCESS_KEY"]}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    (folder / "data").mkdir()
    options = {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": str(folder / "data"),
        "volume.max": 20,
        "master.volumeSizeLimitMB": 64,
        "s3.config": str(folder / "s3.json"),
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "metricsPort": metrics,
        **ports,
    }
    words = [tool("weed"), "server", "-filer", "-s3", *(f"-{name}={value}" for name, value in options.items())]
    endpoint = f"http://127.0.0.1:{ports['s3.port']}"
    store = ObjectStore("s3", endpoint, "infra", KEYS, f"http://127.0.0.1:{metrics}/metrics")
    try:
        with serving(words, endpoint, folder):
            poll(lambda: _has_bucket(store), "a bucket", 120)
            yield store
    finally:
        for port in ports.values():
            for socket in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket.unlink()


def _has_bucket(store: ObjectStore) -> bool:
    """Make the bucket, and return whether it can be written to."""
    import pyarrow.fs

    filesystem = pyarrow.fs.S3FileSystem(
        access_key=store.environment["AWS_ACCESS_KEY_ID"],
        secret_key=store.environment["AWS_SECRET_ACCESS_KEY"],
        endpoint_override=store.endpoint,
        region="us-east-1",
        allow_bucket_creation=True,
    )
    try:
        filesystem.create_dir(store.bucket)
        with filesystem.open_output_stream(f"{store.bucket}/ready") as stream:
            stream.write(b"ready")
        filesystem.delete_file(f"{store.bucket}/ready")
    except OSError:
        return False
    return True


class Prometheus:
    """A running Prometheus; `query` asks it."""

    def __init__(self, url: str, configuration: Path) -> None:
        self.url = url
        self.configuration = configuration

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the vector that an expression gives now; a wrong expression is an error (HTTP 400)."""
        return self._ask("query", query=expression)

    def history(self, expression: str, began: float) -> list[dict[str, Any]]:
        """Return what an expression gave in each second since a time (of the system's clock)."""
        return self._ask("query_range", query=expression, start=began, end=time.time(), step=1)

    def _ask(self, what: str, **words: object) -> list[dict[str, Any]]:
        with DIRECT.open(f"{self.url}/api/v1/{what}?{urllib.parse.urlencode(words)}", timeout=30) as answer:
            said = json.load(answer)
        assert said["status"] == "success", said
        result: list[dict[str, Any]] = said["data"]["result"]
        return result


@contextmanager
def prometheus(folder: Path, configuration: Path) -> Iterator[Prometheus]:
    """Prometheus with a configuration of the caller's; its data is put into the folder."""
    url = f"http://127.0.0.1:{free_port()}"
    words = [
        tool("prometheus"),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
    ]
    with serving(words, f"{url}/-/ready", folder):
        yield Prometheus(url, configuration)
