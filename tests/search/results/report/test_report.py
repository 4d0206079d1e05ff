"""The report of a study, whole: what is on the page of which study, and how it behaves in a browser."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from search.results import report
from search.results.curves import Curve
from search.results.exporters import EXPORTERS
from search.results.report.gather import kind_of
from search.results.study import Study
from search.store.records import Records
from search.study import reproduction
from search.study.spec import Reproduces
from search.testing.exporters import HOSTILE, hostile_table
from tests.search import browser, factories
from tests.search.confirmations import make_confirmed_study
from trainables.core.errors import RobustsearchError
from trainables.store.curves import EpochValues
from trainables.store.storage import Storage

COSENTINO = Reproduces(paper="cosentino2019", table="mnist")
SECTIONS = [
    *("front", "confirmed", "tables", "hypervolume", "parameters"),
    *("layers", "training", "compute", "flags", "protocol"),
]
FIXTURE = Path(__file__).parents[3] / "fixtures" / "studies" / "schema-1"
PLOTS = {
    "confirmed": {"front", "confirmed", "security", "hypervolume", "importance", "slices", "parallel", "compute"},
    "none": set(),
    "one": {"front", "hypervolume", "slices", "parallel", "compute"},
}


def failed(path: Path) -> Study:
    records = factories.make_study(path, 0, factories.study_spec(name="failed"))
    for number in range(3):
        records.issue(factories.trial(number, records.spec))
        records.write_outcome(factories.outcome(number, failure=factories.failure("oom", "no memory <b>left</b>")))
    return Study(records)


def of_spec(**changes: Any) -> Callable[[Path], Study]:
    return lambda path: Study(factories.make_study(path, 12, factories.study_spec(**changes)))


STUDIES: dict[str, Callable[[Path], Study]] = {
    "none": lambda path: Study(factories.make_study(path, 0)),
    "one": lambda path: Study(factories.make_study(path, 1, troubled=False)),
    "three": lambda path: Study(factories.make_study(path, 3, troubled=False)),
    "confirmed": lambda path: make_confirmed_study(path, 30),
    "failed": failed,
    "one objective": of_spec(objectives={"robust_accuracy": "maximise"}),
    "three objectives": of_spec(
        objectives={"robust_accuracy": "maximise", "nonzero": "minimise", "clean_accuracy": "maximise"}
    ),
    "no front": of_spec(constraints={"clean_accuracy": ">= 0.9999"}),
    "nothing searched": of_spec(space={}, recipe={"kind": "three_stage", "sparsity": 0.5}),
    "replicates": lambda path: Study(
        factories.make_study(path, 12, factories.study_spec(seeds=[0, 1, 2]), troubled=False)
    ),
    "reproduces": lambda path: Study(
        Records.create(Storage(str(path)), reproduction.study(COSENTINO, 2), factories.FINGERPRINT)
    ),
    "old": lambda path: Study.open(str(FIXTURE)),
}


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory: pytest.TempPathFactory) -> Study:
    return STUDIES["confirmed"](tmp_path_factory.mktemp("confirmed") / "study")


@pytest.fixture(scope="module")
def confirmed_page(confirmed: Study) -> str:
    return report.render(confirmed)


def data_of(text: str) -> dict[str, Any]:
    (found,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text)
    return dict(json.loads(found))


@pytest.mark.slow
@pytest.mark.parametrize("kind", STUDIES)
def test_every_study_has_a_page_with_all_sections_that_is_the_same_again(kind: str, tmp_path: Path) -> None:
    study = STUDIES[kind](tmp_path / "study")
    text = report.render(study)
    assert text == report.render(Study(study.records))
    page = browser.parsed(text)
    assert [section.attributes["id"] for section in page.all("section")] == SECTIONS
    data = data_of(text)
    drawn = [plot.attributes["data-figure"] for plot in page.classed("plot")]
    assert set(drawn) <= set(data["figures"])
    assert {key.rpartition("-")[0] for key in data["figures"]} - {"layers", "curves"} >= PLOTS.get(kind, {"front"})
    assert len(data["points"]["rows"]) == len(study.points())


def test_a_page_that_refreshes_itself_says_so_to_its_script(tmp_path: Path) -> None:
    study = STUDIES["one"](tmp_path / "study")
    assert data_of(report.render(study, refresh=5))["refresh"] == 5
    assert data_of(report.render(study))["refresh"] is None


def test_the_page_shows_the_numbers_of_the_study(confirmed: Study, confirmed_page: str) -> None:
    study, page = confirmed, browser.parsed(confirmed_page)
    figures = [element.text for element in page.all("dd")][:5]
    front, rows = study.front(), study.confirmed()
    ended = study.progress().finished
    assert figures == [str(len(front)), str(len(rows)), f"{study.hypervolume():.4f}", "46", f"{ended} of 16"]
    assert [row.attributes["data-point"] for row in page.all("tr") if "data-point" in row.attributes] == [
        *(row.point for row in rows),
        *(row.point for row in front),
        *(row.point for row in study.points()),
        *(row.point for row in rows),
    ][: len(rows) + len(front) + len(study.points())]
    flags = page.by_id("flags").text
    assert "gradient_masking" in flags
    assert "t7.1, t17.1, t27.1" in flags
    assert "the loss is not finite in epoch 3" in flags
    assert "a flagged accuracy may be too high" in page.by_id("front").text


def test_the_copies_are_what_the_exporters_write(confirmed: Study, confirmed_page: str) -> None:
    from search.results import exporters

    copies = data_of(confirmed_page)["copies"]
    assert len(copies) == 12
    for key, text in copies.items():
        what, _, kind = key.partition("-")
        assert text == exporters.text(confirmed, what, kind)


def test_a_large_table_is_not_there_to_copy(confirmed: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.results.report.tables.MOST_COPIED", 20)
    page = browser.parsed(report.render(confirmed))
    assert "robustsearch export synthetic --what points --output points.csv" in page.by_id("table-points").text
    assert {button.attributes["data-copy"] for button in page.all("button") if "data-copy" in button.attributes} == {
        f"{what}-{kind}" for what in ("front", "confirmed") for kind in ("csv", "markdown", "latex")
    }


def test_the_output_stays_out_of_the_records(tmp_path: Path) -> None:
    study = STUDIES["one"](tmp_path / "study")
    with pytest.raises(RobustsearchError, match="inside the study's directory"):
        report.write(study, tmp_path / "study" / "report.html")
    target = tmp_path / "out" / "report.html"
    facts = report.write(study, target)
    counts = {"points": 2, "front": len(study.front()), "confirmed": 0}
    assert facts == {"study": "synthetic", "output": str(target), "bytes": target.stat().st_size, **counts}
    assert facts["bytes"] < 5_500_000


def hostile(path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study whose every text is hostile."""
    records = factories.make_study(path, 0)
    trials = []
    for number, text in enumerate(
        [*HOSTILE, "</script><script>alert(1)</script>", "<img src=http://x.invalid/y onerror=alert(1)>"]
    ):
        issued = factories.trial(number)
        params = {**issued.params, "recipe.train.loss.kind": text}
        parts = {"model": text, "data": text, "recipe": text}
        issued = issued.model_copy(update={"params": params, "study": text, "spec": parts})
        point = factories.point(
            attack=text, norm=text, eps_text=text, split=text, flags=(text, text), device=text, metrics={text: 0.5},
            status="warn", sparsity=0.5 + number / 60, robust_accuracy=0.9 - number / 60,
        )  # fmt: skip
        trials.append((issued, factories.outcome(number, [point], host=text, versions={text: text})))
    failure = factories.failure(HOSTILE[7], "".join(HOSTILE))
    trials.append((factories.trial(40), factories.outcome(40, failure=failure)))
    records.spec = records.spec.model_copy(update={"description": "".join(HOSTILE)})
    monkeypatch.setattr(records, "trials", lambda: trials)
    return Study(records)


