"""What is said of a dashboard that refuses, is none, or does not answer; and where the token goes."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator

import pytest

from search.cluster.base import ClusterError
from search.cluster.carriers.job_server import JobExists, JobServer
from tests.search.cluster.carriers.dashboard import Dashboard, dashboard

JOBS = ("GET", "/api/jobs/")


@pytest.fixture
def board() -> Iterator[Dashboard]:
    with dashboard() as board:
        yield board


def server(board: Dashboard, token: str | None = "secret", **headers: str) -> JobServer:
    return JobServer(board.address, token, headers)


def test_a_job_is_submitted_found_followed_and_stopped(board: Dashboard) -> None:
    jobs = server(board)
    assert (jobs.demands_token(), jobs.ray_version(), jobs.python_version()) == (True, "2.60.0", "3.11.7")
    assert jobs.jobs() == []
    assert jobs.submit({"submission_id": "one", "entrypoint": "true"}) == "one"
    with pytest.raises(JobExists):
        jobs.submit({"submission_id": "one", "entrypoint": "true"})
    assert [job["submission_id"] for job in jobs.jobs()] == ["one"]
    assert jobs.log("one") == "one\ntwo\n"
    jobs.stop("one")
    found = jobs.job("one")
    assert found
    assert found["status"] == "STOPPED"
    jobs.stop("two")
    assert (jobs.job("two"), jobs.log("two")) == (None, "")


def test_an_archive_is_sent_once(board: Dashboard) -> None:
    for _ in range(2):
        assert server(board).upload("a.zip", b"{content}") == "gcs://a.zip"
    assert board.packages == {"a.zip": b"{content}"}
    assert [method for method, _, _ in board.asked] == ["GET", "PUT", "GET"]


@pytest.mark.parametrize(
    ("token", "message"),
    [(None, "asks for a token; name its file as `token_file`"), ("other", "does not accept the token")],
)
def test_a_refused_token_is_named(board: Dashboard, token: str | None, message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        server(board, token).jobs()


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ((302, "", {"Location": "http://127.0.0.1:1/login"}), "login page of a proxy.*`headers`"),
        ((403, "<html><p>members only</p></html>", {}), "refuses access .status 403.: members only;.*`headers`"),
        ((200, "<html>hello</html>", {}), "is not a Ray dashboard"),
        ((500, "TimeoutError: Failed to get head node agent within 60 seconds", {}), "no job agent on its head"),
        ((500, "No available agent to submit job, please try again later.", {}), "no job agent on its head"),
        (
            (500, "Traceback:\n  File\nKeyError: 'x'\n", {}),
            "refuses .status 500.: KeyError: 'x'$",
        ),
    ],
)
def test_what_refuses_is_told_apart(board: Dashboard, answer: tuple[int, str, dict[str, str]], message: str) -> None:
    board.answers[JOBS] = answer
    with pytest.raises(ClusterError, match=message) as raised:
        server(board).jobs()
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_what_has_no_such_pages_is_no_dashboard(board: Dashboard) -> None:
    board.answers["GET", "/api/version"] = (404, "Not found", {})
    with pytest.raises(ClusterError, match="is not a Ray dashboard; write the address"):
        server(board).ray_version()


def test_the_token_is_sent_to_the_address_alone(board: Dashboard) -> None:
    with dashboard() as other:
        board.answers[JOBS] = (307, "", {"Location": f"{other.address}/api/jobs/"})
        with pytest.raises(ClusterError):
            server(board).jobs()
        assert other.asked == []


def test_neither_rays_address_nor_a_proxy_of_the_environment_reroutes_it(
    board: Dashboard, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert server(board).jobs() == []


def test_a_proxy_may_have_the_usual_header(board: Dashboard) -> None:
    jobs = server(board, Authorization="Basic cHJveHk=")
    with pytest.raises(ClusterError):  # No proxy takes it away here.
        jobs.jobs()
    sent = board.asked[-1][2]
    assert (sent["authorization"], sent["x-ray-authorization"]) == ("Basic cHJveHk=", "Bearer secret")


def test_what_does_not_answer_is_said_with_what_to_do() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with pytest.raises(ClusterError, match=f"no Ray dashboard answers at {address}.*ssh -N -L"):
            JobServer(address, None).jobs()


def test_another_protocol_is_no_dashboard() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def talk() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x00\x00\x12\x04\x00\x00not http\r\n\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(ClusterError, match="is not a Ray dashboard"):
            JobServer(f"http://127.0.0.1:{listening.getsockname()[1]}", None).jobs()
        thread.join()


@pytest.mark.parametrize(
    ("address", "encrypted"),
    [("http://127.0.0.1:8265", True), ("http://10.0.0.1:8265", False), ("https://ray.example.com", True)],
)
def test_who_can_read_the_token_on_its_way(address: str, encrypted: bool) -> None:
    assert JobServer(address, "secret").encrypted is encrypted


def test_a_cluster_that_knows_no_authentication_demands_no_token(board: Dashboard) -> None:
    board.answers["GET", "/api/authentication_mode"] = (404, "Not found", {})
    assert not server(board).demands_token()
    assert re.match("robustsearch/", board.asked[-1][2]["user-agent"])
