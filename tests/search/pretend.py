"""A kind of cluster that submits nothing: its jobs are in the states that a test says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

import pytest
from pydantic import Field

from search.cluster.base import ClusterError
from search.cluster.carriers.base import Carrier, Remote, State, Submission
from search.cluster.spec import CLUSTERS
from search.files.findings import Finding


class Pretend(Remote):
    """A cluster of a test; `queue` is a field like any other."""

    kind: Literal["pretend"] = "pretend"
    queue: str = Field(default="day", description="A queue.")
    states: ClassVar[list[State]] = []
    """What a job is in, one after the other; the last one stays."""
    submitted: ClassVar[list[Submission]] = []
    did: ClassVar[list[str]] = []
    """The calls that change something."""
    refusal: ClassVar[str] = ""
    """Why the cluster answers nothing; empty where it does."""
    on_state: ClassVar[Callable[[], None]] = staticmethod(lambda: None)

    def where(self) -> str:
        return "nowhere"

    def opening(self) -> str:
        return "submitting to nowhere ..."

    def carrier(self, submission: Submission) -> Carrier:
        return PretendCarrier(submission)


class PretendCarrier(Carrier):
    def __init__(self, submission: Submission) -> None:
        self._submission = submission

    def files(self) -> dict[str, str]:
        return {"job.txt": f"{self._submission.name} {' '.join(self._submission.words)}\n"}

    def checks(self) -> Iterator[Finding]:
        yield Finding("fail" if Pretend.refusal else "ok", "pretend", Pretend.refusal or "answers")

    def submit(self) -> str:
        self._answer()
        Pretend.submitted.append(self._submission)
        return f"p{len(Pretend.submitted)}"

    def state(self, job: str) -> State:
        self._answer()
        Pretend.on_state()
        return Pretend.states.pop(0) if len(Pretend.states) > 1 else Pretend.states[0]

    def log(self, job: str) -> Iterator[str]:
        yield from (f"line {number}" for number in range(50))

    def cancel(self, job: str) -> None:
        self._answer()
        Pretend.did.append(f"cancel {job}")
        Pretend.states[:] = [State("ended", "cancelled", 143)]

    def ended(self, job: str) -> None:
        Pretend.did.append(f"ended {job}")

    def _answer(self) -> None:
        if Pretend.refusal:
            raise ClusterError(Pretend.refusal)


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> type[Pretend]:
    """Register the kind, with a job that waits in a queue."""
    monkeypatch.setattr(CLUSTERS, "_table", dict(CLUSTERS._table))
    CLUSTERS.register("pretend", Pretend)
    monkeypatch.setattr(Pretend, "states", [State("queued", "in queue day")])
    monkeypatch.setattr(Pretend, "submitted", [])
    monkeypatch.setattr(Pretend, "did", [])
    monkeypatch.setattr(Pretend, "refusal", "")
    monkeypatch.setattr(Pretend, "on_state", staticmethod(lambda: None))
    return Pretend
