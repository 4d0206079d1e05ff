"""The benchmark for GPUs on a CPU: everything of it runs, and a section that fails takes nothing from the others."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import gpu
import pytest


@pytest.mark.slow
def test_needs_torch_numpy_pydantic_and_safetensors_alone() -> None:
    code = """
        import sys
        from importlib.metadata import packages_distributions
        import torch, numpy, pydantic, annotated_types, safetensors.torch
        before = set(sys.modules)
        import gpu
        packages = {name.partition(".")[0] for name in set(sys.modules) - before} & set(packages_distributions())
        print(sorted(packages - {name.partition(".")[0] for name in before}), "search" in sys.modules)
    """
    folder = Path(gpu.__file__).parent
    command = [sys.executable, "-c", textwrap.dedent(code)]
    found = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[] False"


def test_the_budgets_leave_a_start_of_the_machine_within_eight_minutes() -> None:
    assert sum(budget for _, budget in gpu.SECTIONS.values()) <= 450


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", gpu.SECTIONS)
def test_every_section_runs_on_a_cpu(name: str, tmp_path: Path) -> None:
    found = gpu.run(name, 280, ["--device", "cpu", "--quick"], tmp_path)
    assert found["wrong"] is None
    assert found["rows"]
    if name == "agreement":
        ties = [f"cpu, {scope} masks of equal scores" for scope in ("global", "layerwise")]
        assert [row["with"] for row in found["rows"]] == ["run again", "resumed", "graph", "cpu", *ties]
        assert all(row["equal bits"] for row in found["rows"])
    if name == "resnet18":
        shares = [row["TFLOP/s"] / row["peak TFLOP/s"] for row in found["rows"]]
        assert [row["share of the peak"] for row in found["rows"]] == pytest.approx(shares)
        assert min(shares) > 0


@pytest.mark.slow
def test_a_section_that_fails_or_hangs_keeps_its_rows_and_leaves_the_others(tmp_path: Path) -> None:
    stopped = gpu.run("memory", 0.2, ["--device", "cpu", "--quick"], tmp_path)
    assert (stopped["wrong"], stopped["rows"]) == ("stopped after 0 s", [])
    failed = gpu.run("memory", 60, ["--device", "none"], tmp_path)
    assert failed["wrong"].startswith("exit code 2: ")
    assert "invalid choice: 'none'" in failed["wrong"]
    rows = [{"net": "lenet300", "images/s": 12345.6, "share": 0.25}, {"net": "lenet5", "not replayed": "why"}]
    sections = {"alone": {"seconds": 3.0, "wrong": None, "rows": rows}, "memory": failed | {"rows": []}}
    page = gpu.page({"about": {"device": "a GPU"}, "sections": sections})
    assert "| lenet300 | 12346 | 0.25 |  |" in page
    assert "| lenet5 |  |  | why |" in page
    assert "**Incomplete: exit code 2: " in page
    json.dumps(sections)


def test_goals_are_met_missed_or_not_measured() -> None:
    def page(section: str, rows: list[gpu.Row]) -> str:
        sections = {section: {"seconds": 1, "wrong": None, "rows": rows}}
        return gpu.page({"about": {"device": "a GPU"}, "sections": sections})

    shares = {("bf16", 0.2), ("bf16", 0.31), ("fp32", 0.9)}
    found = page("resnet18", [{"precision": format, "share of the peak": share} for format, share in shares])
    assert "share of the bf16 peak, resnet18: 0.3, met with 0.31" in found
    assert "graph against eager, lenet300: 3, not measured" in found
    ways = {("lenet300", "eager", 9.0), ("lenet300", "graph", 2.5), ("resnet20", "graph", 9.0)}
    found = page("alone", [{"net": net, "way": way, "times eager": times} for net, way, times in ways])
    assert "graph against eager, lenet300: 3, missed with 2.5" in found


def test_what_is_compared_to_graphs_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(gpu.ENABLED, "1")
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--device", "cpu", "--section", "alone"])
    seen: list[str | None] = []

    def rows(*_: object) -> Iterator[gpu.Row]:
        seen.append(os.environ.get(gpu.ENABLED))
        yield {}

    monkeypatch.setitem(gpu.SECTIONS, "alone", (rows, 1))
    gpu.main()
    assert seen == [None]
