"""The manifests: against KubeRay's schemas, as Ray's autoscaler reads them, and as they were before."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.cluster import spec
from search.cluster.carriers.base import Submission
from search.cluster.carriers.kubernetes import Kubernetes, manifest
from search.files import yaml
from search.files.yaml import dump_yaml
from tests.search.cluster.carriers.kubernetes.examples import LARGE, SMALL, SUBMISSION
from tests.search.cluster.carriers.kubernetes.kuberay import RELEASES, SCHEMAS, checker, released, used

GOLDEN = Path(__file__).parents[4] / "golden/kubernetes"
EXAMPLES: dict[str, dict[str, Any]] = {"small": SMALL, "large": LARGE}


def _ray_job(fields: dict[str, Any]) -> dict[str, Any]:
    return manifest.ray_job(Kubernetes.model_validate(fields), SUBMISSION)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_files_are_as_they_were(example: str) -> None:
    """`REGOLD=1` writes them anew; read the difference."""
    ((_, text),) = Kubernetes.model_validate(EXAMPLES[example]).carrier(SUBMISSION).files().items()
    golden = GOLDEN / f"{example}.yaml"
    if os.environ.get("REGOLD"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_the_same_submission_gives_the_same_files() -> None:
    first, second = (Kubernetes.model_validate(LARGE).carrier(SUBMISSION).files() for _ in range(2))
    assert first == second


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.parametrize("release", RELEASES)
def test_each_release_of_kuberay_knows_every_key(release: str, example: str) -> None:
    if not SCHEMAS.is_dir():
        pytest.skip(f"KubeRay's schemas are not at {SCHEMAS}; name their folder with KUBERAY_SCHEMAS")
    made = _ray_job(EXAMPLES[example])
    kuberay = checker(released(release))
    assert not list(kuberay.iter_errors(made))
    for key, wrong in (("submisionMode", "SidecarMode"), ("backoffLimit", "three")):
        assert not kuberay.is_valid({**made, "spec": {**made["spec"], key: wrong}})


@pytest.mark.parametrize("release", RELEASES)
def test_what_is_written_down_of_the_schemas_is_true(release: str) -> None:
    if not SCHEMAS.is_dir():
        pytest.skip(f"KubeRay's schemas are not at {SCHEMAS}; name their folder with KUBERAY_SCHEMAS")
    assert not list(_differences(used(release), released(release)))
    assert ("preRunningDeadlineSeconds" in released(release)["properties"]["spec"]["properties"]) == (release >= "1.6")


def _differences(ours: dict[str, Any], theirs: dict[str, Any], path: str = "") -> Any:
    if "properties" in ours and "properties" not in theirs:
        yield from [] if not ours["properties"] else [path]
        return
    if ours and ours.get("type") != theirs.get("type"):
        yield path, ours.get("type"), theirs.get("type")
    for name, part in ours.get("properties", {}).items():
        if name not in theirs["properties"]:
            yield f"{path}.{name}"
        else:
            yield from _differences(part, theirs["properties"][name], f"{path}.{name}")
    for inner in ("items", "additionalProperties"):
        if inner in ours:
            yield from _differences(ours[inner], theirs[inner], f"{path}[]")


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_part_of_the_schema_that_is_written_down_covers_the_manifest(example: str) -> None:
    assert not list(checker(used("1.5")).iter_errors(_ray_job(EXAMPLES[example])))


def test_rays_autoscaler_reads_the_groups_as_they_are_meant() -> None:
    from ray.autoscaler._private.kuberay import autoscaling_config

    cluster = {"metadata": {"name": "c", "namespace": "n"}, "spec": _ray_job(LARGE)["spec"]["rayClusterSpec"]}
    read = autoscaling_config._derive_autoscaling_config_from_ray_cr(cluster)
    kinds = read["available_node_types"]
    assert kinds["headgroup"]["resources"]["CPU"] == 0
    assert kinds["headgroup"]["resources"]["GPU"] == 0
    a100, mig = kinds["a100"], kinds["mig"]
    assert (a100["min_workers"], a100["max_workers"], mig["max_workers"]) == (0, 8, 4)
    assert a100["resources"] == {"CPU": 16, "GPU": 2, "memory": 64 * 1024**3, "accelerator_type:A100": 1}
    assert mig["resources"] == {"CPU": 4, "GPU": 3, "memory": 16 * 1024**3}
    assert read["idle_timeout_minutes"] == manifest.IDLE_SECONDS / 60


def test_the_head_runs_no_trials_and_stays_off_spot_nodes() -> None:
    cluster = _ray_job(LARGE)["spec"]["rayClusterSpec"]
    head, (a100, mig) = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head["rayStartParams"]["num-cpus"] == "0"
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    for group in (head, mig):
        (term,) = group["template"]["spec"]["affinity"]["nodeAffinity"][required]["nodeSelectorTerms"]
        assert {part["operator"] for part in term["matchExpressions"]} == {"NotIn"}
    assert required not in a100["template"]["spec"]["affinity"]["nodeAffinity"]
    keys = {toleration["key"] for toleration in a100["template"]["spec"]["tolerations"]}
    assert keys == {"team", "nvidia.com/gpu", "cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"}


@pytest.mark.parametrize("example", EXAMPLES)
def test_no_pod_runs_as_root_and_requests_are_limits(example: str) -> None:
    cluster = _ray_job(EXAMPLES[example])["spec"]["rayClusterSpec"]
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert pod["terminationGracePeriodSeconds"] == 90
        assert pod["restartPolicy"] == "Never"
    assert cluster["authOptions"] == {"mode": "token"}
    autoscaled = example == "large"
    assert cluster["enableInTreeAutoscaling"] is autoscaled
    assert cluster["headGroupSpec"]["template"]["spec"]["automountServiceAccountToken"] is autoscaled
    workers = (group["template"]["spec"] for group in cluster["workerGroupSpecs"])
    assert not any(pod["automountServiceAccountToken"] for pod in workers)


def test_keys_are_named_and_never_written() -> None:
    (text,) = Kubernetes.model_validate(LARGE).carrier(SUBMISSION).files().values()
    assert "name: bucket-keys" in text
    assert not re.search("(?i)(password|auth_token|secret_access)", text)


@pytest.mark.parametrize(
    ("fields", "sizes"),
    [
        (SMALL, {"nodes": 3}),
        ({**SMALL, "nodes": 2}, {"nodes": 2}),
        # 8 pods of 2 GPUs and 16 cores, 4 pods of 3 slices and 4 cores; a trial takes 2 cores and half a GPU.
        (LARGE, {"max_concurrency": 8 * 4 + 4 * 2}),
        ({**LARGE, "accelerator": "A100"}, {"max_concurrency": 8 * 4, "accelerator": "A100"}),
        ({**LARGE, "concurrency": 6}, {"max_concurrency": 6}),
        ({**LARGE, "max_concurrency": 5}, {"max_concurrency": 5}),
    ],
)
def test_the_launch_on_the_head_knows_how_many_trials_there_may_be(
    fields: dict[str, Any], sizes: dict[str, Any]
) -> None:
    text = manifest.inner(Kubernetes.model_validate(fields), SUBMISSION)
    inner = spec.from_document(yaml.parse(text, "inner.yaml")).model_dump(exclude_defaults=True)
    shared = {"storage": "s3://bucket/studies", "storage_options": {"region": "eu-central-1"}}
    per_trial = {key: fields[key] for key in ("cpus_per_trial", "gpus_per_trial") if key in fields}
    assert inner == {**shared, **per_trial, **sizes}


@given(study=st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True), storage=st.sampled_from(["s3://a", "s3://b"]))
def test_names_fit_kuberay(study: str, storage: str) -> None:
    submission = Submission(study, "", storage)
    name = manifest.job_name(submission)
    assert re.fullmatch("[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= 47
    assert manifest.job_name(replace(submission, storage=f"{storage}/other")) != name
    assert manifest.job_name(replace(submission, study=f"{study[:63]}0")) != name or study[63:] in ("", "0")
    for label in manifest.labels(submission).values():
        assert re.fullmatch("(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?", label)
        assert len(label) <= 63


@pytest.mark.parametrize(
    ("code", "seen"), [(0, 0), (1, 1), (2, 0), (3, 0), (4, 0), (5, 5), (6, 6), (130, 0), (137, 137), (143, 143)]
)
def test_the_script_lets_kuberay_try_again_where_that_helps(code: int, seen: int, tmp_path: Path) -> None:
    launch = tmp_path / "robustsearch"
    launch.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > "{tmp_path}/words"\nexit {code}\n')
    launch.chmod(0o755)
    submission = replace(SUBMISSION, words=("--set", "name=it's $HOME"))
    script = tmp_path / "launch.sh"
    script.write_text(manifest.script(submission))
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(["bash", str(script)], env={"PATH": path}, capture_output=True, text=True)
    assert done.returncode == seen
    words = (tmp_path / "words").read_text().splitlines()
    start = ["launch", "/etc/robustsearch/study.yaml", "--cluster", "/etc/robustsearch/cluster.yaml", "--wait", "120"]
    assert words == [*start, "--set", "name=it's $HOME"]


def test_the_hook_of_a_pod_that_must_go_signals_trials_and_nothing_else() -> None:
    command = manifest.SAVE.replace("sleep 8", "true")
    titles = ("ray::trial 3", "ray::DashboardAgent", "ray::RuntimeEnvAgent", "other")
    # Only these: the hook is given a folder with them instead of /proc.
    started = [subprocess.Popen(["bash", "-c", f"exec -a '{title}' sleep 60"]) for title in titles]
    try:
        while any(Path(f"/proc/{process.pid}/cmdline").read_bytes().startswith(b"bash") for process in started):
            time.sleep(0.01)
        seen = " ".join(f"/proc/{process.pid}" for process in started)
        subprocess.run(["bash", "-c", command.replace("/proc/[0-9]*", seen, 1)], check=True)
        assert started[0].wait(timeout=30) == -signal.SIGTERM
        assert all(process.poll() is None for process in started[1:])
    finally:
        for process in started:
            process.kill()
            process.wait()


def test_an_overlay_reaches_what_has_no_key(tmp_path: Path) -> None:
    patch = tmp_path / "patch.yaml"
    group = {"groupName": "workers", "template": {"metadata": {"annotations": {"sidecar": "false"}}}}
    patch.write_text(dump_yaml({"spec": {"rayClusterSpec": {"workerGroupSpecs": [group]}}}))
    files = Kubernetes.model_validate({**SMALL, "overlay": str(patch)}).carrier(SUBMISSION).files()
    (text,) = files.values()
    assert 'sidecar: "false"' in text
    assert text.count("groupName:") == 1
