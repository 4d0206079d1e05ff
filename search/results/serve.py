"""A study's report as a page for the browser of this machine, which refreshes itself while a launch runs.

It listens on the loopback address alone, serves one page, and answers no request that names another host: a page of
another site cannot read it by a name that leads here.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

from search.files.messages import printable
from search.results import report
from search.results.watching import Watched
from trainables.core.errors import RobustsearchError, SpecError

ADDRESS = "127.0.0.1"
REFRESH_SECONDS = 5.0
"""After how many seconds a page loads itself again, or later, where drawing it takes long."""
RENDER_SHARE = 0.05
"""The share of a processor's time that one open page may take from the search."""
RENDER_EVERY = 2.0
"""Seconds for which a page is served again as it was drawn."""

_HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; font-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class ReportServer(ThreadingHTTPServer):
    """The server of one study's page."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, watched: Watched, port: int) -> None:
        """Listen on a port of this machine, 0 for a free one.

        Raises:
            OSError: the port is taken.
        """
        super().__init__((ADDRESS, port), _Handler)
        self._watched = watched
        self._lock = threading.Lock()
        self._page: tuple[float, HTTPStatus, bytes] | None = None
        self._refresh = REFRESH_SECONDS

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_port}/"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names by which a request may call this server."""
        return f"{ADDRESS}:{self.server_port}", f"localhost:{self.server_port}"

    def page(self) -> tuple[HTTPStatus, bytes]:
        """Return the page as it is now; drawn once for all who ask at a time."""
        with self._lock:
            began = time.monotonic()
            if self._page is None or began - self._page[0] >= RENDER_EVERY:
                status, page = self._draw()
                drawn = time.monotonic()
                self._page = drawn, status, page
                self._refresh = max(REFRESH_SECONDS, (drawn - began) / RENDER_SHARE)
            return self._page[1:]

    def _draw(self) -> tuple[HTTPStatus, bytes]:
        try:
            seen = self._watched.look()
            if self._watched.study is None:
                return HTTPStatus.OK, _message(self._watched.name, seen.note).encode()
            # After the end nothing changes.
            text = report.render(self._watched.study, refresh=None if seen.over else self._refresh)
        except RobustsearchError as error:
            return HTTPStatus.SERVICE_UNAVAILABLE, _message(self._watched.name, str(error)).encode()
        return HTTPStatus.OK, text.encode()

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that left."""


class _Handler(BaseHTTPRequestHandler):
    timeout = 30
    server: ReportServer
    server_version = "robustsearch"
    sys_version = ""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def _answer(self, *, body: bool) -> None:
        if self.headers.get_all("Host", []) not in [[host] for host in self.server.hosts]:
            status, page = HTTPStatus.MISDIRECTED_REQUEST, _message("", f"open {self.server.url}").encode()
        elif urlsplit(self.path).path != "/":
            status, page = HTTPStatus.NOT_FOUND, _message("", f"there is one page: {self.server.url}").encode()
        else:
            status, page = self.server.page()
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Length": str(len(page))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(page)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing."""


def _message(title: str, text: str) -> str:
    shown, heading = html.escape(printable(text)), html.escape(printable(title) or "robustsearch")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta http-equiv="refresh" content="{REFRESH_SECONDS:.0f}">'
        f"<title>{heading}</title><body style='font: 16px sans-serif; margin: 2em'><h1>{heading}</h1><p>{shown}</p>"
    )


@contextmanager
def serving(watched: Watched, port: int | None) -> Iterator[ReportServer]:
    """Return the server of a study's page, on a free port where none is given; it is closed at the end.

    Raises:
        SpecError: the port cannot be had.
    """
    try:
        server = ReportServer(watched, port or 0)
    except OSError as error:
        raise SpecError(
            f"port {port} of {ADDRESS} cannot be used: {error.strerror}; name another one with --port, "
            "or none for a free one"
        ) from None
    try:
        yield server
    finally:
        server.server_close()
