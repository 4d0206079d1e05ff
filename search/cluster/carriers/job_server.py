"""The REST interface of Ray jobs, which a cluster's dashboard serves.

Ray's own client has no limit of time, sends the token wherever RAY_ADDRESS points instead of the address it is given,
and reads one token in the life of a process; this one takes neither address nor token from anywhere else.
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from search.cluster.base import ClusterError
from trainables import __version__

ANSWER_SECONDS = 30.0
"""How long an answer may take; a submission waits for the job agent of the head, which may be starting."""
_SHOWN = 300
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


class JobExists(ClusterError):
    """A job of this id was submitted already."""


class JobServer:
    """The dashboard of a Ray cluster at an `http(s)://` address.

    Raises (every method):
        ClusterError: it does not answer, is none, or refuses; the reason in words.
    """

    def __init__(self, address: str, token: str | None, headers: Mapping[str, str] | None = None) -> None:
        self.address = address
        self._headers = {"User-Agent": f"robustsearch/{__version__}", **(headers or {})}
        if token:
            # A proxy in front of the cluster may want the usual header for itself.
            taken = "authorization" in map(str.lower, self._headers)
            self._headers["X-Ray-Authorization" if taken else "Authorization"] = f"Bearer {token}"
        # A proxy of the environment is for the way out, not for a tunnel that begins here.
        direct = [urllib.request.ProxyHandler({})] if urlsplit(address).hostname in _LOOPBACK else []
        self._open = urllib.request.build_opener(_NoRedirects(), *direct).open

    @property
    def encrypted(self) -> bool:
        """Whether what is sent, such as the token, cannot be read on the way: TLS, or this machine alone."""
        parts = urlsplit(self.address)
        return parts.scheme == "https" or parts.hostname in _LOOPBACK

    def demands_token(self) -> bool:
        """Return whether the cluster refuses who has no token."""
        found = self._json("GET", "/api/authentication_mode", allow=(404,))
        return found is not None and found.get("authentication_mode") != "disabled"

    def ray_version(self) -> str:
        """Return the version of Ray that the cluster runs."""
        return str(self._json("GET", "/api/version").get("ray_version", ""))

    def python_version(self) -> str | None:
        """Return the version of Python that Ray runs in, None where it does not tell."""
        found = self._json("GET", "/api/v0/cluster_metadata", allow=(404, 500)) or {}
        version = (found.get("data") or {}).get("pythonVersion")
        return str(version) if version else None

    def jobs(self) -> list[dict[str, Any]]:
        """Return all jobs that the cluster knows; finds out whether it accepts the token."""
        found = self._json("GET", "/api/jobs/")
        return [job for job in found if isinstance(job, dict)] if isinstance(found, list) else []

    def job(self, job: str) -> dict[str, Any] | None:
        """Return a job, None where the cluster knows none of this id."""
        found: dict[str, Any] | None = self._json("GET", f"/api/jobs/{quote(job)}", allow=(404,))
        return found

    def upload(self, name: str, package: bytes) -> str:
        """Store an archive, which `name` must identify, and return its URI; one that is there is not sent again."""
        path = f"/api/packages/gcs/{quote(name)}"
        if self._request("GET", path, allow=(404,)) is None:
            self._request("PUT", path, package)
        return f"gcs://{name}"

    def submit(self, request: Mapping[str, Any]) -> str:
        """Submit a job and return its id.

        Raises:
            JobExists: there is one of this `submission_id`.
        """
        try:
            return str(self._json("POST", "/api/jobs/", request)["submission_id"])
        except ClusterError as error:
            if "already exists" in str(error):
                raise JobExists(str(error)) from error
            raise

    def stop(self, job: str) -> None:
        """End a job: its processes have 3 seconds to react to SIGTERM, unless the cluster is set to give more."""
        self._request("POST", f"/api/jobs/{quote(job)}/stop", b"", allow=(404,))

    def log(self, job: str) -> str:
        """Return what a job has printed so far."""
        found = self._json("GET", f"/api/jobs/{quote(job)}/logs", allow=(404,)) or {}
        return str(found.get("logs") or "")

    def _json(
        self, method: str, path: str, data: Mapping[str, Any] | None = None, *, allow: tuple[int, ...] = ()
    ) -> Any:
        body = None if data is None else json.dumps(data).encode()
        answer = self._request(method, path, body, allow=allow)
        if answer is None:
            return None
        try:
            return json.loads(answer)
        except ValueError:
            raise self._no_dashboard() from None

    def _request(
        self, method: str, path: str, body: bytes | None = None, *, allow: tuple[int, ...] = ()
    ) -> bytes | None:
        """Return the body of an answer, None where its status is one of `allow`."""
        request = urllib.request.Request(self.address + path, body, self._headers, method=method)
        if body:
            request.add_header("Content-Type", "application/json" if body[:1] == b"{" else "application/octet-stream")
        try:
            with self._open(request, timeout=ANSWER_SECONDS) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            with error:
                if error.code in allow:
                    return None
                raise self._refused(error.code, error.read().decode(errors="replace"), path) from None
        except (http.client.BadStatusLine, UnicodeDecodeError):
            raise self._no_dashboard() from None
        except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
            raise ClusterError(self._unreachable(getattr(error, "reason", error))) from None

    def _unreachable(self, reason: Any) -> str:
        if isinstance(reason, ssl.SSLError):
            return f"{self.address} has no certificate that this machine trusts: {reason}"
        if isinstance(reason, socket.gaierror):
            return f"no host has the name of {self.address}: {reason}"
        if isinstance(reason, TimeoutError):
            reason = f"no answer in {ANSWER_SECONDS:.0f} s"
        return (
            f"no Ray dashboard answers at {self.address} ({reason or 'it closed the connection'}); is the cluster up, "
            "and the tunnel to its head open (`ssh -N -L 8265:127.0.0.1:8265 HEAD`)?"
        )

    def _refused(self, status: int, text: str, path: str) -> ClusterError:
        if status in (401, 403):
            return ClusterError(self._unauthorised(status, text))
        if status < 400:
            return ClusterError(
                f"{self.address} sends elsewhere (status {status}), as the login page of a proxy does; give what it "
                "asks for in `headers` of the cluster file"
            )
        if status == 404 and path != "/api/jobs/":
            return self._no_dashboard()
        if "head node agent" in text or "No available agent" in text:
            return ClusterError(
                f"the cluster at {self.address} has no job agent on its head: Ray was installed there without "
                "`ray[default]`, or the agent died (`dashboard_agent.log` in the head's session folder says why)"
            )
        return ClusterError(f"the cluster at {self.address} refuses (status {status}): {_reason(text)}")

    def _unauthorised(self, status: int, text: str) -> str:
        if "authentication token" not in text:
            return (
                f"{self.address} refuses access (status {status}): {_reason(text)}; if a proxy stands before the "
                "cluster, give what it asks for in `headers` of the cluster file"
            )
        if status == 401:
            return f"the cluster at {self.address} asks for a token; name its file as `token_file` in the cluster file"
        return f"the cluster at {self.address} does not accept the token: it is another one than that of the cluster"

    def _no_dashboard(self) -> ClusterError:
        return ClusterError(
            f"what answers at {self.address} is not a Ray dashboard; write the address of the head's, usually port 8265"
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token goes to the address that the user wrote, and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _reason(text: str) -> str:
    """Return what an answer says, of a traceback its last line."""
    lines = [line.strip() for line in re.sub(r"<[^>]+>", " ", text).splitlines() if line.strip()]
    return (lines[-1] if lines else "without a reason")[:_SHOWN]
