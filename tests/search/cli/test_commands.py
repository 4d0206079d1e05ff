"""The command line on studies that lie on disk: what it prints, how it ends, and what it refuses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from search.cli import main
from search.store import driver_lock
from search.study import file as study_file
from tests.search.command import run
from tests.search.factories import failure, make_study, outcome, params, point, study_spec, trial
from tests.search.tiny import FIELDS as TINY_STUDY
from trainables.store import paths
from trainables.store.storage import Storage


@pytest.fixture(scope="module")
def storage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A storage with a study that has a front, one whose points all violate its constraint, and one that failed."""
    storage_root = tmp_path_factory.mktemp("storage")
    make_study(storage_root / "synthetic", 12)
    make_study(storage_root / "tight", 4, study_spec(name="tight", constraints={"clean_accuracy": ">= 0.9999"}))
    failed = make_study(storage_root / "failed", 0, study_spec(name="failed"))
    for number in range(3):
        failed.issue(trial(number, failed.spec))
        failed.write_outcome(outcome(number, failure=failure("oom", "no memory left")))
    return storage_root


def test_front_is_a_table_of_its_points(storage: Path) -> None:
    result = run("front", "synthetic", "--storage", storage)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split("  ")[0] == "point"
    points = [line.split()[0] for line in lines[1 : lines.index("")]]
    shown = json.loads(run("front", "synthetic", "--storage", storage, "--json").stdout)
    exported = shown["front"]
    assert points == [row["point"] for row in exported]
    assert len(points) >= 3
    assert "PGD-20" in lines[-1]
    assert "n = 360" in lines[-1]
    assert shown["knee"] in points
    assert f"knee: {shown['knee']}" in lines
    assert shown["target"] is None
    assert all(line == line.rstrip() for line in lines)


def test_parameters_with_one_value_are_not_shown_and_those_of_several_recipes_are_named(tmp_path: Path) -> None:
    kinds = {"kind": "categorical", "choices": ["three_stage", "imp"]}
    fixed = {"kind": "categorical", "choices": [5], "when": {"recipe.kind": "three_stage"}}
    either = {"kind": "categorical", "choices": [True, False]}
    space = {"recipe.kind": kinds, "recipe.finetune_epochs": fixed, "model.normalise": either}
    spec = study_spec(name="several", space=space)
    records = make_study(tmp_path / "several", 0, spec)
    params = {"recipe.kind": "three_stage", "recipe.finetune_epochs": 5, "model.normalise": False}
    records.issue(trial(0, spec, params=params))
    records.write_outcome(outcome(0))
    shown = run("front", "several", "--storage", tmp_path).stdout
    assert "  recipe=three_stage model.normalise=false\n" in shown
    assert "study all-recipes: imp, three_stage, " in run("validate", "all-recipes").stdout


def test_flags_stand_beside_each_point_wherever_it_is_shown(tmp_path: Path) -> None:
    spec = study_spec(name="flagged")
    records = make_study(tmp_path / "flagged", 0, spec)
    records.issue(trial(0, spec))
    flagged = {"status": "warn", "flags": ("zero_gradient", "softmax_output"), "weights_outside": 8192}
    masked = point(1, robust_accuracy=0.99, status="invalid", flags=("black_box_stronger",))
    records.write_outcome(outcome(0, [point(0, parameters=2000, **flagged), masked]))
    front = run("front", "flagged", "--storage", tmp_path).stdout
    assert "warn: zero_gradient, softmax_output" in front
    assert "99.0" not in front
    status = run("status", "flagged", "--storage", tmp_path).stdout
    assert "softmax_output (warn): 1 point, 1 on the front" in status
    assert "black_box_stronger (invalid): 1 point" in status
    assert "8,192 weights" in status
    told = json.loads(run("status", "flagged", "--storage", tmp_path, "--json").stdout)
    assert {"flag": "softmax_output", "points": 1, "on_front": 1, "severity": "warn", "means": False} in told["flags"]
    assert "most robust" not in told["best"]  # The flags question its robust accuracy.
    for kind in ("markdown", "latex", "csv"):
        assert "gradient" in run("export", "flagged", "--storage", tmp_path, "--format", kind).stdout


