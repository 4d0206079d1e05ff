"""Pages in headless Chromium: the elements that are there once the scripts ran, and what the console says."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

_VOID = {"meta", "link", "img", "br", "hr", "input"}


@dataclass
class Element:
    """An element with its attributes and all text within it."""

    name: str
    attributes: dict[str, str]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """The elements of a page in order, by any test; `console` are the messages of the browser's console."""

    console: list[str] = field(default_factory=list)
    elements: list[Element] = field(default_factory=list)
    _open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop().name != tag:
            continue

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def all(self, name: str) -> list[Element]:
        """Return the elements of a name."""
        return [element for element in self.elements if element.name == name]

    def by_id(self, identifier: str) -> Element:
        """Return the element with an id."""
        (found,) = [element for element in self.elements if element.attributes.get("id") == identifier]
        return found

    def classed(self, name: str) -> list[Element]:
        """Return the elements of a class."""
        return [element for element in self.elements if name in element.attributes.get("class", "").split()]


def parsed(text: str) -> Page:
    """Return the elements of a text, without any script having run."""
    page = Page()
    page.feed(text)
    return page


def opened(path: Path, profile: Path, *, size: str = "1280,900") -> Page:
    """Open a file in Chromium and return the page once its scripts ran; skip the test where there is no Chromium."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("chromium is not installed")
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=10000")
    quiet = ("--disable-background-networking", "--no-first-run", f"--user-data-dir={profile}", f"--window-size={size}")
    command = [browser, *options, *quiet, "--dump-dom", path.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    page = parsed(done.stdout)
    page.console = re.findall(r"CONSOLE[^\]]*\] (.*)", done.stderr)
    return page
