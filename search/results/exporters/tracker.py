"""What exporters to trackers of experiments share: MLflow, TensorBoard, Weights & Biases."""

from __future__ import annotations

import logging
import os
import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from search.results.exporters.base import one_line
from search.results.exporters.output import OutputError
from search.results.exporters.runs import Run
from trainables.core.spec import Spec


class Tracker(Spec):
    """Base of every tracker: it writes a directory with a run for each trial.

    `modules` must be there, which the optional dependencies `extra` of this package install.
    """

    kind: str
    extra: ClassVar[str]
    modules: ClassVar[tuple[str, ...]]

    def check(self) -> None:
        """Refuse to begin where a library is missing.

        Raises:
            OutputError: names it, and what installs it.
        """
        if missing := [name for name in self.modules if not _installed(name)]:
            install = f"pip install 'robustsearch[{self.extra}]'"
            raise OutputError(f"{self.kind} needs {', '.join(missing)}, which is not installed: {install}")

    @abstractmethod
    def write(self, runs: Sequence[Run], folder: Path, output: Path) -> None:
        """Write the runs into the empty `folder`, which is renamed to `output` afterwards. No network is used.

        Raises:
            OSError: the disk refuses.
        """


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):
        return False


@contextmanager
def alone(prefix: str, settings: Mapping[str, str], loggers: Sequence[str] = ()) -> Iterator[None]:
    """Run a library without the environment's variables that begin with `prefix`, with `settings` in their place.

    Its warnings are about its own code, and its log about what it does with a file of ours: neither is shown.
    """
    before = dict(os.environ)
    levels = {name: logging.getLogger(name).level for name in loggers}
    for name in [name for name in os.environ if name.startswith(prefix)]:
        del os.environ[name]
    os.environ.update(settings)
    for name in loggers:
        logging.getLogger(name).setLevel(logging.ERROR)
    raised, logging.raiseExceptions = logging.raiseExceptions, False  # Of log files on a full disk.
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.raiseExceptions = raised
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        os.environ.clear()
        os.environ.update(before)


def shortened(text: str, length: int) -> str:
    """Return text on one line, without control characters, of at most `length` characters."""
    text = one_line(text)
    return text if len(text) <= length else f"{text[: length - 3]}..."
