"""Authentication tokens of Ray: whoever can read one can run code on its cluster."""

from __future__ import annotations

import os
import secrets
import tempfile
from contextlib import suppress
from pathlib import Path

from search.cluster.base import ClusterError
from search.files.findings import Finding
from trainables.core import ownership


def local_token() -> Path:
    """Return the file with the token of local Rays: not Ray's own, so that it is sent to no other cluster."""
    return Path.home() / ".robustsearch" / "ray_token"


def token_file(default: Path) -> Path:
    """Return the token file that the environment names, else `default`."""
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return Path(named).expanduser() if named else default


def ray_token() -> Path:
    """Return the file where Ray looks for a cluster's token."""
    return token_file(Path.home() / ".ray" / "auth_token")


def read_token(named: str | None) -> str | None:
    """Return the token in the file `named`, else the one that Ray would find; None where there is none.

    Raises:
        ClusterError: the file cannot be read, or is empty.
    """
    if named is None and (given := os.environ.get("RAY_AUTH_TOKEN")):
        return given.strip()
    path = Path(named).expanduser() if named else ray_token()
    if named is None and not path.is_file():
        return None
    try:
        token = path.read_text().strip()
    except (OSError, ValueError) as error:
        raise ClusterError(f"the cluster's token file {path} cannot be read: {error}") from error
    if not token:
        raise ClusterError(f"the cluster's token file {path} is empty")
    return token


def token_known() -> bool:
    """Return whether Ray will find a token."""
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or ray_token().is_file()


def use_local_token() -> None:
    """Create the local token, readable by its owner alone, unless the environment names one.

    Raises:
        ClusterError: the home directory cannot be written to, or others can read the token.
    """
    if os.environ.get("RAY_AUTH_TOKEN") or os.environ.get("RAY_AUTH_TOKEN_PATH"):
        return
    path = local_token()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, made = tempfile.mkstemp(dir=path.parent)  # mkstemp makes it readable by the owner alone.
        with open(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        with suppress(FileExistsError):
            os.link(made, path)
        os.unlink(made)
        found = path.stat()
    except OSError as error:
        raise ClusterError(f"cannot write a token for Ray ({error}); name a file with RAY_AUTH_TOKEN_PATH") from error
    if found.st_mode & 0o077 or not ownership.is_mine(found):
        raise ClusterError(f"other users can read {path}, the token of local Rays; delete it, and a new one is made")
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(path)


def token_finding(path: Path, missing: Finding, named: bool = False) -> Finding:
    """Check a token file, and return `missing` where there is none.

    The token in the environment goes before the file, except where the cluster file has `named` it.
    """
    if os.environ.get("RAY_AUTH_TOKEN") and not named:
        return Finding("ok", "token", "from RAY_AUTH_TOKEN")
    if not path.is_file():
        return missing
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        return Finding("warn", "token", f"{path} can be read by others (mode {mode:o}); run `chmod 600 {path}`")
    return Finding("ok", "token", f"{path}, mode {mode:o}")
