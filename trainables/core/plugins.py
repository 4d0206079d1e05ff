"""Plug-ins: the one door through which modules that a study names are found and imported.

A plug-in is code of somebody else. Whatever its import raises or calls, the command goes on, and the error names the
plug-in and the line.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import keyword
import os
import sys
import traceback
from bdb import BdbQuit
from collections.abc import Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType

from trainables.core.contained import OURS, Refused, contained, installed
from trainables.core.errors import SpecError
from trainables.core.registry import nearest, restored_on_error
from trainables.core.spec import Spec

_USED = frozenset(
    (
        *("torch", "torchvision", "ray", "optuna", "numpy", "scipy", "sklearn", "pandas", "pyarrow", "pydantic"),
        *("pydantic_core", "click", "rich", "yaml", "safetensors", "matplotlib"),
    )
)
_SCRIPT = 'put what only a script does below `if __name__ == "__main__":`'
_MAX_MESSAGE = 500

_loaded: set[str] = set()


class PluginError(SpecError):
    """A plug-in cannot be found or imported; `plugin` is its name."""

    plugin = ""


class _Named:
    """Finds the modules that were named as plug-ins in a folder, and nothing else there.

    The folder is not put on `sys.path`: no other file in it may stand in for a module that something imports.
    """

    def __init__(self) -> None:
        self.folders: dict[str, str] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a top-level module lies, None for every other."""
        folder = self.folders.get(name) if path is None else None
        return PathFinder.find_spec(name, [folder]) if folder else None


_named = _Named()
sys.meta_path.append(_named)


def current_folder() -> str | None:
    """Return the current directory, None where it was deleted."""
    try:
        return os.getcwd()
    except OSError:
        return None


def name_problem(name: str) -> str | None:
    """Return why `name` cannot be that of a plug-in, None where it can."""
    parts = name.split(".")
    if "/" in name or "\\" in name or name.endswith(".py"):
        stem = name.removesuffix(".py").replace("\\", "/").removeprefix("./").strip("/").replace("/", ".")
        hint = f": write {stem}" if all(map(_identifier, stem.split("."))) else ""
        return f"{name!r} is a path; a plug-in is named as in an import statement{hint}"
    if not all(map(_identifier, parts)):
        return f"{name!r} is not a name of a module; a plug-in is named as in an import statement, such as my_models"
    if parts[0] in sys.stdlib_module_names:
        return f"{name!r} is a module of Python's standard library; give your module another name"
    if parts[0] in OURS | _USED | {"__main__"}:
        return f"{name!r} is a module of robustsearch or of a package that it uses; give your module another name"
    return None


def _identifier(part: str) -> bool:
    return part.isidentifier() and not keyword.iskeyword(part)


def find(name: str, folder: str | None = None) -> Path | None:
    """Return the file or folder of the package or module in which a plug-in lies, without executing anything.

    It is looked for among the installed packages, then in `folder`.
    """
    top = name.partition(".")[0]
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # It is loaded, by something that noted no origin.
        spec = None
    spec = spec or (PathFinder.find_spec(top, [folder]) if folder else None)
    if spec is None or not (spec.origin or spec.submodule_search_locations):
        return None
    folders = list(spec.submodule_search_locations or ())
    return Path(folders[0] if folders else str(spec.origin))


def loaded(names: Iterable[str]) -> bool:
    """Return whether all these plug-ins have been imported by this process."""
    return _loaded.issuperset(names)


def load(names: Iterable[str], folder: str | None = None) -> None:
    """Import plug-ins, which add their kinds to the registries.

    They are looked for among the installed packages, then in `folder`. Where an import fails, the registries are as
    before it.

    Raises:
        PluginError: a plug-in cannot be found or imported, whatever it raised; names file and line.
        KeyboardInterrupt: by the user, or the user quit a debugger.
    """
    names = tuple(dict.fromkeys(names))
    for name in names:
        if problem := name_problem(name):
            raise _error(name, problem)
    if folder is not None:
        _named.folders.update((name.partition(".")[0], folder) for name in names)
    for name in names:
        if name not in _loaded or name not in sys.modules:
            _load(name, names)
            _loaded.add(name)


def _load(name: str, names: Sequence[str]) -> None:
    importlib.invalidate_caches()
    with contained(name) as signalled:
        try:
            with restored_on_error():
                module = importlib.import_module(name)
        except BdbQuit:
            raise KeyboardInterrupt from None
        except BaseException as error:
            if signalled():
                raise
            raise _error(name, _reason(name, names, error)) from error
    if getattr(module, "__file__", None) is None and hasattr(module, "__path__"):
        raise _error(name, f"{_short(next(iter(module.__path__), ''))} is a folder without code; name a module in it")


def _error(name: str, reason: str) -> PluginError:
    error = PluginError(f"the plug-in {name} cannot be imported: {reason}")
    error.plugin = name
    return error


