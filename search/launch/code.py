"""Which code is sent to the workers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from search.cluster.base import Cluster
from trainables.core.errors import SpecError


def code_paths(cluster: Cluster, plugins: tuple[str, ...]) -> tuple[str, ...]:
    """Return the packages and modules that are sent: plug-ins, and `trainables` where the cluster file says so.

    Raises:
        SpecError: a plug-in cannot be found.
    """
    names = [*(plugin.split(".")[0] for plugin in plugins), *cluster.sent_packages]
    found = []
    for name in dict.fromkeys(names):
        module = importlib.util.find_spec(name)
        if module is None or not (module.origin or module.submodule_search_locations):
            raise SpecError(f"plug-in module {name!r} is not importable here")
        folders = list(module.submodule_search_locations or ())
        path = Path(folders[0] if folders else str(module.origin))
        if cluster.sends(name, path):
            found.append(str(path))
    return tuple(found)
