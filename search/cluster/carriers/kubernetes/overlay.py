"""Merge a person's YAML into a manifest, much as `kubectl patch --type strategic` does.

Mappings are merged and null removes a key. A list whose items have names is merged item by item: the item of the same
name is merged, and a new name is appended. Any other list is replaced. Directives (`$patch`, ...) are refused.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from search.files import yaml
from trainables.core.errors import SpecError

NAMED_BY = {"workerGroupSpecs": "groupName", "volumeMounts": "mountPath", "ports": "containerPort"}
"""The key that names the items of a list, where that is not `name`."""
FIXED = (("apiVersion",), ("kind",), ("metadata", "name"), ("metadata", "namespace"))
"""What an overlay may not change: the job is found again by it."""


def load(path: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest with the overlay in a file merged into it.

    Raises:
        SpecError: the file is missing, is not a mapping, or changes by what the job is known.
    """
    if not os.path.exists(path):
        raise SpecError(f"the `overlay` of the cluster file, {path}, is not there, seen from {os.getcwd()}")
    document = yaml.load(path)
    if not isinstance(document.data, dict):
        raise SpecError(f"{path}: an overlay is a mapping with parts of a RayJob, such as `spec:`")
    merged: dict[str, Any] = merge(manifest, document.data, where=path)
    for keys in FIXED:
        if _at(merged, keys) != _at(manifest, keys):
            raise SpecError(f"{path}: {'.'.join(keys)} may not be changed: the job is found again by it")
    return merged


def merge(base: Any, patch: Any, *, key: str = "", where: str = "overlay") -> Any:
    """Return `base` with `patch` merged into it; both stay as they are. `key` is that under which they stand.

    Raises:
        SpecError: the patch has a directive; it begins with `where`.
    """
    if isinstance(patch, Mapping):
        return _merged_mappings(base if isinstance(base, Mapping) else {}, patch, where)
    if isinstance(patch, list):
        return _merged_lists(base if isinstance(base, list) else [], patch, NAMED_BY.get(key, "name"), where)
    return patch


def _merged_mappings(base: Mapping[str, Any], patch: Mapping[str, Any], where: str) -> dict[str, Any]:
    merged = dict(base)
    for name, value in patch.items():
        if str(name).startswith("$"):
            raise SpecError(f"{where}: {name} is not supported; null removes a key")
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge(base.get(name), value, key=name, where=where)
    return merged


def _merged_lists(base: list[Any], patch: list[Any], name: str, where: str) -> list[Any]:
    if not all(isinstance(item, Mapping) and name in item for item in (*base, *patch)):
        return [merge(None, item, where=where) for item in patch]
    patches = {item[name]: item for item in patch}
    merged = [merge(item, patches.pop(item[name], {}), where=where) for item in base]
    return [*merged, *(merge(None, item, where=where) for item in patches.values())]


def _at(data: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, Mapping) else None
    return data