def _reason(name: str, names: Sequence[str], error: BaseException) -> str:
    """Return where in a plug-in's code an error arose, and what it is."""
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    place = _place(error, names)
    if missing and place is None and (missing == name or name.startswith(f"{missing}.")):
        return _absent(name, missing)
    text = what(error) + (f"; {_SCRIPT}" if isinstance(error, SystemExit) else "")
    folder = _named.folders.get(name.partition(".")[0])
    if missing and folder and PathFinder.find_spec(missing.partition(".")[0], [folder]):
        text += (
            f"; {missing.partition('.')[0]} lies in the current directory, of which only plug-ins are imported: "
            "list it in `plugins` too, or make one package of both"
        )
    file = find(name, folder)
    place = place or (_short(str(file)) if file else None)
    return f"{place}: {text}" if place else text


def _absent(name: str, missing: str) -> str:
    folder = _named.folders.get(name.partition(".")[0])
    there = sorted(path.stem for path in Path(folder).glob("*.py") if path.is_file()) if folder else []
    where = f"the installed packages{' or the current directory' if folder else ''}"
    inside = "" if missing == name else f" (for {name})"
    return f"ModuleNotFoundError: No module named {missing!r} among {where}{inside}{nearest(missing, there)}"


def what(error: BaseException) -> str:
    """Return what an error of a plug-in's code is, for a message."""
    try:
        if isinstance(error, Refused):
            return str(error)
        if isinstance(error, SystemExit):
            return f"it calls sys.exit({error.code!r})"
        text = str(error.msg if isinstance(error, SyntaxError) else error)
    except (Exception, SystemExit, GeneratorExit):
        text = "its message cannot be written"
    text = "; ".join(filter(None, map(str.strip, text[: 2 * _MAX_MESSAGE].splitlines())))
    text = text if len(text) <= _MAX_MESSAGE else f"{text[:_MAX_MESSAGE]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def blamed(error: BaseException) -> str | None:
    """Say in which line of a plug-in an error arose, and what it is; None where no plug-in's code was running."""
    found = None if isinstance(error, PluginError) else _running(error)
    return f"the plug-in {found[0]} failed: {found[1]}: {what(error)}" if found else None


def source(error: BaseException) -> str:
    """Return the end of an error's message that names the line of a plug-in that was running, or nothing."""
    cause: BaseException | None = error
    found = None
    while cause is not None and not isinstance(cause, PluginError):
        found, cause = _running(cause) or found, cause.__cause__
    return f" (in the plug-in {found[0]}: {found[1]})" if found else ""


def given(error: BaseException) -> str:
    """Return the end of an error's message that names the class of a plug-in whose result was looked at, or nothing.

    It is the spec that the deepest call with one has in a variable.
    """
    while error.__cause__ is not None:
        error = error.__cause__
    for frame, _ in reversed([*traceback.walk_tb(error.__traceback__)]):
        specs = [value for value in frame.f_locals.values() if isinstance(value, Spec)]
        if specs:
            return next(filter(None, map(_defined, map(type, _within_specs(specs)))), "")
    return ""


def _within_specs(specs: Iterable[Spec]) -> Iterator[Spec]:
    for spec in specs:
        yield spec
        yield from _within_specs(value for _, value in spec if isinstance(value, Spec))


def _defined(kind: type) -> str:
    module = kind.__module__
    if module.partition(".")[0] not in {name.partition(".")[0] for name in _loaded}:
        return ""
    file = getattr(sys.modules.get(module), "__file__", None) or module
    try:
        line = f", line {inspect.getsourcelines(kind)[1]}"
    except (OSError, TypeError):
        line = ""
    return f" (the class {kind.__qualname__} of the plug-in {module}: {_within(file, module)}{line})"


def _running(error: BaseException) -> tuple[str, str] | None:
    """Return the module of a plug-in that was running when an error arose, and file and line in it."""
    tops = {name.partition(".")[0] for name in _loaded}
    for frame, line in reversed([*traceback.walk_tb(error.__traceback__)]):
        module = str(frame.f_globals.get("__name__", ""))
        top = module.partition(".")[0]
        if top in tops:
            return module, f"{_within(frame.f_code.co_filename, module)}, line {line}"
    return None


def _within(file: str, module: str) -> str:
    """Write a plug-in's file as below the folder that holds the plug-in: workers keep it in one of a random name."""
    depth = module.count(".") + (2 if Path(file).stem == "__init__" else 1)
    return str(Path(*Path(file).parts[-depth:]))


def _place(error: BaseException, names: Sequence[str]) -> str | None:
    """Return file and line of the deepest frame in code of the user, who may have installed the plug-in."""
    if isinstance(error, SyntaxError) and error.filename and not error.filename.startswith("<"):
        return _at(error.filename, error.lineno or 1)
    tops = {name.partition(".")[0] for name in names}
    for frame, line in reversed([*traceback.walk_tb(error.__traceback__)]):
        file = frame.f_code.co_filename
        module = str(frame.f_globals.get("__name__", ""))
        if module.partition(".")[0] in tops:
            return f"{_within(file, module)}, line {line}"
        if not installed(file):
            return _at(file, line)
    return None


def _at(file: str, line: int) -> str:
    return f"{_short(file)}, line {line}"


def _short(file: str) -> str:
    """Write a path relative to the current directory where it lies in it."""
    folder = current_folder()
    path = Path(file)
    return str(path.relative_to(folder)) if folder and path.is_relative_to(folder) else str(path)
