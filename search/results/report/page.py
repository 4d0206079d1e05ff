"""A report as one HTML file: the template filled in, plotly and all data within it, nothing to be fetched."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from search.files.messages import printable
from search.results.exporters.base import one_line

_HERE = "search.results.report"
_NAME_ENDS = re.compile(r"(?<=\w)([._])(?=\w)")


def page(template: str, values: Mapping[str, Any], data: Mapping[str, Any], *, charts: bool) -> str:
    """Return a template filled in; `data` is what its script reads, `charts` whether it needs plotly."""
    scripts = [*([plotly_script()] if charts else []), source("report.js")]
    return (
        _environment()
        .get_template(template)
        .render(
            **values,
            style=Markup(source("report.css")),
            policy=_policy(scripts),
            scripts=[Markup(script) for script in scripts],
            data=Markup(embedded(data)),
        )
    )


def embedded(data: Mapping[str, Any]) -> str:
    """Return data as JSON that ends no script element and opens no comment in one."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def plotly_script() -> str:
    """Return plotly.js, as the package plotly ships it."""
    script = resources.files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")
    assert "</script" not in script.lower()
    return script


@cache
def source(name: str) -> str:
    """Return a file beside this module."""
    return resources.files(_HERE).joinpath(name).read_text(encoding="utf-8")


def _policy(scripts: list[str]) -> str:
    """Return a content security policy: these scripts alone run, and nothing is fetched from anywhere."""
    digests = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader(_HERE, ""),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_plain,
    )
    found.filters["line"] = one_line
    found.filters["breakable"] = _breakable
    return found


def _breakable(text: str) -> Markup:
    """Return a text on one line that may break within dotted names."""
    return Markup(_NAME_ENDS.sub(r"\1<wbr>", str(escape(printable(one_line(text))))))


def _plain(value: Any) -> Any:
    """Write characters that are invisible or turn the direction of a text as escapes."""
    return printable(value) if isinstance(value, str) and not isinstance(value, Markup) else value
