"""Files to start from: a commented study, the JSON schema that lets an editor check it, and cluster files."""

from __future__ import annotations

import json
import os
import re
from importlib import resources
from pathlib import Path

from search.results.exporters.output import OutputError, write_output
from search.store.catalogue import check_name
from search.study import file, spec
from trainables.core.errors import SpecError
from trainables.core.locations import without_parents

STUDY = "study.yaml"
SCHEMA = "study.schema.json"
CLUSTERS = "clusters"
NAME = "my-study"

_HEADING = f"""\
# yaml-language-server: $schema={SCHEMA}
#
# A study. Change what you like; every key that you leave out has a default.
#   robustsearch validate {STUDY}   checks it
#   robustsearch launch {STUDY}     runs it; run it again to resume
#   robustsearch studies               lists the built-in studies
"""


def write(directory: Path) -> list[Path]:
    """Write the files below `directory` and return them, the study first; none where one of them exists.

    Raises:
        OutputError: a file exists already, or the directory cannot be written to.
        StorageError: the disk is full or failing.
    """
    directory = without_parents(directory)
    files = {directory / name: content for name, content in _contents(_name(directory)).items()}
    existing = [str(path) for path in files if os.path.lexists(path)]
    if existing:
        raise OutputError(f"nothing was written: {', '.join(existing)} exist already; choose another directory")
    for path, content in files.items():
        write_output(content.encode(), path)
    return list(files)


def _name(directory: Path) -> str:
    """Return the name of the directory as that of a study, as far as it can be one."""
    name = re.sub("[^a-z0-9_-]+", "-", os.path.basename(os.path.abspath(directory)).lower()).strip("-_")[:64]
    try:
        return check_name(name)
    except SpecError:
        return NAME


def _contents(name: str) -> dict[str, str]:
    templates = sorted(
        (entry for entry in resources.files(CLUSTERS).iterdir() if entry.name.endswith(".yaml")),
        key=lambda entry: entry.name,
    )
    clusters = {f"{CLUSTERS}/{entry.name}": entry.read_text(encoding="utf-8") for entry in templates}
    schema = json.dumps(spec.json_schema(), indent=1) + "\n"
    return {STUDY: _study(name), SCHEMA: schema, **clusters}


def _study(name: str) -> str:
    """Copy the default study under a name of its own; its opening comment speaks of the built-in one."""
    default = file.builtin_names()[0]
    lines = file.builtin_text(default).splitlines()
    start = next(index for index, line in enumerate(lines) if line and not line.startswith("#"))
    named = [f"name: {name}" if line == f"name: {default}" else line for line in lines[start:]]
    assert f"name: {name}" in named
    return "\n".join([_HEADING, *named]) + "\n"
