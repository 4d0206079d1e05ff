"""What a cluster file of kind `kubernetes` refuses, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.cluster import spec
from search.cluster.carriers.kubernetes import Kubernetes
from search.files.yaml import dump_yaml
from tests.search.cluster.carriers.kubernetes.examples import LARGE, SMALL, kubernetes
from trainables.core.errors import SpecError

GROUP = SMALL["workers"][0]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"workers": []}, "at least one group of workers"),
        ({"workers": [GROUP, GROUP]}, "two groups have the name workers"),
        ({"workers": [{**GROUP, "name": "A100"}]}, "'A100' is not a name of Kubernetes"),
        ({"workers": [{**GROUP, "memory": "8"}]}, "'8' is not an amount of memory with a unit"),
        ({"workers": [{**GROUP, "memory": "8GB"}]}, "such as 8Gi"),
        ({"workers": [{**GROUP, "min": 3}]}, "min 3 is above max 2"),
        ({"workers": [{**GROUP, "max": 0, "min": 0}]}, "max: 0 is not allowed"),
        ({"workers": [{**GROUP, "gpu": 1}]}, "unknown key; did you mean 'gpus'?"),
        ({"cpus_per_trial": 8}, "no group has room for one trial (8 CPUs)"),
        ({"gpus_per_trial": 0.5}, "no group has room for one trial (1 CPUs, 0.5 GPUs)"),
        (
            {"accelerator": "A100", "gpus_per_trial": 1, "workers": [{**GROUP, "gpus": 1}]},
            "no group has room for one trial (1 CPUs, 1 GPUs of type A100)",
        ),
        ({"env": {"AWS_SECRET_ACCESS_KEY": "x"}}, "put it into a Secret, and name that in `env_from_secret`"),
        ({"env": {"A B": "x"}}, "'A B' is not a name of an environment variable"),
        ({"image": ""}, "'' is not a reference to an image"),
        ({"volumes": [{"claim": "c", "mount_path": "data"}]}, "'data' is not an absolute path"),
        (
            {"volumes": [{"claim": "c", "mount_path": "/tmp/"}]},
            "'/tmp/' is not an absolute path of a folder of its own",
        ),
    ],
)
def test_a_wrong_field_is_refused_in_words(fields: dict[str, Any], said: str, tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(dump_yaml({**SMALL, **fields}))
    with pytest.raises(SpecError) as refused:
        spec.load(file)
    assert said in str(refused.value)
    assert "cluster.yaml:" in str(refused.value)


def test_the_kind_alone_is_no_cluster() -> None:
    with pytest.raises(SpecError, match="--cluster kubernetes names no file: image: this key is required"):
        spec.load("kubernetes")


@pytest.mark.parametrize(
    ("pod", "trial", "fits"),
    [((8, 0), (2, 0), 4), ((8, 2), (2, 0.5), 4), ((8, 2), (1, 0.3), 6), ((8, 4), (1, 2), 2), ((8, 1), (1, 2), 0)],
)
def test_the_trials_that_fit_on_a_pod(pod: tuple[int, int], trial: tuple[int, float], fits: int) -> None:
    group = {"cpus": pod[0], "memory": "8Gi", "gpus": pod[1], "max": 1}
    cluster = kubernetes(workers=[group, {"name": "big", "cpus": 99, "gpus": 99, "memory": "8Gi", "max": 1}])
    assert cluster.workers[0].trials(*trial) == fits


def test_a_folder_must_lie_on_a_volume_that_pods_can_write() -> None:
    cluster = Kubernetes.model_validate(LARGE)
    for storage in ("s3://bucket/x", "gs://bucket", "/shared/studies", "file:///shared"):
        cluster.check_storage(storage)
    for storage in ("/data/studies", "/sharedish", "runs", "file:///home/me/runs"):
        with pytest.raises(SpecError, match="is a directory that the pods do not have"):
            cluster.check_storage(storage)
    with pytest.raises(SpecError, match="write `storage: s3://bucket/robustsearch` in the cluster file"):
        cluster.check_storage(None)


@pytest.mark.parametrize("fields", [SMALL, {**LARGE, "overlay": "patch.yaml"}])
def test_what_is_recorded_finds_the_job_again(fields: dict[str, Any]) -> None:
    recorded = Kubernetes.model_validate(fields).recorded()
    again = Kubernetes.model_validate(recorded)
    assert (again.context, again.namespace, again.overlay) == (fields.get("context"), again.namespace, None)
    assert again.namespace == fields.get("namespace", "default")
