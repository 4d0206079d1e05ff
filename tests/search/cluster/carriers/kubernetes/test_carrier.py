"""Submit, follow and end a study on Kubernetes: the real client against a stand-in for the API server."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.cluster.base import ClusterError
from search.cluster.carriers.base import State
from search.cluster.carriers.kubernetes import Kubernetes, carrier
from search.files.findings import Finding
from search.files.yaml import dump_yaml
from tests.search.cluster.carriers.kubernetes.examples import LARGE, SUBMISSION, kubernetes
from tests.search.cluster.carriers.kubernetes.server import Server, serving

NAME = "robustsearch-my-study-89a1cdac"
UNSCHEDULABLE = {
    "type": "PodScheduled",
    "status": "False",
    "reason": "Unschedulable",
    "message": "0/5 nodes are available: 5 Insufficient nvidia.com/gpu.",
}
FAILED = "Job entrypoint command failed with exit code {}, last available logs (truncated to 20,000 chars):\nsecret\n"


def _waiting(reason: str, message: str = "", image: str = "registry.example/r:1") -> dict[str, Any]:
    waiting = {"waiting": {"reason": reason, "message": message}}
    return {"containerStatuses": [{"name": "ray", "image": image, "state": waiting}]}


def test_a_submission_makes_a_job_that_owns_its_files(server: Server) -> None:
    job = Kubernetes.model_validate(LARGE).carrier(SUBMISSION).submit()
    assert job == NAME
    assert server.names() == {f"rayjobs/{NAME}", f"configmaps/{NAME}"}
    config_map = server.objects["configmaps", "research", NAME]
    (owner,) = config_map["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["uid"]) == ("RayJob", NAME, server.job()["metadata"]["uid"])
    assert config_map["data"]["study.yaml"] == SUBMISSION.study_yaml
    tried = [asked for asked in server.asked if asked.endswith("(dry)")]
    made = [asked for asked in server.asked if asked.startswith("POST") and not asked.endswith("(dry)")]
    assert len(tried) == len(made) == 2
    assert server.asked.index(tried[-1]) < server.asked.index(made[0])


@pytest.mark.parametrize(("release", "limit"), [("1.5", None), ("1.6", 300)])
def test_the_time_before_it_runs_is_limited_where_kuberay_knows_that(
    release: str, limit: int | None, server: Server
) -> None:
    server.release = release
    kubernetes(start_timeout=300).carrier(SUBMISSION).submit()
    assert server.job()["spec"].get("preRunningDeadlineSeconds") == limit


def test_a_second_submission_finds_the_first(server: Server) -> None:
    first, second = kubernetes().carrier(SUBMISSION), kubernetes().carrier(SUBMISSION)
    assert first.submit() == second.submit()
    server.status("Running", jobStatus="RUNNING")
    made = server.made
    assert second.submit() == NAME
    assert server.made == made


def test_of_two_submissions_at_once_one_makes_the_job(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    late = kubernetes().carrier(SUBMISSION)
    kubernetes().carrier(SUBMISSION).submit()
    uid = server.job()["metadata"]["uid"]
    monkeypatch.setattr(late._api, "job", lambda name: None)  # type: ignore[attr-defined]
    assert late.submit() == NAME
    assert server.job()["metadata"]["uid"] == uid


@pytest.mark.parametrize("deployed", ["Complete", "Failed", "ValidationFailed"])
def test_a_job_that_has_ended_makes_room_for_the_next(deployed: str, server: Server) -> None:
    submitted = kubernetes().carrier(SUBMISSION)
    submitted.submit()
    uid = server.job()["metadata"]["uid"]
    server.status(deployed)
    server.looks_until_gone = 3
    assert submitted.submit() == NAME
    assert server.job()["metadata"]["uid"] != uid
    assert server.names() == {f"rayjobs/{NAME}", f"configmaps/{NAME}"}


def test_a_job_that_does_not_go_is_said(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    submitted = kubernetes().carrier(SUBMISSION)
    submitted.submit()
    server.status("Complete")
    server.looks_until_gone = 10**6
    monkeypatch.setattr(carrier, "GONE_SECONDS", 0.1)
    with pytest.raises(
        ClusterError, match=f"RayJob {NAME}, which has ended, is not deleted .* does KubeRay's operator"
    ):
        submitted.submit()


def test_studies_of_one_name_in_two_storages_have_two_jobs(server: Server) -> None:
    kubernetes().carrier(SUBMISSION).submit()
    kubernetes().carrier(replace(SUBMISSION, storage="s3://other")).submit()
    assert len(server.names()) == 4


def test_a_cancelled_job_is_gone_with_its_files(server: Server) -> None:
    submitted = kubernetes().carrier(SUBMISSION)
    job = submitted.submit()
    server.looks_until_gone = 1
    submitted.cancel(job)
    assert submitted.state(job) == State("running", "its RayJob is being deleted")
    assert submitted.state(job) == State("lost", f"there is no RayJob {NAME} in namespace default")
    assert not server.objects
    submitted.cancel(job)


STATES: list[tuple[str, dict[str, Any], State]] = [
    ("", {}, State("queued", "KubeRay has not looked at it yet (does its operator run?)")),
    ("Initializing", {}, State("starting")),
    ("Waiting", {}, State("starting")),
    ("Running", {"jobStatus": ""}, State("starting")),
    ("Running", {"jobStatus": "PENDING"}, State("starting")),
    ("Running", {"jobStatus": "RUNNING"}, State("running")),
    ("Running", {"jobStatus": "RUNNING", "failed": 2}, State("running", "2 of 4 clusters lost")),
    (
        "Retrying",
        {"failed": 1},
        State("starting", "its cluster was lost, and another one is started; 1 of 4 clusters lost"),
    ),
    ("", {"failed": 1}, State("queued", "1 of 4 clusters lost")),
    ("Suspending", {}, State("queued", "suspended")),
    ("Suspended", {}, State("queued", "suspended, as a queue such as Kueue does it")),
    ("Complete", {"jobStatus": "SUCCEEDED"}, State("ended")),
    ("Complete", {"jobStatus": "STOPPED"}, State("lost", "somebody has stopped its Ray job")),
    (
        "Failed",
        {"reason": "AppFailed", "message": FAILED.format(6), "failed": 4},
        State("ended", "4 of 4 clusters lost", 6),
    ),
    ("Failed", {"reason": "AppFailed", "message": FAILED.format(-9)}, State("ended", "", 137)),
    (
        "Failed",
        {"reason": "AppFailed", "message": "Ray head pod not found.", "failed": 4},
        State("lost", "AppFailed: Ray head pod not found., 4 of 4 clusters lost"),
    ),
    (
        "Failed",
        {"reason": "PreRunningDeadlineExceeded", "message": "The RayJob has passed the preRunningDeadlineSeconds."},
        State("lost", "PreRunningDeadlineExceeded: The RayJob has passed the preRunningDeadlineSeconds."),
    ),
    (
        "ValidationFailed",
        {"reason": "ValidationFailed", "message": "The RayJob spec is invalid: ...\nmore"},
        State("lost", "ValidationFailed: The RayJob spec is invalid: ..."),
    ),
    ("SomethingNew", {}, State("starting")),
]


@pytest.mark.parametrize(("deployed", "fields", "state"), STATES)
def test_the_state_of_a_job_in_words(deployed: str, fields: dict[str, Any], state: State, server: Server) -> None:
    submitted = kubernetes().carrier(SUBMISSION)
    job = submitted.submit()
    server.status(deployed, **fields)
    assert submitted.state(job) == state


PODS: list[tuple[dict[str, Any], str]] = [
    (
        {"kind": "head", "conditions": [UNSCHEDULABLE]},
        "queued the head cannot be scheduled: 0/5 nodes are available: 5 Insufficient nvidia.com/gpu.",
    ),
    (
        {"group": "a100", "conditions": [UNSCHEDULABLE]},
        "queued a worker of a100 cannot be scheduled: 0/5 nodes are available: 5 Insufficient nvidia.com/gpu.",
    ),
    (
        {"kind": "head", **_waiting("ImagePullBackOff", 'Back-off pulling image "registry.example/r:1"')},
        'the image registry.example/r:1 of the head cannot be pulled: Back-off pulling image "registry.example/r:1"',
    ),
    ({"kind": "head", **_waiting("ErrImagePull")}, "of the head cannot be pulled: ErrImagePull"),
    (
        _waiting("CreateContainerConfigError", 'secret "bucket-keys" not found'),
        'a worker of workers does not start: CreateContainerConfigError: secret "bucket-keys" not found',
    ),
    ({"kind": "head", **_waiting("ContainerCreating")}, "starting"),
    (
        {"containerStatuses": [{"name": "ray", "state": {"terminated": {"reason": "OOMKilled"}}}]},
        "a worker of workers needs more memory than its limit (OOMKilled); raise `memory of its group`",
    ),
    (
        {"kind": "head", "containerStatuses": [{"state": {}, "lastState": {"terminated": {"reason": "OOMKilled"}}}]},
        "the head needs more memory than its limit (OOMKilled); raise `head.memory`",
    ),
]


@pytest.mark.parametrize(("pod", "said"), PODS)
def test_what_keeps_pods_from_running_is_said(pod: dict[str, Any], said: str, server: Server) -> None:
    submitted = kubernetes().carrier(SUBMISSION)
    job = submitted.submit()
    server.status("Initializing")
    server.pod(**pod)
    assert said in str(submitted.state(job))


def test_the_head_comes_before_workers_and_running_jobs_name_waiting_workers(server: Server) -> None:
    submitted = kubernetes().carrier(SUBMISSION)
    job = submitted.submit()
    server.status("Running", jobStatus="RUNNING")
    server.pod("worker", **_waiting("ErrImagePull"))
    server.pod("head", phase="Running")
    assert str(submitted.state(job)).startswith("running the image registry.example/r:1 of a worker of workers cannot")
    server.pods[1]["status"] = _waiting("ImagePullBackOff")
    assert "of the head cannot be pulled" in str(submitted.state(job))


@pytest.mark.parametrize(
    ("about", "message", "said"),
    [
        ("cluster-abc12", 'pods "x" is forbidden: exceeded quota: gpus, requested: 2', "the quota is exhausted: pods"),
        ("cluster-abc12", 'pods "x" is forbidden: violates PodSecurity "restricted"', "a pod is forbidden: pods"),
        (NAME, "Failed to create RayCluster: boom", "Failed to create RayCluster: boom"),
    ],
)
def test_pods_that_may_not_be_created_are_said(about: str, message: str, said: str, server: Server) -> None:
    submitted = kubernetes().carrier(SUBMISSION)
    job = submitted.submit()
    server.status("Initializing")
    server.warn(about, "FailedToCreateHeadPod", message)
    state = submitted.state(job)
    assert state.phase == "starting"
    assert state.reason.startswith(said)


def test_an_account_that_may_not_see_pods_still_sees_the_job(server: Server) -> None:
    submitted = kubernetes().carrier(SUBMISSION)
    job = submitted.submit()
    server.status("Running", jobStatus="RUNNING")
    server.denied = {("list", "pods")}
    state = submitted.state(job)
    assert state.phase == "running"
    assert "may not do that in namespace default" in state.reason


def test_the_log_is_that_of_the_head(server: Server) -> None:
    submitted = kubernetes().carrier(SUBMISSION)
    job = submitted.submit()
    server.status("Running")
    with pytest.raises(ClusterError, match=r"no pod of .* is left"):
        list(submitted.log(job))
    server.pod("worker")
    server.pod("head")
    server.logs["cluster-abc12-head-1", "ray-job-submitter"] = "trial 0\ntrial 1\n"
    assert list(submitted.log(job)) == ["trial 0", "trial 1"]


def _deny(server: Server) -> None:
    server.denied = {("create", "rayjobs")}


def _exhaust(server: Server) -> None:
    server.quota = "small, requested: count/configmaps=1, used: count/configmaps=9, limited: count/configmaps=9"


def _uninstall(server: Server) -> None:
    server.release = None


def _age(server: Server) -> None:
    server.release = "1.4"


def _hide(server: Server) -> None:
    server.release, server.shows_schema = "1.4", False


def _no_namespace(server: Server) -> None:
    server.namespaces = ()


REFUSALS = [
    (_deny, 'this account may not do that in namespace default: rayjobs is forbidden: User "ada" cannot create'),
    (_exhaust, "the quota of namespace default is exhausted: configmaps"),
    (_uninstall, "KubeRay is not installed"),
    (_age, "KubeRay is too old here"),
    (_hide, "KubeRay here does not know a key of the RayJob"),
    (_no_namespace, "there is no namespace default"),
]


@pytest.mark.parametrize(("change", "said"), REFUSALS)
def test_a_refused_submission_says_why_and_leaves_nothing(change: Any, said: str, server: Server) -> None:
    change(server)
    with pytest.raises(ClusterError) as refused:
        kubernetes().carrier(SUBMISSION).submit()
    assert said in str(refused.value)
    assert not server.objects


def test_a_misspelt_key_of_an_overlay_is_refused(server: Server, tmp_path: Path) -> None:
    (tmp_path / "patch.yaml").write_text("spec: {activeDeadline: 3}\n")
    with pytest.raises(ClusterError, match=r"or the overlay wrong.*activeDeadline"):
        kubernetes(overlay=str(tmp_path / "patch.yaml")).carrier(SUBMISSION).submit()


def _levels(findings: Iterator[Finding]) -> dict[str, str]:
    return {finding.subject: finding.level for finding in findings}


def test_the_checks_make_nothing(server: Server) -> None:
    found = list(Kubernetes.model_validate(LARGE).carrier(SUBMISSION).checks())
    assert _levels(iter(found)) == dict.fromkeys(("kubernetes", "kuberay", "rights", "dry run"), "ok")
    assert server.url in found[0].message
    assert "v1.34.1" in found[0].message
    assert not server.objects


def test_the_checks_name_missing_rights(server: Server) -> None:
    server.denied = {("create", "rayjobs"), ("get", "pods/log")}
    found = {finding.subject: finding for finding in kubernetes().carrier(SUBMISSION).checks()}
    assert found["rights"] == Finding(
        "fail", "rights", "this account may not create rayjobs.ray.io, get pods/log in namespace default"
    )


@pytest.mark.parametrize(("change", "said"), REFUSALS)
def test_the_checks_say_what_would_be_refused(change: Any, said: str, server: Server) -> None:
    change(server)
    found = list(kubernetes().carrier(SUBMISSION).checks())
    assert found[-1].level == "fail"
    assert said in found[-1].message


@pytest.mark.parametrize(
    ("image", "warned"),
    [("r", True), ("r:latest", True), ("host:5000/r", True), ("host:5000/r:1", False), ("r@sha256:0a", False)],
)
def test_an_image_without_a_fixed_tag_is_warned_of(image: str, warned: bool, server: Server) -> None:
    levels = _levels(kubernetes(image=image).carrier(SUBMISSION).checks())
    assert ("image" in levels) == warned


def test_credentials_that_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    said = "does not accept the credentials of the kubeconfig: Unauthorized"
    with serving(tmp_path / "kubeconfig", token="stolen"), pytest.raises(ClusterError, match=said):
        kubernetes().carrier(SUBMISSION).submit()


@pytest.mark.parametrize(
    ("context", "said"),
    [("nowhere", "no context 'nowhere'"), (None, "nothing that says where Kubernetes is")],
)
def test_a_cluster_that_nothing_leads_to(
    context: str | None, said: str, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if context is None:
        monkeypatch.setenv("KUBECONFIG", str(tmp_path / "missing"))
    with pytest.raises(ClusterError, match=f"{said} .*; name a file with KUBECONFIG"):
        kubernetes(context=context).carrier(SUBMISSION).state("x")


def test_a_server_that_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    with serving(tmp_path / "kubeconfig") as server:
        url = server.url
    with pytest.raises(ClusterError, match=f"Kubernetes at {url} cannot be reached: .*refused") as refused:
        kubernetes().carrier(SUBMISSION).state("x")
    assert "\n" not in str(refused.value)


def test_what_answers_may_be_no_kubernetes(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "answer", lambda *asked: "<html>welcome</html>")
    with pytest.raises(ClusterError, match="does not answer as Kubernetes does"):
        kubernetes().carrier(SUBMISSION).state("x")


def test_without_the_client_the_extra_is_named(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "kubernetes", None)
    with pytest.raises(ClusterError, match=r"pip install 'robustsearch\[kubernetes\]'"):
        kubernetes().carrier(SUBMISSION).state("x")


def test_rendered_files_are_those_that_are_submitted(server: Server) -> None:
    import yaml

    made = Kubernetes.model_validate(LARGE).carrier(SUBMISSION)
    made.submit()
    config_map, ray_job = yaml.safe_load_all(made.files()[f"{NAME}.yaml"])
    ray_job["spec"]["preRunningDeadlineSeconds"] = 600
    assert ray_job["spec"] == server.job()["spec"]
    assert config_map["data"] == server.objects["configmaps", "research", NAME]["data"]
    assert dump_yaml(config_map)
