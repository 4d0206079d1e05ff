"""One launch: the plan, the driver, and what runs its trials. `search.launch(...)` starts one from Python."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from search.results.study import Study


class _Callable(ModuleType):
    """This package as a function: `search.launch` names both, and an import of `search.launch.run` keeps both."""

    def __call__(self, *args: Any, **options: Any) -> Study:
        from search.launch.api import launch

        return launch(*args, **options)

    @property
    def __signature__(self) -> Any:
        from inspect import signature

        from search.launch.api import launch

        return signature(launch)


sys.modules[__name__].__class__ = _Callable