def test_all_commands_count_and_judge_replicates_as_the_front_does(tmp_path: Path) -> None:
    spec = study_spec(name="seeds", seeds=[1, 2, 3], target={"robust_accuracy": ">= 0.1"})
    records = make_study(tmp_path / "seeds", 0, spec)
    flagged = {"flags": ("softmax_output",)}
    # The first network of the first configuration is the most robust one, the second configuration is so in the mean.
    robust = [(0.9, {}), (0.5, {}), (0.4, flagged), (0.65, {}), (0.7, {}), (0.75, {})]
    for number, (accuracy, changes) in enumerate(robust):
        configuration, seed = divmod(number, 3)
        own = {"configuration": configuration, "seed": spec.seeds[seed], "params": params(configuration)}
        records.issue(trial(number, spec, **own))
        sparse = 0.5 - configuration / 10
        records.write_outcome(outcome(number, [point(0, robust_accuracy=accuracy, sparsity=sparse, **changes)]))
    storage = ("--storage", tmp_path)
    front = run("front", "seeds", *storage).stdout.splitlines()
    assert [(line.split()[0], "warn: softmax_output" in line) for line in front[1:3]] == [
        ("t3.0", False),
        ("t0.0", True),
    ]
    for row in json.loads(run("front", "seeds", *storage, "--json").stdout)["front"]:
        assert row["flags"] == (["softmax_output"] if row["point"] == "t0.0" else [])
    status = run("status", "seeds", *storage).stdout
    assert "6 measured, 2 means over seeds on the front" in status
    assert "softmax_output (warn): 1 point, 1 mean over seeds on the front" in status
    best = next(line for line in status.splitlines() if line.startswith("most robust  "))
    assert best.split()[2:7] == ["t3.0", "40.0", "70.0", "±", "5.0"]
    assert "6 measured, 2 means over seeds on the front" in run("watch", "seeds", "--once", *storage).stdout
    assert run("report", "seeds", *storage, "--output", tmp_path / "seeds.html").exit_code == 0
    page = (tmp_path / "seeds.html").read_text()
    assert "softmax_output (warn): 1, 1 mean over seeds on the front" in page
    assert '"chosen": "t3.0"' in page or '"chosen":"t3.0"' in page
    answer = "t3.0, 40.0 % sparse, 70.0 % robust, 90.0 % clean (means over 3 seeds)"
    assert f"target robust_accuracy >= 0.1: {answer}" in status


def test_a_count_that_is_an_objective_stands_in_the_table(tmp_path: Path) -> None:
    spec = study_spec(name="small", objectives={"robust_accuracy": "maximise", "macs_effective": "minimise"})
    records = make_study(tmp_path / "small", 0, spec)
    records.issue(trial(0, spec))
    records.write_outcome(outcome(0, [point(macs_effective=1234, macs_dense=5000)]))
    heading, row, *_ = run("front", "small", "--storage", tmp_path).stdout.splitlines()
    assert heading.split("  ")[0] == "point"
    assert "macs_effective  parameters" in heading
    assert row.index("1234") + 4 == heading.index("macs_effective") + len("macs_effective")
    exported = run("export", "small", "--format", "markdown", "--storage", tmp_path).stdout
    assert "macs" in exported
    assert re.search(r"\| +1234 \|", exported)


@pytest.mark.parametrize(("bound", "reached"), [(">= 0.45", True), (">= 0.99", False)])
def test_the_point_that_answers_a_target_is_named(storage: Path, bound: str, reached: bool) -> None:
    name = f"aim-{reached}".lower()
    make_study(storage / name, 12, study_spec(name=name, target={"robust_accuracy": bound}))
    answer_json = json.loads(run("front", name, "--storage", storage, "--json").stdout)
    assert json.loads(run("status", name, "--storage", storage, "--json").stdout)["target"] == answer_json["target"]
    answer = answer_json["target"]["point" if reached else "nearest"]
    assert answer_json["target"]["nearest" if reached else "point"] is None
    assert answer_json["target"]["bounds"] == {"robust_accuracy": bound}
    rows = answer_json["front"]
    if reached:
        reaching = [row for row in rows if row["robust_accuracy"] >= 0.45]
        assert answer["point"] == max(reaching, key=lambda row: row["sparsity"])["point"]
    else:
        assert answer["point"] == max(rows, key=lambda row: row["robust_accuracy"])["point"]
    for command in ("front", "status"):
        text = run(command, name, "--storage", storage).stdout
        says = f"target robust_accuracy {bound}: " + ("" if reached else "no point reaches it; nearest is ")
        assert says + answer["point"] in text


