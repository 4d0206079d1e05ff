"""Which code is sent to the workers."""

from __future__ import annotations

import importlib
from pathlib import Path

from search.cluster.base import Cluster
from trainables.core import plugins as plugin_modules
from trainables.core.errors import SpecError


def code_paths(cluster: Cluster, plugins: tuple[str, ...]) -> tuple[str, ...]:
    """Return the packages and modules that are sent: plug-ins, and `trainables` where the cluster file says so.

    Of the current directory nothing else is sent.

    Raises:
        SpecError: a plug-in cannot be found, or is not a source file.
    """
    found: dict[str, None] = {}
    for name in dict.fromkeys(plugin.partition(".")[0] for plugin in plugins):
        path = plugin_modules.find(name, plugin_modules.current_folder())
        if path is None:
            raise SpecError(f"the plug-in {name} is neither installed here nor in the current directory")
        if not cluster.sends(name, path):
            continue
        if path.is_file() and path.suffix != ".py":
            raise SpecError(f"the plug-in {name} cannot be sent to the workers: {path} is not Python source (.py)")
        found[str(path)] = None
    for name in cluster.sent_packages:
        found[str(Path(str(importlib.import_module(name).__file__)).parent)] = None
    return tuple(found)
