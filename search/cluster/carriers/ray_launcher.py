"""Ray's cluster launcher, behind `ray up` and `ray down`. What it calls private is called here and nowhere else."""

from __future__ import annotations

import copy
import io
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.cluster.base import ClusterError
from search.cluster.watchdog import signalled
from search.files.interrupts import Interrupted

_SHOWN = 300
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_ENDING_SECONDS = 10.0


@dataclass(frozen=True)
class Head:
    """How the head of a running cluster is reached by ssh; `proxy` is a ProxyCommand."""

    address: str
    user: str
    key: str | None = None
    proxy: str | None = None


def load(path: str) -> dict[str, Any]:
    """Read a file of Ray's launcher as Ray does: anchors, merge keys and the words of YAML 1.1 are allowed.

    Raises:
        ClusterError: it cannot be read, or is none.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    reader = YAML(typ="safe", pure=True)
    reader.version = "1.1"
    try:
        found = reader.load(Path(path).read_text())
    except OSError as error:
        raise ClusterError(f"{path}: {error.strerror or error}") from error
    except (YAMLError, ValueError) as error:
        raise ClusterError(f"{path} is not YAML: {_line(str(error))}") from error
    if not isinstance(found, dict) or not isinstance(found.get("provider"), dict) or "cluster_name" not in found:
        raise ClusterError(f"{path} is not a file for Ray's cluster launcher: it lacks `cluster_name` or `provider`")
    return found


def prepared(path: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a launcher's configuration with the defaults of its provider.

    Raises:
        ClusterError: Ray refuses it.
    """
    with _reported(path):
        from ray.autoscaler._private import util

        complete: dict[str, Any] = util.prepare_config(copy.deepcopy(dict(config)))
        util.validate_config(complete)
    return complete


def head(path: str) -> Head | None:
    """Return the head of the cluster, None where it has none.

    Raises:
        ClusterError: the provider cannot be asked.
    """
    with _reported(path):
        from ray.autoscaler import sdk
        from ray.autoscaler._private import commands

        # With what the provider adds, such as the key that it made.
        auth = commands._bootstrap_config(load(path))["auth"]
        try:
            address = sdk.get_head_node_ip(path)
        except RuntimeError:
            return None
    return Head(address, auth["ssh_user"], auth.get("ssh_private_key"), auth.get("ssh_proxy_command"))


def up(path: str, say: Callable[[str], None]) -> None:
    """Start a cluster, or Ray again on one whose machines run; a Ray that runs there would be restarted.

    Raises:
        ClusterError: it did not come up.
    """
    _run("up", path, say)


def down(path: str, say: Callable[[str], None]) -> None:
    """Give all machines of a cluster back.

    Raises:
        ClusterError: some may still be there.
    """
    _run("down", path, say)


def _run(command: str, path: str, say: Callable[[str], None]) -> None:
    """Run a command of Ray in a process of its own, pass on what it prints, and end it where a signal comes."""
    words = [sys.executable, "-m", "ray.scripts.scripts", command, "--yes", path]
    environment = {"RAY_USAGE_STATS_ENABLED": "0", **_autoscaler(path), **os.environ}
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        start_new_session=True,
    )
    lines: list[str] = []
    reader = threading.Thread(target=_pass_on, args=(process, lines, lambda line: say(f"ray {command}: {line}")))
    reader.start()
    try:
        while process.poll() is None:
            if signalled():
                raise Interrupted
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
    except KeyboardInterrupt:
        say(f"`ray {command}` was interrupted; what runs of the cluster ends with `ray down {path}`")
        raise
    finally:
        _end(process)
        reader.join()
    if process.returncode:
        reason = lines[-1] if lines else "without a word"
        raise ClusterError(f"`ray {command} {path}` ended with code {process.returncode}: {reason[:_SHOWN]}")


def _autoscaler(path: str) -> dict[str, str]:
    """Return the variable that chooses the autoscaler: the newer one never brings up workers of provider `local`."""
    return {"RAY_UP_enable_autoscaler_v2": "0"} if load(path)["provider"].get("type") == "local" else {}


def _pass_on(process: subprocess.Popen[str], lines: list[str], say: Callable[[str], None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            plain = _COLOUR.sub("", line).rstrip()
            if plain:
                lines.append(plain.strip())
                say(plain)


def _end(process: subprocess.Popen[str]) -> None:
    """End a command and what it has started, if it has not ended yet."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_ENDING_SECONDS)


@contextmanager
def _reported(path: str) -> Iterator[None]:
    """Keep what Ray prints from stdout, and turn what it raises, or ends the process with, into words."""
    printed = io.StringIO()
    try:
        import ray  # noqa: F401 (its import sets the level)

        logging.getLogger("ray").setLevel(logging.CRITICAL)
        with redirect_stdout(printed):
            yield
    except ClusterError:
        raise
    except ImportError as error:
        raise ClusterError(f"{path}: a package that its provider needs is missing here: {error}") from error
    except (Exception, SystemExit) as error:
        reason = _line(getattr(error, "message", "") or str(error)) or _line(printed.getvalue()) or type(error).__name__
        raise ClusterError(f"{path}: {reason}") from error


def _line(text: str) -> str:
    """Return the first line that says something."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    return next((line for line in lines if line), "")[:_SHOWN]
