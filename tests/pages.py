"""The documents, for the tests that read them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
MANUAL = ROOT / "docs" / "manual"
STUDY_FILE, CLUSTER_FILE = "study-file.md", "cluster-file.md"

PAGES = {path.name: path.read_text(encoding="utf-8") for path in sorted(MANUAL.glob("*.md"))}
READABLE = {"README.md": (ROOT / "README.md").read_text(encoding="utf-8"), **PAGES}

PAGES_FOR_READERS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
"""What users and contributors read; the records of benchmarks are history, and name what was there then."""

DOCUMENTS = [*PAGES_FOR_READERS, *sorted((ROOT / "benchmarks").rglob("*.md"))]


def section(page: str, heading: str, within: str = "") -> str:
    """Return the text below a heading, up to the next one of its level or above; of the page, or of a part of it."""
    level = heading.partition(" ")[0]
    found = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", within or PAGES[page], re.M | re.S)
    assert found, f"{page} has no heading '{heading}'"
    return found[1]


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)
