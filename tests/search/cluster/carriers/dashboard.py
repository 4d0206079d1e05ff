"""A stand-in for the dashboard of a Ray cluster: its interface of jobs, with the answers of Ray 2.60."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

MISSING = "Unauthorized: Missing authentication token"
WRONG = "Forbidden: Invalid authentication token"
TAKEN = "ValueError: Job with submission_id {} already exists. Please use a different submission_id."


class Dashboard:
    """What the stand-in holds: jobs by submission id, archives by name, and the requests that came.

    `answers` replaces what it says to a method and path: status, text, and headers.
    """

    def __init__(self, token: str | None) -> None:
        self.token = token
        self.address = ""
        self.jobs: dict[str, dict[str, Any]] = {}
        self.packages: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.answers: dict[tuple[str, str], tuple[int, str, dict[str, str]]] = {}
        self.version = "2.60.0"
        self.python = "3.11.7"

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, str, dict[str, str]]:
        self.asked.append((method, path, headers))
        if (method, path) in self.answers:
            return self.answers[method, path]
        if path == "/api/authentication_mode":
            return _json({"authentication_mode": "token" if self.token else "disabled"})
        given = headers.get("authorization") or headers.get("x-ray-authorization")
        if self.token and given != f"Bearer {self.token}":
            return (403, WRONG, {}) if given else (401, MISSING, {})
        if path.startswith("/api/packages/gcs/"):
            return self._package(method, path.rpartition("/")[2], body)
        if path == "/api/version":
            return _json({"version": "4", "ray_version": self.version})
        if path == "/api/v0/cluster_metadata":
            return _json({"result": True, "data": {"pythonVersion": self.python, "rayVersion": self.version}})
        return self._job(method, path, body)

    def _package(self, method: str, name: str, body: bytes) -> tuple[int, str, dict[str, str]]:
        if method == "PUT":
            self.packages[name] = body
        return (200, "", {}) if name in self.packages else (404, f"Package gcs://{name} does not exist", {})

    def _job(self, method: str, path: str, body: bytes) -> tuple[int, str, dict[str, str]]:
        name, _, part = path.removeprefix("/api/jobs/").partition("/")
        if (method, name) == ("GET", ""):
            return _json([*self.jobs.values()])
        if (method, name) == ("POST", ""):
            asked = json.loads(body)
            if asked["submission_id"] in self.jobs:
                return 500, f"Traceback\n{TAKEN.format(asked['submission_id'])}", {}
            self.jobs[asked["submission_id"]] = {**asked, "status": "PENDING", "logs": "one\ntwo\n"}
            return _json({"submission_id": asked["submission_id"]})
        if name not in self.jobs:
            return 404, f"Job {name} does not exist", {}
        if part == "stop":
            self.jobs[name]["status"] = "STOPPED"
            return _json({"stopped": True})
        return _json(self.jobs[name] if not part else {"logs": self.jobs[name]["logs"]})


def _json(data: Any) -> tuple[int, str, dict[str, str]]:
    return 200, json.dumps(data), {"Content-Type": "application/json"}


@contextmanager
def dashboard(token: str | None = "secret") -> Iterator[Dashboard]:
    """Serve a dashboard for the length of a `with` block."""
    board = Dashboard(token)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, text, more = board.answer(self.command, self.path, headers, body)
            self.send_response(status)
            for name, value in {**more, "Content-Length": str(len(text.encode()))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        do_POST = do_PUT = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    board.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield board
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
