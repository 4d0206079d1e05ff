"""The benchmark for GPUs on a CPU: everything of it runs, and a section that fails takes nothing from the others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import gpu
import pytest


@pytest.mark.slow
def test_needs_neither_ray_nor_optuna() -> None:
    code = "import gpu, sys; print(sorted({'ray', 'optuna', 'search', 'scipy', 'sklearn'} & set(sys.modules)))"
    folder = Path(gpu.__file__).parent
    found = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


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
        assert [row["with"] for row in found["rows"] if row["equal bits"]] == ["run again", "resumed", "graph", "cpu"]
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
