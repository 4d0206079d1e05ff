"""Count the requests of a launch on a real S3 server, SeaweedFS, by the server's own counters.

    python -m tests.infra.s3_requests [--cluster local] [--cpus 2] [--trials 4] [--checkout DIR]

The study is that of the tests: iterative magnitude pruning on the digits. `--checkout` runs the code of another
version, whose clients find the server through AWS_ENDPOINT_URL.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from search.files import yaml
from tests.infra import stores
from tests.infra.services import seaweedfs
from tests.search.tiny import TINY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cluster", choices=("local", "inline"), default="local")
    parser.add_argument("--cpus", type=int, default=2, help="trials at once, on Ray")
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--checkout", type=Path, default=Path(__file__).parents[2])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, seaweedfs(Path(name)) as store:
        folder, place = Path(name), stores.of_s3(store)
        (folder / "tiny.yaml").write_text(TINY)
        cluster = {"kind": options.cluster, **({"cpus": options.cpus} if options.cluster == "local" else {})}
        (folder / "cluster.yaml").write_text(yaml.dump_yaml(cluster))
        words = [sys.executable, "-m", "search.console", "launch", "tiny.yaml", "--cluster", "cluster.yaml"]
        environment = {**place.environment(), "AWS_ENDPOINT_URL": store.endpoint, "AWS_REGION": "us-east-1"}
        environment["PYTHONPATH"] = str(options.checkout)
        before, began = store.requests(), time.monotonic()
        subprocess.run(
            [*words, "--trials", str(options.trials), "--storage", store.uri], env=environment, cwd=folder, check=True
        )
        seconds, counted = time.monotonic() - began, store.requests() - before
    said = {"cluster": options.cluster, "trials": options.trials, "seconds": round(seconds, 1)}
    said |= {"requests": counted.total(), "a trial": counted.total() / options.trials}
    print(json.dumps({**said, "by kind": dict(counted.most_common())}))


if __name__ == "__main__":
    main()
