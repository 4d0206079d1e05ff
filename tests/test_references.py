"""What the documents refer to exists: links, anchors, command lines, options, scripts, paths and dotted names."""

from __future__ import annotations

import ast
import itertools
import re
import shlex
from pathlib import Path

import pytest

from search.cli import main
from search.study import file as study_file
from tests.pages import DOCUMENTS, PAGES_FOR_READERS, ROOT
from tests.rooms import FLOORS


def title(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(path: Path) -> str:
    """Return a page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings as GitHub makes them; equal headings are numbered from the second on."""
    found: dict[str, int] = {}
    for heading in re.findall(r"^#{1,6} (.+?)\s*$", prose(path), re.M):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
        found[slug] = found.get(slug, 0) + 1
    return {slug if number == 0 else f"{slug}-{number}" for slug, count in found.items() for number in range(count)}


def test_anchors_are_those_of_github(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Two words\n## `--set key`, twice\n## Two words\n```\n# no heading\n```\n### [A](b.md) & b_c\n")
    assert anchors(page) == {"two-words", "two-words-1", "--set-key-twice", "a--b_c"}


@pytest.mark.parametrize("page", DOCUMENTS, ids=title)
def test_links_and_images_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(page))):
        if re.match(r"https?:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = (page.parent / path).resolve() if path else page
        assert aim.exists(), f"{title(page)} links to {path}"
        assert aim.is_relative_to(ROOT), f"{title(page)} links out of the repository, to {path}"
        assert not anchor or anchor in anchors(aim), f"{title(page)} links to {target}"


def test_many_links_are_checked() -> None:
    assert sum(len(re.findall(r"\]\([^)\s]+\)", prose(page))) for page in DOCUMENTS) > 100


def shell() -> list[list[str]]:
    """Return the words of every `robustsearch` command line for readers."""
    found = []
    for page in PAGES_FOR_READERS:
        for line in page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines():
            if line.startswith("    robustsearch ") and "[" not in line.partition("'")[0]:
                found.append(shlex.split(re.split(r" # | > | && ", line)[0])[1:])
    return found


def test_command_lines_of_the_manual_are_ones_that_exist() -> None:
    lines = shell()
    assert len(lines) > 20
    for name, *words in lines:
        command = main.commands[name]
        sub = getattr(command, "commands", {}).get(words[0]) if words else None
        chosen, rest = (sub, words[1:]) if sub else (command, words)
        chosen.make_context(name, list(rest))
        if name == "launch" and rest and rest[0] in study_file.builtin_names():
            settings = [word for before, word in itertools.pairwise(rest) if before == "--set"]
            study_file.load(rest[0], settings)


@pytest.mark.parametrize("page", PAGES_FOR_READERS, ids=title)
def test_commands_and_options_in_the_text_exist(page: Path) -> None:
    """Check what stands between backticks: a fragment such as `robustsearch model --shrink` will do."""
    for line in re.findall(r"`robustsearch ([^`]+)`", page.read_text(encoding="utf-8")):
        name, *words = line.split()
        if name.startswith(("-", "...")):
            continue
        assert name in main.commands, f"{title(page)}: robustsearch {line}"
        command = main.commands[name]
        known = {option for parameter in command.params for option in parameter.opts}
        used = {word.partition("=")[0] for word in words if word.startswith("--")}
        assert used <= known, f"{title(page)}: robustsearch {line}"


@pytest.mark.parametrize("page", PAGES_FOR_READERS, ids=title)
def test_targets_of_make_and_scripts_in_the_text_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = set(re.findall(r"(?:`|^ {4}|^)make ([a-z-]+)(?=`| *#| *$)", text, re.M))
    assert named <= targets, title(page)
    for script in re.findall(r"python (?:-m (benchmarks[\w.]+)|(benchmarks/[\w/.]+\.py))", text):
        path = script[1] or script[0].replace(".", "/") + ".py"
        assert (ROOT / path).is_file(), f"{title(page)} runs {path}"


NOT_BUILT = {"trainables.confirm"}
"""Names of what a decision says about later versions."""

FILES_OF_OTHERS = {"search.py"}

ROOMS = ("search", "trainables", "tests", "benchmarks", "clusters", "docs")


def defined(body: list[ast.stmt]) -> dict[str, ast.stmt]:
    """Return what a module or class defines at its top level, by name."""
    found: dict[str, ast.stmt] = {}
    for node in body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found[name] = node
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)):
                found[name] = node
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                found |= {alias.asname or alias.name: node for alias in names}
            case ast.If(body=inner):
                found |= defined(inner)
    return found


def names_something(dotted: str) -> bool:
    """Return whether a dotted name is a module or package of this repository, or defined in one."""
    parts = dotted.split(".")
    for depth in range(len(parts), 0, -1):
        folder = ROOT.joinpath(*parts[:depth])
        module = folder.with_suffix(".py") if folder.with_suffix(".py").is_file() else folder / "__init__.py"
        if module.is_file() or (folder.is_dir() and depth == len(parts)):
            body = ast.parse(module.read_text(encoding="utf-8")).body if module.is_file() else []
            for name in parts[depth:]:
                node = defined(body).get(name)
                if node is None:
                    return False
                body = node.body if isinstance(node, ast.ClassDef) else []
            return True
    return False


def test_a_name_without_a_definition_is_reported() -> None:
    assert names_something("trainables.core.spec.Spec")
    assert names_something("search.samplers")
    assert not names_something("trainables.core.spec.Nowhere")
    assert not names_something("search.nowhere.spec")


@pytest.mark.parametrize("page", PAGES_FOR_READERS, ids=title)
def test_paths_and_dotted_names_in_the_text_exist(page: Path) -> None:
    if page.name == "CHANGELOG.md":
        return  # It names what was moved.
    for word in re.findall(r"`([\w./-]+)`", page.read_text(encoding="utf-8")):
        room = re.split(r"[./]", word)[0]
        if room not in ROOMS or word in NOT_BUILT or word in FILES_OF_OTHERS:
            continue
        if "/" in word:
            assert (ROOT / word).exists(), f"{title(page)}: {word}"
        elif "." in word:
            assert names_something(word), f"{title(page)}: {word}"


@pytest.mark.parametrize("package", FLOORS)
def test_the_architecture_shows_the_floors_that_are_checked(package: str) -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    shown = re.search(rf"^{package}:\n\n((?: {{4}}.+\n)+)", page, re.M)
    assert shown
    assert shown[1].split() == FLOORS[package].split()
    rooms = set(re.findall(r"`(\w+)/`", section_of(page, "## The packages")))
    assert set(FLOORS[package].split()) <= rooms


def section_of(page: str, heading: str) -> str:
    return page.partition(f"{heading}\n")[2].partition("\n## ")[0]
