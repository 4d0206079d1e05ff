"""The constraints file says what pyproject.toml says: each dependency at its lower bound."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[.*\])?>=(?P<version>[\d.]+)(,<\d+)?")


def release(version: str) -> str:
    return re.sub(r"(\.0)+$", "", version)


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    everything_else, *dev = project["optional-dependencies"]["dev"]
    extras = re.findall(r"\w+", everything_else.removeprefix("robustsearch"))
    assert {*extras, "dev", "infra"} == project["optional-dependencies"].keys()
    optional = [requirement for extra in extras for requirement in project["optional-dependencies"][extra]]
    bounds = {}
    for requirement in [*project["dependencies"], *optional, *dev]:
        found = REQUIREMENT.fullmatch(requirement)
        assert found, requirement
        bounds[found["name"]] = release(found["version"])
    lines = (ROOT / "constraints" / "oldest.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    assert {name: release(version) for name, version in pins.items()} == bounds


def test_the_image_has_a_version_of_every_dependency_that_is_allowed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "constraints" / "image.txt").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if not line.startswith("#"))
    for line in project["dependencies"]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)]), line
