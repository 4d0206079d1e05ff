"""The page of a study for the browser of this machine: what it answers, and to whom."""

from __future__ import annotations

import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from search.results.serve import ReportServer, serving
from search.results.watching import Watched
from search.store import driver_lock
from tests.search.factories import make_study, study_spec
from trainables.core.errors import SpecError
from trainables.store import paths
from trainables.store.storage import Storage


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Storage:
    root = tmp_path_factory.mktemp("runs")
    make_study(root / "synthetic", 4)
    make_study(root / "broken", 2, study_spec(name="broken"))
    (root / "broken" / paths.STUDY).write_text("{")
    return Storage(str(root))


@pytest.fixture
def server(request: pytest.FixtureRequest, storage: Storage) -> Iterator[ReportServer]:
    with serving(Watched(storage, getattr(request, "param", "synthetic")), None) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(server: ReportServer, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, str, dict[str, str]]:
    port = server.server_port
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=100)) as connection:
        connection.putrequest(method, path, skip_host=True)
        for name, value in {"Host": f"127.0.0.1:{port}", **headers}.items():
            if value:
                connection.putheader(name, value)
        connection.endheaders()
        with connection.getresponse() as answer:
            content = answer.read().decode()
            return answer.status, content, {name.lower(): value for name, value in answer.getheaders()}


def test_the_page_is_the_report_and_is_kept_by_nobody(server: ReportServer) -> None:
    status, text, headers = ask(server)
    assert status == 200
    assert "synthetic: robustsearch report" in text
    assert '"refresh":null' in text, "no launch runs: nothing changes"
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "access-control-allow-origin" not in headers
    assert int(headers["content-length"]) == len(text.encode())
    assert ask(server, f"/?{'x' * 20}")[0] == 200
    status, nothing, head = ask(server, method="HEAD")
    assert (status, nothing, head["content-length"]) == (200, "", headers["content-length"])


def test_while_a_launch_runs_the_page_refreshes_itself(server: ReportServer, storage: Storage) -> None:
    with driver_lock.acquire(storage.child("synthetic")):
        assert '"refresh":5' in ask(server)[1]


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:{port}", "127.0.0.1", "localhost", "127.0.0.1:1", "127.0.0.1.evil:{port}", ""],
)
def test_a_request_for_another_host_is_refused(server: ReportServer, host: str) -> None:
    status, text, _ = ask(server, Host=host.format(port=server.server_port))
    assert status == 421
    assert "synthetic" not in text


def test_this_machine_has_two_names(server: ReportServer) -> None:
    assert ask(server, Host=f"localhost:{server.server_port}")[0] == 200


@pytest.mark.parametrize("path", ["/study.yaml", "/../synthetic/study.yaml", "/trials/", "/.", "/index.html", "/%2e"])
def test_there_is_no_other_page(server: ReportServer, path: str) -> None:
    status, text, _ = ask(server, path)
    assert status == 404
    assert "study.yaml" not in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_the_page_can_only_be_read(server: ReportServer, method: str) -> None:
    assert ask(server, method=method)[0] == 501


@pytest.mark.parametrize("server", ["later"], indirect=True)
def test_a_study_that_was_not_launched_is_waited_for(server: ReportServer) -> None:
    status, text, _ = ask(server)
    assert status == 200
    assert "was not launched yet" in text
    assert 'http-equiv="refresh"' in text


@pytest.mark.parametrize("server", ["broken"], indirect=True)
def test_a_study_that_cannot_be_read_is_said_in_the_page(server: ReportServer) -> None:
    status, text, _ = ask(server)
    assert status == 503
    assert paths.STUDY in text
    assert "Traceback" not in text


def test_it_listens_on_this_machine_alone(server: ReportServer) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


def test_a_port_that_is_taken_is_refused_and_a_free_one_is_used(storage: Storage) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(
                SpecError, match=f"port {port} of 127.0.0.1 cannot be used: .*; name another one with --port"
            ),
            serving(Watched(storage, "synthetic"), port),
        ):
            pass
    with serving(Watched(storage, "synthetic"), port) as server:
        assert server.server_port == port


def test_names_are_escaped(tmp_path: Path) -> None:
    with pytest.raises(SpecError):
        Watched(Storage(str(tmp_path)), "<script>")
    root = Storage(str(tmp_path / "<script>alert(1)</script>"))
    with serving(Watched(root, "mine"), None) as server:
        text = server.page()[1].decode()
    assert "was not launched yet" in text
    assert "<script" not in text