def test_front_without_a_feasible_point_lists_the_least_violating_and_says_so(storage: Path) -> None:
    result = run("front", "tight", "--storage", storage)
    assert result.exit_code == 3
    assert "no point satisfies clean_accuracy >= 0.9999" in result.stdout
    shown = json.loads(run("front", "tight", "--storage", storage, "--json").stdout)
    assert shown["front"] == []
    assert shown["error"] == {"message": "no feasible point", "exit_code": 3}
    assert len(shown["least_violating"]) == 5


def test_a_study_whose_trials_all_failed_has_no_front(storage: Path) -> None:
    result = run("front", "failed", "--storage", storage)
    assert result.exit_code == 3
    assert "no valid point has been measured" in result.stdout
    assert not (storage / "failed" / paths.EXPORTS).exists()


def test_status_lists_every_study_even_beside_a_broken_one(tmp_path: Path) -> None:
    make_study(tmp_path / "one", 3)
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / paths.STUDY).write_text("name: broken\n")
    (tmp_path / "not a study").mkdir()
    result = run("status", "--storage", tmp_path)
    assert result.exit_code == 0
    assert [line.split()[0].rstrip(":") for line in result.stdout.splitlines()] == ["study", "synthetic", "broken"]
    listed = json.loads(run("status", "--storage", tmp_path, "--json").stdout)
    assert [study["study"] for study in listed["studies"]] == ["synthetic"]
    assert "made_with" in listed["damaged"]["broken"]


def test_status_of_an_empty_storage_says_what_to_do(tmp_path: Path) -> None:
    result = run("status", "--storage", tmp_path / "none")
    assert result.exit_code == 0
    assert "robustsearch launch" in result.stdout
    assert not (tmp_path / "none").exists()


def test_status_tells_states_failures_and_best_points(storage: Path) -> None:
    shown = json.loads(run("status", "synthetic", "--storage", storage, "--json").stdout)
    counts = [shown[state] for state in ("complete", "stopped", "failed", "running", "waiting", "damaged")]
    assert sum(counts) == shown["issued"] == 12
    assert shown["failed_trials"] == [{"kind": "diverged", "trials": 1, "message": "the loss is not finite in epoch 3"}]
    assert shown["driver"] is None
    front = json.loads(run("front", "synthetic", "--storage", storage, "--json").stdout)["front"]
    assert shown["best"]["most robust"]["robust_accuracy"] == max(row["robust_accuracy"] for row in front)
    assert shown["best"]["sparsest"]["point"] == front[-1]["point"]
    assert shown["best"]["knee of the front"]["point"] in [row["point"] for row in front]
    # 10 complete or stopped trials and a failed one, whose last points had 15 epochs each.
    assert shown["epochs_trained"] == 15 * (12 - 1)
    text = run("status", "synthetic", "--storage", storage).stdout
    assert "diverged" in text
    assert "no launch is running" in text


def test_status_counts_a_damaged_record(tmp_path: Path) -> None:
    make_study(tmp_path / "synthetic", 4)
    (tmp_path / "synthetic" / paths.outcome(1)).write_text("{")
    result = run("status", "synthetic", "--storage", tmp_path)
    assert result.exit_code == 0
    assert "1 damaged" in result.stdout
    assert paths.outcome(1) in result.stdout


@pytest.mark.slow
def test_results_say_which_trials_they_are_without(tmp_path: Path) -> None:
    make_study(tmp_path / "synthetic", 4, troubled=False)
    for command in (("front",), ("export",), ("plot", "--output", tmp_path / "front.png")):
        assert "note:" not in run(command[0], "synthetic", "--storage", tmp_path, *command[1:]).stderr
    (tmp_path / "synthetic" / paths.outcome(1)).write_text("{")
    for command in (("front",), ("export",), ("plot", "--output", tmp_path / "front.png")):
        result = run(command[0], "synthetic", "--storage", tmp_path, *command[1:])
        assert result.exit_code == 0
        assert "note: without trial 1, whose records cannot be read; `robustsearch doctor synthetic" in result.stderr


