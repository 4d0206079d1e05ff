"""Merging a person's YAML into a manifest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.cluster.carriers.kubernetes import overlay
from trainables.core.errors import SpecError

NAMED = [{"name": "a", "x": 1}, {"name": "b", "x": 2}]


@pytest.mark.parametrize(
    ("base", "patch", "merged"),
    [
        ({"a": 1, "b": 2}, {"b": 3, "c": 4}, {"a": 1, "b": 3, "c": 4}),
        ({"a": {"b": 1, "c": 2}}, {"a": {"c": None}}, {"a": {"b": 1}}),
        ({"a": 1}, {"b": {"c": None, "d": 1}}, {"a": 1, "b": {"d": 1}}),
        ({"l": NAMED}, {"l": [{"name": "b", "y": 3}]}, {"l": [NAMED[0], {"name": "b", "x": 2, "y": 3}]}),
        ({"l": NAMED}, {"l": [{"name": "c"}]}, {"l": [*NAMED, {"name": "c"}]}),
        ({"l": NAMED}, {"l": []}, {"l": NAMED}),
        ({"l": [1, 2]}, {"l": [3]}, {"l": [3]}),
        ({"l": NAMED}, {"l": [{"key": "k"}]}, {"l": [{"key": "k"}]}),
        (
            {"workerGroupSpecs": [{"groupName": "g", "maxReplicas": 1}]},
            {"workerGroupSpecs": [{"groupName": "g", "maxReplicas": 2}]},
            {"workerGroupSpecs": [{"groupName": "g", "maxReplicas": 2}]},
        ),
        (
            {"volumeMounts": [{"name": "v", "mountPath": "/a"}]},
            {"volumeMounts": [{"name": "v", "mountPath": "/b"}]},
            {"volumeMounts": [{"name": "v", "mountPath": "/a"}, {"name": "v", "mountPath": "/b"}]},
        ),
    ],
)
def test_merge(base: Any, patch: Any, merged: Any) -> None:
    before = repr((base, patch))
    assert overlay.merge(base, patch) == merged
    assert repr((base, patch)) == before


def test_an_empty_patch_changes_nothing_and_null_removes() -> None:
    base = {"a": [{"name": "x", "v": {"w": [1]}}], "b": "c"}
    assert overlay.merge(base, {}) == base
    assert overlay.merge(base, {"a": [{"name": "x", "v": None}], "b": None}) == {"a": [{"name": "x"}]}


@pytest.mark.parametrize("patch", [{"$patch": "delete"}, {"a": {"b": {"$retainKeys": []}}}, {"a": [{"$patch": "x"}]}])
def test_directives_are_refused(patch: Any) -> None:
    with pytest.raises(SpecError, match=r"is not supported; null removes a key"):
        overlay.merge({"a": {"b": 1}}, patch)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a\n", "an overlay is a mapping"),
        ("metadata: {name: other}\n", "metadata.name may not be changed"),
        ("kind: Job\n", "kind may not be changed"),
        ("spec: [\n", "patch.yaml"),
    ],
)
def test_a_wrong_overlay_is_refused_with_its_file(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "patch.yaml"
    file.write_text(text)
    manifest = {"apiVersion": "ray.io/v1", "kind": "RayJob", "metadata": {"name": "n", "namespace": "d"}, "spec": {}}
    with pytest.raises(SpecError, match=r"patch\.yaml") as refused:
        overlay.load(str(file), manifest)
    assert said in str(refused.value)


def test_an_overlay_that_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"the `overlay` of the cluster file, .*nowhere\.yaml, is not there"):
        overlay.load(str(tmp_path / "nowhere.yaml"), {})
