from __future__ import annotations

from pathlib import Path

import pytest

from search.cluster.spec import Address, Local, load, resolve
from trainables.core.errors import SpecError


def test_no_file_is_this_machine_and_the_templates_are_found_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None) == Local()
    assert load("clusters/local.yaml") == Local()
    assert load("slurm.yaml").kind == "slurm"
    gpu = load("gpu.yaml")
    assert isinstance(gpu, Address)
    assert (gpu.gpus_per_trial, gpu.code) == (0.5, "installed")
    (tmp_path / "gpu.yaml").write_text("kind: local\n")
    assert load("gpu.yaml") == Local()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "kind: lokal",
            r"c.yaml:1:1 kind: 'lokal' is an unknown kind of cluster; "
            r"allowed: local, address, inline, .*; did you mean 'local'",
        ),
        ("cpus: 2", "kind: None is an unknown kind of cluster"),
        ("kind: local\ncpu: 3", r"c.yaml:2:1 cpu: unknown key; did you mean 'cpus'"),
        ("kind: local\ngpus_per_trial: 1.5", "gpus_per_trial: 1.5 is above 1 and must then be a whole number"),
        ("kind: inline\nconcurrency: 2", "concurrency: 2 trials cannot run at once in one process"),
        ("kind: local\nconcurrency: 0", "concurrency: 0 is not allowed"),
        ("kind: local\ncpus_per_trial: -1", "cpus_per_trial: -1 is not allowed"),
        ("kind: address\naddress: ray://head:10001", "Ray Client address"),
        ("kind: address\naddress: head", "'head' is neither 'auto' nor host:port"),
        ("kind: address\ncode: git", "code: 'git' is not allowed"),
        ("kind: local\nnodes: 2", "nodes: trials run only on this machine; leave it out"),
        ("kind: local\nmax_concurrency: 2", "max_concurrency: trials run only on this machine"),
        ("kind: inline\naccelerator: A100", "accelerator: trials run in this process, which chooses no GPU"),
        (
            "kind: local\naccelerator: A100",
            "c.yaml:2:1 accelerator: trials ask for no GPU, .*; write `gpus_per_trial: 1`",
        ),
        ("kind: address\nnodes: 0", "nodes: 0 is not allowed"),
        ("kind: address\naccelerator: two words", "accelerator: 'two words' is not allowed"),
        ("kind: address\nstart_timeout: 0", "start_timeout: 0 is not allowed"),
        ("kind: address\nconcurrency: 2\nmax_concurrency: 3", "concurrency and max_concurrency exclude each other"),
        ("kind: local\nstorage: s3://b/x?region=eu", r"c.yaml:2:1 storage: .*write `storage_options: \{region: eu\}`"),
        ("kind: local\nstorage: hdfs://b/x", r"c.yaml:2:1 storage: .*hdfs:// is none of s3://"),
        (
            "kind: local\nstorage_options: {regoin: eu}",
            r"regoin: unknown key; did you mean 'region'\? \(allowed: endpoint",
        ),
        ("kind: local\nstorage_options: {account_key: x}", "c.yaml:2:1 storage_options: account_key is a credential"),
        ("kind: local\nkind: local", "twice|duplicate|already"),
        ("- local", "a cluster file is a mapping"),
        ("cluster_name: x\nprovider: {type: aws}\nmax_workers: 2", "Ray's cluster launcher"),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text + "\n")
    with pytest.raises(SpecError, match=message):
        load(tmp_path / "c.yaml")


def test_storage_options_are_plain_data_in_every_kind() -> None:
    options = {"endpoint": "https://minio:9000", "allow_http": True}
    for kind in ("local", "address", "inline"):
        cluster = resolve({"kind": kind, "storage": "s3://b/x", "storage_options": options})
        assert cluster.storage_options.plain() == options