def test_a_damaged_study_is_told_from_bad_input(tmp_path: Path) -> None:
    make_study(tmp_path / "synthetic", 2)
    path = tmp_path / "synthetic" / paths.STUDY
    whole = path.read_bytes()
    for length in (0, len(whole) // 3, len(whole) - 9):
        path.write_bytes(whole[:length])
        result = run("front", "synthetic", "--storage", tmp_path)
        assert result.exit_code == 5
        assert "`robustsearch repair synthetic" in result.stderr


def test_a_study_that_has_lost_its_file_is_not_said_to_be_absent(tmp_path: Path) -> None:
    make_study(tmp_path / "synthetic", 2)
    (tmp_path / "synthetic" / paths.STUDY).unlink()
    result = run("front", "synthetic", "--storage", tmp_path)
    assert result.exit_code == 5
    assert "has lost its study.yaml: `robustsearch repair synthetic" in result.stderr
    listed = json.loads(run("status", "--storage", tmp_path, "--json").stdout)
    assert "has lost its study.yaml" in listed["damaged"]["synthetic"]
    assert run("repair", "synthetic", "--storage", tmp_path).exit_code == 0
    assert run("status", "synthetic", "--storage", tmp_path).exit_code == 0


def test_stop_asks_the_driver_at_work(tmp_path: Path) -> None:
    make_study(tmp_path / "synthetic", 2)
    storage_root = Storage(str(tmp_path / "synthetic"))
    assert "no launch of synthetic is running" in run("stop", "synthetic", "--storage", tmp_path).stderr
    assert not driver_lock.stop_requested(storage_root)
    with driver_lock.acquire(storage_root):
        result = run("stop", "synthetic", "--storage", tmp_path, "--json")
        assert result.exit_code == 0
        assert json.loads(result.stdout)["driver"].startswith("process ")
        assert driver_lock.stop_requested(storage_root)


def test_the_storage_comes_from_option_then_environment(storage: Path, tmp_path: Path) -> None:
    elsewhere = str(tmp_path / "elsewhere")
    assert run("front", "synthetic", ROBUSTSEARCH_STORAGE=str(storage)).exit_code == 0
    assert run("front", "synthetic", "--storage", storage, ROBUSTSEARCH_STORAGE=elsewhere).exit_code == 0
    assert run("front", "synthetic", "--storage", elsewhere, ROBUSTSEARCH_STORAGE=str(storage)).exit_code == 2


def test_an_unknown_study_is_answered_with_the_nearest(storage: Path) -> None:
    result = run("front", "syntetic", "--storage", storage)
    assert result.exit_code == 2
    assert "did you mean 'synthetic'" in result.stderr


NAMES = ["../../x", "con", "a" * 300, "🦀", "two\nlines", "Upper", "", ".", "a/b"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("command", ["front", "status", "export", "stop", "plot", "report"])
def test_what_is_no_name_is_refused_in_one_line(command: str, name: str, storage: Path) -> None:
    result = run(command, name, "--storage", storage)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1
    assert len(result.stderr) < 400
    assert result.stdout == ""


@pytest.mark.parametrize("name", [*NAMES, "-rf"])
def test_launch_refuses_names_too(name: str, tmp_path: Path) -> None:
    result = run("launch", "--name", name, "--storage", tmp_path, "--dry-run")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_name_that_looks_like_an_option_is_refused(storage: Path) -> None:
    result = run("front", "-rf", "--storage", storage)
    assert result.exit_code == 2
    assert "No such option" in result.stderr


JSON_COMMANDS: list[tuple[int, list[str]]] = [
    (0, ["studies"]),
    (0, ["studies", "show", "quickstart"]),
    (2, ["studies", "show", "quickstrt"]),
    (0, ["status"]),
    (0, ["status", "synthetic"]),
    (2, ["status", "nothing"]),
    (0, ["front", "synthetic"]),
    (3, ["front", "tight"]),
    (2, ["front", "../../x"]),
    (0, ["export", "synthetic", "--format", "csv"]),
    (0, ["export", "synthetic", "--format", "json"]),
    (2, ["export", "synthetic", "--format", "parquet"]),
    (2, ["export", "synthetic", "--format", "xml"]),
    (2, ["export", "synthetic", "--what", "nonsense"]),
    (2, ["plot", "synthetic", "--output", "front.xyz"]),
    (2, ["model", "synthetic", "99.9", "--output", "taken"]),
    (2, ["model", "synthetic", "1.0"]),
    (0, ["stop", "synthetic"]),
    (0, ["launch", "--dry-run"]),
    (2, ["launch", "nothing-of-that-name"]),
    (2, ["launch", "--trials", "0"]),
    (2, ["launch", "--set", "recipe.epoch=3"]),
    (2, ["launch", "--cluster", "missing.yaml"]),
    (0, ["validate", "quickstart"]),
    (2, ["validate", "missing.yaml"]),
    (2, ["validate"]),
    (2, ["lanch"]),
    (0, ["init", "fresh"]),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "args"), JSON_COMMANDS, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_json_is_json_under_every_command(
    code: int, args: list[str], storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*args, "--json", ROBUSTSEARCH_STORAGE=str(storage))
    shown = json.loads(result.stdout)
    assert result.exit_code == code
    if code:
        assert shown["error"]["exit_code"] == code
        assert shown["error"]["message"]
        assert "Traceback" not in result.stderr
    else:
        assert "error" not in shown


def test_every_command_has_json(tmp_path: Path) -> None:
    for name, command in main.commands.items():
        assert any("--json" in option.opts for option in command.params), name


@pytest.mark.parametrize("what", ["front", "points", "trials"])
@pytest.mark.parametrize("suffix", [".csv", ".json", ".md", ".tex", ".parquet"])
def test_export_takes_the_format_from_the_name(what: str, suffix: str, storage: Path, tmp_path: Path) -> None:
    output = tmp_path / f"table{suffix}"
    result = run("export", "synthetic", "--what", what, "--output", output, "--storage", storage)
    assert result.exit_code == 0
    assert output.stat().st_size > 100
    assert result.stdout == ""
    assert str(output) in result.stderr


def test_export_goes_to_stdout_as_csv(storage: Path) -> None:
    result = run("export", "synthetic", "--what", "front", "--storage", storage)
    assert result.exit_code == 0
    assert result.stdout.startswith("point,trial,study,")
    assert len(result.stdout.splitlines()) == 1 + len(
        json.loads(run("front", "synthetic", "--storage", storage, "--json").stdout)["front"]
    )


@pytest.mark.slow
def test_report_writes_a_page_and_says_what_is_in_it(
    storage: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run("report", "synthetic", "--storage", storage)
    page = tmp_path / "synthetic-report.html"
    assert result.stdout == ""
    assert result.stderr == f"wrote synthetic-report.html ({page.stat().st_size / 1e6:.1f} MB)\n"
    facts = json.loads(run("report", "synthetic", "--storage", storage, "--output", "x.html", "--json").stdout)
    front = json.loads(run("front", "synthetic", "--storage", storage, "--json").stdout)["front"]
    assert facts["front"] == len(front)
    assert (facts["output"], facts["bytes"]) == ("x.html", (tmp_path / "x.html").stat().st_size)
    assert (tmp_path / "x.html").read_bytes() == page.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("command", [["export", "--format", "csv"], ["plot"], ["report"]])
@pytest.mark.parametrize("target", ["a directory", "below a file", "a record", "no permission"])
def test_an_output_that_cannot_be_is_refused(
    command: list[str], target: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    make_study(tmp_path / "synthetic", 2)
    suffix = {"plot": ".pdf", "report": ".html"}.get(command[0], ".csv")
    taken = tmp_path / f"taken{suffix}"
    record = tmp_path / "synthetic" / paths.STUDY
    before = record.read_bytes()
    if target == "a directory":
        taken.mkdir()
        output = taken
    elif target == "below a file":
        taken.write_text("")
        output = taken / f"below{suffix}"
    elif target == "a record":
        output = record if suffix == ".csv" else tmp_path / "synthetic" / f"here{suffix}"
    else:
        taken.write_text("kept")
        taken.chmod(0o400)
        if _may_write(taken):
            pytest.skip("this user may write to read-only files")
        output = taken
    result = run(command[0], "synthetic", *command[1:], "--output", output, "--storage", tmp_path)
    assert result.exit_code == 2
    assert "Traceback" not in result.stderr
    assert str(output) in result.stderr
    assert record.read_bytes() == before


def _may_write(path: Path) -> bool:
    import os

    return os.access(path, os.W_OK)


def test_text_from_records_cannot_drive_the_terminal(tmp_path: Path) -> None:
    records = make_study(tmp_path / "synthetic", 0)
    records.issue(trial(0, records.spec))
    evil = "\x1b]0;gone\x07\x1b[2J\u202e red"
    records.write_outcome(outcome(0, failure=failure("bug", evil)))
    shown = run("status", "synthetic", "--storage", tmp_path, FORCE_COLOR=None, NO_COLOR="1").stdout
    assert "\\x1b[2J" in shown
    assert not any(character in shown for character in "\x1b\x07\u202e")


@pytest.mark.slow
def test_no_escape_bytes_with_no_color_even_in_a_terminal(storage: Path) -> None:
    terminal = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    for args in (["front", "synthetic"], ["status"], ["status", "synthetic"], ["studies"]):
        assert "\x1b" in run(*args, ROBUSTSEARCH_STORAGE=str(storage), **terminal).stdout
        assert "\x1b" not in run(*args, ROBUSTSEARCH_STORAGE=str(storage), NO_COLOR="1", **terminal).stdout


def test_studies_are_listed_with_the_default_first() -> None:
    lines = run("studies").stdout.splitlines()
    assert [line.split()[0] for line in lines] == study_file.builtin_names()
    assert lines[0].startswith("quickstart ")
    shown = run("studies", "show", "quickstart")
    assert shown.stdout == study_file.builtin_text("quickstart")


def test_a_bug_leaves_its_traceback_and_exit_code_1(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("search.results.status.status", broken)
    result = run("status", "synthetic", "--storage", storage, "--json")
    assert result.exit_code == 1
    assert "Traceback" in result.stderr
    assert "ZeroDivisionError: by zero" in json.loads(result.stdout)["error"]["message"]


def test_an_interrupt_ends_with_130(storage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("search.results.status.status", interrupted)
    result = run("status", "synthetic", "--storage", storage)
    assert result.exit_code == 130
    assert result.stderr.strip().endswith("error: interrupted")


@pytest.mark.parametrize("where", ["--storage", "variable", "cluster", "data", "--set", "study", "name"])
def test_credentials_in_a_uri_are_refused_and_not_printed(tmp_path: Path, where: str) -> None:
    uri = "s3://KEYID:VERYSECRET@bucket/runs"
    study = {**TINY_STUDY, "data": {"kind": "image_folder", "root": uri}} if where == "data" else TINY_STUDY
    (tmp_path / "study.yaml").write_text(json.dumps(study))
    (tmp_path / "cluster.yaml").write_text(f"kind: inline\nstorage: {uri}\n")
    more = {
        "--storage": ("--storage", uri),
        "cluster": ("--cluster", str(tmp_path / "cluster.yaml")),
        "--set": ("--set", f"data.root={uri}"),
        "name": ("--name", uri),
    }
    given = uri if where == "study" else str(tmp_path / "study.yaml")
    commands = [["launch", given, "--dry-run", *more.get(where, ()), *json_] for json_ in ((), ("--json",))]
    commands += [
        ["status", uri],
        ["front", "x", "--storage", uri],
        ["status", "x", "more", uri],
        ["gc", "x", "--storage", uri],
    ]
    commands += [["validate", str(tmp_path / "cluster.yaml")]]
    for command in commands:
        done = run(*command, **({"ROBUSTSEARCH_STORAGE": uri} if where == "variable" else {}))
        assert done.exit_code == 2, command
        assert "credentials" in done.output
        assert "VERYSECRET" not in done.output
        assert "KEYID" not in done.output
