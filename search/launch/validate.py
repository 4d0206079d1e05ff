"""Study and cluster files checked by themselves, for `robustsearch validate`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from search.cluster import spec as cluster_spec
from search.files import yaml
from search.files.messages import counted
from search.launch import sharing
from search.launch.cautions import cautions
from search.launch.networks import described
from search.study import file as study_file
from search.study.space_check import corner_trials
from search.study.spec import StudySpec
from trainables.core import plugins
from trainables.core.errors import RobustsearchError, SpecError


@dataclass(frozen=True)
class Checked:
    """What a file is, or what is wrong with it."""

    file: str
    kind: str
    summary: str
    networks: tuple[str, ...] = ()
    error: RobustsearchError | None = None

    def plain(self) -> dict[str, Any]:
        """Return the result as JSON-able data."""
        wrong = str(self.error) if self.error else None
        checked = {"file": self.file, "kind": self.kind, "valid": self.error is None, "error": wrong}
        return {**checked, "networks": list(self.networks)}


def check_file(file: str, *, networks: bool = True) -> Checked:
    """Check a study or cluster file, or a built-in study; data sets, storage and cluster are left alone.

    With `networks` those of a study that is right so far are built, which takes torch and a few seconds.
    """
    kind = "study"
    try:
        if os.path.exists(file) or file not in study_file.builtin_names():
            document = yaml.load(file)
            kind = _kind(document.data)
            if kind == "cluster":
                return Checked(file, kind, f"a cluster of kind {cluster_spec.from_document(document).kind}")
            spec = study_file.from_document(document)
        else:
            spec = study_file.load(file)
        built = described(spec) if networks else ()
        warned = tuple(f"caution: {caution}" for caution in cautions(corner_trials(spec.space, spec.trial)))
    except RobustsearchError as error:
        of_plugin = plugins.source(error)
        return Checked(file, kind, "", error=SpecError(f"{error}{of_plugin}") if of_plugin else error)
    searched = counted(len(spec.space), "searched parameter")
    says = f"study {spec.name}: {_kinds(spec, 'recipe')} of {_kinds(spec, 'model')} on {spec.data.kind}, {searched}"
    shared = f"; {sharing.estimate(spec)}" if spec.space else ""
    return Checked(file, kind, f"{says}, {counted(spec.planned, 'trial')}{shared}", (*built, *warned))


def _kinds(spec: StudySpec, part: str) -> str:
    """Name the kind of a recipe or model, or those among which is searched."""
    searched = spec.space.get(f"{part}.kind")
    return ", ".join(searched.extremes().values()) if searched else str(getattr(spec, part).kind)


def _kind(data: Any) -> str:
    if cluster_spec.is_launcher_file(data):
        return "cluster"
    return "cluster" if isinstance(data, dict) and "kind" in data and "recipe" not in data else "study"
