"""The tunnel to a head: the command, and what is said where it does not get through. An `ssh` of ours stands in."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from search.cluster.base import ClusterError
from search.cluster.carriers import tunnel as tunnels
from search.cluster.carriers.ray_launcher import Head
from search.cluster.carriers.tunnel import Tunnel, command


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script that runs in place of ssh; the last word it is given is the command for the head."""
    script = tmp_path / "bin" / "ssh"
    script.parent.mkdir()
    monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")
    return script


def write(script: Path, body: str) -> None:
    script.write_text(f"#!/bin/sh\n{body}\n")
    script.chmod(0o755)


def test_the_command_has_what_the_file_of_the_launcher_says() -> None:
    words = command(Head("10.0.0.5", "ubuntu", "~/key.pem", "ssh -W %h:%p bastion"), 4000, 8265)
    assert words[0] == "ssh"
    assert words[-2] == "ubuntu@10.0.0.5"
    text = " ".join(words)
    assert "-i ~/key.pem -o IdentitiesOnly=yes -o ProxyCommand=ssh -W %h:%p bastion" in text
    assert "-L 127.0.0.1:4000:127.0.0.1:8265" in text
    assert "BatchMode=yes" in text
    assert "ProxyCommand" not in " ".join(command(Head("10.0.0.5", "ubuntu"), 4000, 8265))


def test_it_is_open_when_the_head_has_spoken_and_ends_with_its_holder(ssh: Path) -> None:
    write(ssh, 'for last; do :; done; exec sh -c "$last"')
    tunnel = Tunnel(Head("head", "me"), 8265)
    assert tunnel.open
    assert tunnel._ssh.stdin is not None
    tunnel._ssh.stdin.close()  # As where its holder is killed.
    until = time.monotonic() + 20
    while tunnel.open:
        assert time.monotonic() < until
        time.sleep(0.01)
    tunnel.close()
    tunnel.close()


def test_what_ssh_says_is_passed_on(ssh: Path) -> None:
    write(ssh, "echo 'Warning: nothing' >&2; echo 'me@head: Permission denied (publickey).' >&2; exit 255")
    with pytest.raises(ClusterError, match=r"no way by ssh to .*me@head: me@head: Permission denied"):
        Tunnel(Head("head", "me"), 8265)


def test_an_ssh_that_says_nothing_is_not_waited_for_without_end(ssh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnels, "OPEN_SECONDS", 0.2)
    write(ssh, "exec sleep 60")
    with pytest.raises(ClusterError, match="no answer in 0 s"):
        Tunnel(Head("head", "me"), 8265)


def test_a_machine_without_ssh_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ClusterError, match="ssh is not installed"):
        Tunnel(Head("head", "me"), 8265)