def no_request(page: browser.Page) -> None:
    for element in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster"):
            target = element.attributes.get(name, "")
            assert not re.match(r"\s*(https?:|//|javascript:|file:)", target), (element.name, target)
        assert not [name for name in element.attributes if name.startswith("on")], element


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["confirmed", "none", "failed", "three objectives", "old", "hostile"])
def test_a_browser_shows_it_without_an_error_or_a_request(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = hostile(tmp_path / "study", monkeypatch) if kind == "hostile" else STUDIES[kind](tmp_path / "study")
    target = tmp_path / "report.html"
    report.write(study, target)
    page = browser.opened(target, tmp_path / "profile")
    assert page.console == []
    assert page.all("html")[0].attributes["data-ready"] == "yes"
    no_request(page)
    plots = page.classed("plot")
    assert len(page.classed("main-svg")) >= 2 * len(plots)
    assert len(page.all("script")) == 3
    assert len(page.all("img")) == 0
    if study.points():
        assert page.by_id("panel").text.startswith(max(study.front(), key=lambda row: row.robust_accuracy).point)
    if kind == "hostile":
        assert "<script>alert(1)</script>" in page.by_id("flags").text
        assert "\\u202egnp.exe" in page.all("header")[0].text
        assert "\u202e" not in target.read_text()


@pytest.mark.slow
def test_a_browser_shows_a_study_of_3000_points(tmp_path: Path) -> None:
    study = Study(factories.make_study(tmp_path / "study", 1500, troubled=False, keyed=False))
    facts = report.write(study, tmp_path / "report.html")
    assert facts["points"] == 3000
    assert facts["bytes"] < 9_000_000
    page = browser.opened(tmp_path / "report.html", tmp_path / "profile")
    assert page.console == []
    assert len(page.by_id("table-points").text.split("t1499.1")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("what", ["points", "trials"])
def test_a_browser_shows_an_exported_table_of_hostile_texts(what: str, tmp_path: Path) -> None:
    content = EXPORTERS.parse("html").render(hostile_table(what), what=what, study=HOSTILE[7])
    (tmp_path / "table.html").write_bytes(content)
    page = browser.opened(tmp_path / "table.html", tmp_path / "profile")
    assert page.console == []
    no_request(page)
    assert len(page.all("script")) == 2
    assert page.all("h1")[0].text == HOSTILE[7]


ACTIONS = """
const text = (selector) => document.querySelector(selector).textContent;
const rows = () => Array.from(document.querySelector("#tables table").tBodies[0].rows);
const cells = () => rows().map((row) => row.cells[2].textContent);
const button = document.querySelectorAll("#tables table thead button")[2];
const found = {};
button.click(); found.falling = cells();
button.click(); found.rising = cells();
document.getElementById("plot-front-0").emit("plotly_click", { points: [{ customdata: "t0.1" }] });
found.panel = text("#panel h3"); found.command = text("#panel code"); found.hash = location.hash;
document.querySelector("#panel button").click(); found.other = text("#panel h3");
const whole = document.documentElement;
found.beyond = whole.scrollWidth - whole.clientWidth;
parent.postMessage(JSON.stringify(found), "*");
"""


@pytest.mark.slow
def test_a_click_shows_the_trial_a_heading_sorts_and_a_phone_has_no_bar(tmp_path: Path, confirmed_page: str) -> None:
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", confirmed_page)
    (tmp_path / "inner.html").write_text(text.replace("</body>", f"<script>{ACTIONS}</script></body>"))
    (tmp_path / "page.html").write_text(
        "<script>onmessage = (event) => { document.documentElement.dataset.found = event.data; };</script>"
        '<iframe style="width: 390px; height: 844px; border: 0" src="inner.html"></iframe>'
    )
    page = browser.opened(tmp_path / "page.html", tmp_path / "profile")
    found = json.loads(page.all("html")[0].attributes["data-found"])
    values = [float(cell.split()[0]) for cell in found["rising"]]
    assert values == sorted(values)
    assert [float(cell.split()[0]) for cell in found["falling"]] == values[::-1]
    assert found["panel"] == "t0.1 of trial 0"
    assert found["command"] == "robustsearch model synthetic t0.1 --output my-net"
    assert found["hash"] == "#t0.1"
    assert found["other"] == "t0.0 of trial 0"
    assert found["beyond"] == 0


PRINTED = """
for (const sheet of document.styleSheets)
  for (const rule of sheet.cssRules) if (rule.media && rule.media.mediaText === "print") rule.media.mediaText = "all";
document.body.style.width = "300px";
window.dispatchEvent(new Event("beforeprint"));
const right = Math.max(...Array.from(document.querySelectorAll(".plot"), (each) => each.getBoundingClientRect().right));
const found = { beyond: right - 300, wide: document.querySelectorAll(".wide .plot").length };
document.documentElement.dataset.found = JSON.stringify(found);
"""
"""The page as on a narrow paper: how far a chart is beyond its edge."""


@pytest.mark.slow
def test_on_paper_the_curves_of_all_trials_are_drawn_and_no_chart_is_cut(
    tmp_path: Path, confirmed: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the screen one selects them."""
    epochs = tuple(EpochValues(at, 1 / at, 0.5, 0.1, 0.1) for at in (1, 2, 3))
    monkeypatch.setattr(
        Study, "curves", lambda self, trial: [Curve(0, "train", "key", "synthetic", trial, 0, 0, 3, 100, 0, epochs, ())]
    )
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", report.render(confirmed))
    (tmp_path / "page.html").write_text(text.replace("</body>", f"<script>{PRINTED}</script></body>"))
    page = browser.opened(tmp_path / "page.html", tmp_path / "profile")
    assert page.console == []
    trials = [option.text for option in page.all("option")]
    assert len(trials) > 1
    drawn = page.classed("copy")
    assert len(drawn) == len(trials)
    assert all("trained on" in each.text for each in drawn)
    found = json.loads(page.all("html")[0].attributes["data-found"])
    assert found["wide"] > 0
    assert found["beyond"] <= 0


def test_a_study_that_changes_while_it_is_read_still_has_a_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The front was read before the trial that drops one of its points ended."""
    study = STUDIES["three"](tmp_path / "study")
    front = [replace(row, point="t99.0") for row in study.front()]
    monkeypatch.setattr(study, "front", lambda: front)
    assert "t99.0" in report.render(study)


def test_a_study_that_reproduces_a_paper_shows_its_table(tmp_path: Path) -> None:
    page = html.unescape(report.render(STUDIES["reproduces"](tmp_path)))
    assert "The paper's table<" in page
    assert "The paper's claims (8)" in page


def test_replicates_are_shown_by_their_means(tmp_path: Path) -> None:
    study = STUDIES["replicates"](tmp_path)
    page = report.render(study)
    assert "standard deviation over 3 seeds" in page
    assert "95 % interval" not in page
    assert "All configurations (8)" in page
    assert len({row.network for row in study.front()}) == len(study.front())


def test_points_without_all_of_their_seeds_are_a_kind_of_their_own(tmp_path: Path) -> None:
    study = Study(factories.make_study(tmp_path, 2, factories.study_spec(seeds=[0, 1, 2]), troubled=False))
    assert {kind_of(row) for row in study.configurations()} == {"unsettled"}
    page = report.render(study)
    assert "seeds missing" in page
    assert "no point with all of its seeds so far" in page
