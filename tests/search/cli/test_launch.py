"""`launch` and `validate` up to the point where Ray would start, and after it has ended."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search.launch.run import NotStarted
from search.results.study import Ending, Study
from search.store.records import Records
from search.study import file as study_file
from tests.search.command import run
from tests.search.factories import make_study
from tests.trainables.data.made import made, write_classes
from trainables.core.errors import ExitCode
from trainables.store import paths
from trainables.store.storage import Storage

STUDY = """\
name: mine
data: digits
model: lenet300
recipe:
  kind: three_stage
  epochs: 10
space:
  recipe.sparsity: {kind: float, low: 0.3, high: 0.98}
protocol: {eps: 0.1}
budget: {trials: 4}
"""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Stand in for the launch itself: note what would run, write what a run would have left, and end well."""
    calls: list[Any] = []

    def launch(plan: Any, *, view: Any, say: Any, wait: float, owns_process: bool) -> Study:
        calls.append((plan.spec, plan.cluster, plan.storage))
        say("it begins")
        if not Records.exist(plan.storage):
            make_study(plan.storage.location, 3, plan.spec, troubled=False)
        return Study(Records.open(plan.storage), Ending(ExitCode.DONE, "3 of 3 trials complete"))

    monkeypatch.setattr("search.launch.run.launch", launch)
    return calls


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_launch_alone_runs_the_quickstart_below_runs(started: list[Any], here: Path) -> None:
    result = run("launch")
    assert result.exit_code == 0, result.stderr
    spec, cluster, storage = started[0]
    assert spec.name == "quickstart"
    assert cluster.kind == "local"
    assert storage.location == str(here / "runs" / "quickstart")
    assert result.stdout.startswith("point")
    lines = result.stderr.splitlines()
    assert lines[-3:-1] == ["it begins", "3 of 3 trials complete"]
    assert lines[-1] == "next: robustsearch plot quickstart (or `export` for tables, `model` for a network)"


def test_launch_prints_one_json_document(started: list[Any], here: Path) -> None:
    shown = json.loads(run("launch", "--json").stdout)
    assert shown["study"] == "quickstart"
    assert shown["front"]
    assert shown["status"]["complete"] == 3
    assert "error" not in shown


@pytest.mark.parametrize("code", [3, 4, 130, 143])
def test_the_exit_code_and_the_last_line_are_those_of_the_ending(
    code: int, started: list[Any], here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("launch")

    def launch(plan: Any, **options: Any) -> Study:
        return Study(Records.open(plan.storage), Ending(ExitCode(code), "how it ended"))

    monkeypatch.setattr("search.launch.run.launch", launch)
    result = run("launch")
    assert result.exit_code == code
    assert result.stderr.splitlines()[-2] == "how it ended"
    assert json.loads(run("launch", "--json").stdout)["error"] == {"message": "how it ended", "exit_code": code}


def test_a_launch_that_ends_before_the_study_exists_still_says_how(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def launch(plan: Any, **options: Any) -> Study:
        raise NotStarted(Ending(ExitCode.INTERRUPTED, "stopped"))

    monkeypatch.setattr("search.launch.run.launch", launch)
    result = run("launch", "--json")
    assert result.exit_code == 130
    assert json.loads(result.stdout)["front"] == []


def test_a_file_a_name_overrides_and_trials(started: list[Any], here: Path) -> None:
    (here / "my.yaml").write_text(STUDY)
    result = run("launch", "my.yaml", "--name", "other", "--set", "recipe.epochs=7", "--trials", "9")
    assert result.exit_code == 0, result.stderr
    spec, _, storage = started[0]
    assert (spec.name, spec.recipe.epochs, spec.planned) == ("other", 7, 9)
    assert storage.location == str(here / "runs" / "other")


def test_a_stored_study_resumes_by_its_name_and_can_be_extended(started: list[Any], here: Path) -> None:
    make_study(here / "runs" / "synthetic", 2)
    assert run("launch", "synthetic", "--trials", "+5").exit_code == 0
    assert run("launch", "synthetic").exit_code == 0
    assert [spec.planned for spec, _, _ in started] == [16 + 5, 16]
    assert run("launch", "synthetic", "--set", "budget.wall_time=30m").exit_code == 0
    assert started[2][0].budget.wall_time == 1800


def test_another_number_of_trials_than_was_asked_for_is_said(started: list[Any], here: Path) -> None:
    make_study(here / "runs" / "synthetic", 5)
    kept = run("launch", "synthetic", "--set", "budget.trials=3")
    assert "budget.trials is 3, but the stored study's 16 trials stay; --trials 3 would lower them" in kept.stderr
    lowered = run("launch", "synthetic", "--trials", "2")
    issued = Records.open(Storage(str(here / "runs" / "synthetic"))).issued()
    assert f"{issued} trials were started already, so that 2 in all start no new one" in lowered.stderr
    raised = run("launch", "synthetic", "--trials", "17")
    assert "trials stay" not in raised.stderr
    assert "started already" not in raised.stderr
    assert [spec.planned for spec, _, _ in started] == [16, 2, 17]


def test_more_trials_are_more_than_a_lowered_study_has(started: list[Any], here: Path) -> None:
    records = make_study(here / "runs" / "synthetic", 5)
    spec = records.spec
    records.replace_spec(spec.model_copy(update={"budget": spec.budget.model_copy(update={"trials": 1})}))
    assert run("launch", "synthetic", "--trials", "+2").exit_code == 0
    assert started[0][0].planned == records.issued() + 2


def test_a_dry_run_counts_the_trials_that_are_enqueued(here: Path) -> None:
    (here / "my.yaml").write_text(STUDY)
    replicates = ("--set", "seeds=[0, 1]", "--set", "enqueue=[{recipe.sparsity: [0.5, 0.6, 0.7]}]")
    assert "9, 6 of them enqueued" in run("launch", "my.yaml", "--trials", "9", *replicates, "--dry-run").stdout
    assert "4, 4 of them enqueued" in run("launch", "my.yaml", *replicates, "--dry-run").stdout


def test_a_grid_has_no_more_trials_than_combinations(started: list[Any], here: Path) -> None:
    (here / "my.yaml").write_text(STUDY)
    result = run("launch", "my.yaml", "--set", "sampler={kind: grid, values: 3}", "--trials", "9")
    assert "the sampler ends after 3 trials, so there are no 9" in result.stderr
    assert started[0][0].planned == 3


def test_a_stored_study_cannot_become_another(started: list[Any], here: Path) -> None:
    make_study(here / "runs" / "synthetic", 2)
    result = run("launch", "synthetic", "--set", "protocol.eps=0.2")
    assert result.exit_code == 2
    assert "protocol.eps" in result.stderr
    assert started == []


def test_the_storage_is_the_option_then_the_cluster_files(started: list[Any], here: Path) -> None:
    (here / "cluster.yaml").write_text("kind: local\nstorage: shared\n")
    assert run("launch", "--cluster", "cluster.yaml").exit_code == 0
    assert run("launch", "--cluster", "cluster.yaml", ROBUSTSEARCH_STORAGE="variable").exit_code == 0
    assert run("launch", "--cluster", "cluster.yaml", "--storage", "option", ROBUSTSEARCH_STORAGE="v").exit_code == 0
    places = [Path(storage.location).parent.name for _, _, storage in started]
    assert places == ["shared", "variable", "option"]


def test_a_relative_data_folder_is_absolute_for_the_workers(started: list[Any], here: Path) -> None:
    folder = here / "images" / "train"
    for label in ("a", "b"):
        (folder / label).mkdir(parents=True)
        for index in range(4):
            _image(folder / label / f"{index}.png", index)
    (here / "my.yaml").write_text(
        STUDY.replace("data: digits", "data: {kind: image_folder, root: images, validation: 2}")
    )
    result = run("launch", "my.yaml")
    assert result.exit_code == 0, result.stderr
    assert Path(started[0][0].data.root) == here / "images"


def _image(path: Path, shade: int) -> None:
    from PIL import Image

    Image.new("L", (8, 8), shade).save(path)


def test_missing_data_is_said_before_anything_starts(started: list[Any], here: Path) -> None:
    (here / "my.yaml").write_text(STUDY.replace("data: digits", "data: {kind: cifar10, root: nowhere}"))
    result = run("launch", "my.yaml")
    assert result.exit_code == 2
    assert str(here / "nowhere") in result.stderr
    assert started == []
    assert not (here / "runs").exists()


def test_a_storage_that_is_a_file_is_said_before_anything_starts(started: list[Any], here: Path) -> None:
    (here / "taken").write_text("")
    result = run("launch", "--storage", "taken")
    assert result.exit_code == 5
    assert str(here / "taken") in result.stderr
    assert started == []


def test_a_dry_run_tells_what_would_run_and_leaves_nothing(started: list[Any], here: Path) -> None:
    result = run("launch", "--dry-run", "--trials", "7")
    assert result.exit_code == 0
    assert "quickstart, is new" in result.stdout
    assert "7, chosen by ehvi" in result.stdout
    shown = json.loads(run("launch", "--dry-run", "--json").stdout)
    assert shown["exists"] is False
    assert shown["storage"] == str(here / "runs" / "quickstart")
    kinds = [phase["kind"] for phase in shown["example"]["phases"]]
    assert kinds[0] == "train"
    assert kinds[-1] == "measure"
    assert set(shown["example"]["params"]) == set(study_file.load("quickstart").space)
    assert started == []
    assert list(here.iterdir()) == []


def test_a_dry_run_downloads_nothing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trainables.data.cifar._fetch_cifar10", lambda *args: pytest.fail("it downloads"))
    monkeypatch.delenv("ROBUSTSEARCH_DATA", raising=False)
    (here / "my.yaml").write_text(STUDY.replace("data: digits", "data: {kind: cifar10, download: true}"))
    assert run("launch", "my.yaml", "--dry-run").exit_code == 0


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("{kind: digits, limit: 1139}", "limit: 1139, but only 1138 images are left after the validation split"),
        ("{kind: mnist, validation: 60000}", "validation: 60000 of 60000 training images leaves none to train on"),
    ],
)
def test_more_images_than_a_known_data_set_has_are_refused_by_validate(data: str, words: str, here: Path) -> None:
    (here / "my.yaml").write_text(STUDY.replace("data: digits", f"data: {data}"))
    result = run("validate", "my.yaml")
    assert result.exit_code == 2
    assert f"my.yaml:2:{data.index(words.split(':')[0]) + 7} data.{words.split(':')[0]}: {words}" in result.stderr


def test_a_dry_run_counts_the_images_of_selected_classes(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROBUSTSEARCH_CACHE", str(here / "cache"))
    (here / "my.yaml").write_text(
        STUDY.replace("data: digits", "data: {kind: digits, select: [1, 7], validation: 50, limit: 1000}")
    )
    result = run("launch", "my.yaml", "--dry-run")
    assert result.exit_code == 2
    assert "data.limit: 1000, but only" in result.stderr


def test_a_dry_run_counts_images_and_says_what_is_not_used(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from trainables.data.cache import fingerprint
    from trainables.data.image_folder import ImageFolder

    monkeypatch.setenv("ROBUSTSEARCH_CACHE", str(here / "cache"))
    write_classes(here / "images" / "train", made(60, (1, 8, 8), seed=0, classes=3))
    (here / "images" / "train" / "class_0" / "left.gif").write_bytes(b"")
    (here / "my.yaml").write_text(STUDY.replace("data: digits", "data: {kind: image_folder, root: images, limit: 55}"))
    for validation, words in (
        ("6", "data.limit: 55, but only 54 images"),
        ("60", "data.validation: 60 of 60 training"),
    ):
        result = run("launch", "my.yaml", "--dry-run", "--set", f"data.validation={validation}")
        assert result.exit_code == 2
        assert words in result.stderr
    for _ in range(2):  # By the names of the files, and from the cache.
        result = run("launch", "my.yaml", "--dry-run", "--json", "--set", "data.validation=5")
        noted = json.loads(result.stdout)["data_notes"]
        assert noted == ["1 file not used, as .gif is not read: train/class_0/left.gif"]
        fingerprint(ImageFolder(root=str(here / "images")))


def test_a_dry_run_of_a_study_that_is_driven_says_by_whom(here: Path) -> None:
    from search.store import driver_lock

    make_study(here / "runs" / "synthetic", 2)
    with driver_lock.acquire(Storage("runs/synthetic")):
        result = run("launch", "synthetic", "--dry-run")
    assert "is driven by process" in result.stdout


def test_plugins_are_found_in_the_current_directory(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(here))])
    (here / "my_own_plugin.py").write_text("VALUE = 1\n")
    (here / "my.yaml").write_text(STUDY + "plugins: [my_own_plugin]\n")
    try:
        result = run("validate", "my.yaml")
        assert result.exit_code == 0, result.stderr
        assert sys.modules["my_own_plugin"].__file__ == str(here / "my_own_plugin.py")
    finally:
        sys.modules.pop("my_own_plugin", None)


BAD: dict[str, tuple[str, str]] = {
    # what is put into the study -> (instead of what, a part of the message)
    "protocol: {eps: 8}": ("protocol: {eps: 0.1}", "8/255"),
    "protocol: {eps: 1.5}": ("protocol: {eps: 0.1}", "1.5"),
    "high: 95": ("high: 0.98", "0.95"),
    "low: 0.99, high: 0.3": ("low: 0.3, high: 0.98", "exceeds high"),
    "low: 0, high: 0.98, log: true": ("low: 0.3, high: 0.98", "above 0"),
    "kind: categorical, choices: []": ("kind: float, low: 0.3, high: 0.98", "choices"),
    "kind: imp\n  rewind: 10": ("kind: three_stage", "rewind epoch 10"),
    "epochs: 10\n  train: {schedule: {kind: cosine, warmup: 11}}": ("epochs: 10", "warm-up of 11"),
    "epochs: 10\n  train: {eps_warmup: 11}": ("epochs: 10", "warm-up of 11"),
    "budget: {trials: 0}": ("budget: {trials: 4}", "trials"),
    "seed: -1\nbudget: {trials: 4}": ("budget: {trials: 4}", "seed"),
    "modle: lenet300": ("model: lenet300", "did you mean 'model'"),
    "epochs: 10\n  epochs: 11": ("epochs: 10", "duplicate key 'epochs'"),
    "recipe:\n\tkind: imp\n  epochs": ("recipe:\n  kind: three_stage\n  epochs", "tab"),
    "data: !!python/object/apply:os.system [ls]": ("data: digits", "tags"),
    "data: &a digits": ("data: digits", "anchors"),
    "data: no": ("data: digits", "unknown data set 'no'"),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("command", ["validate", "launch"])
def test_a_bad_study_is_refused_with_file_and_line(command: str, bad: str, started: list[Any], here: Path) -> None:
    instead, part = BAD[bad]
    text = STUDY.replace(instead, bad)
    assert text != STUDY
    (here / "my.yaml").write_text(text)
    result = run(command, "my.yaml")
    assert result.exit_code == 2
    assert part in result.stderr
    assert "my.yaml:" in result.stderr
    assert "Traceback" not in result.stderr
    assert started == []
    assert not (here / "runs").exists()


FILES: dict[str, tuple[bytes, str | None]] = {
    "byte order mark": (b"\xef\xbb\xbf" + STUDY.encode(), None),
    "CRLF": (STUDY.replace("\n", "\r\n").encode(), None),
    "1e-4 is a number": (STUDY.replace("epochs: 10", "train: {optimiser: {kind: adam, lr: 1e-4}}").encode(), None),
    "UTF-16": (STUDY.encode("utf-16"), "UTF-16"),
    "large": (b"# " + b"x" * 2_000_000, "kB"),
    "nothing": (b"", "mapping"),
    "a list": (b"- 1\n- 2\n", "mapping"),
    "deep": (b"name: " + b"[" * 500, "nested"),
    "Ray launcher": (b"cluster_name: mine\nprovider: {type: aws}\n", "kind: ray-up"),
    "shares of a GPU that do not add up": (b"kind: local\ngpus_per_trial: 1.5\n", "whole number"),
    "unknown kind of cluster": (b"kind: locl\n", "did you mean 'local'"),
}


@pytest.mark.parametrize("what", FILES)
def test_files_of_every_sort(what: str, here: Path) -> None:
    content, part = FILES[what]
    (here / "file.yaml").write_bytes(content)
    result = run("validate", "file.yaml")
    if part is None:
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith("file.yaml: ok, study mine")
    else:
        assert result.exit_code == 2
        assert part in result.stderr
        assert "file.yaml" in result.stderr
        assert result.stdout == ""


def test_validate_looks_at_every_file_and_fails_for_one(here: Path) -> None:
    (here / "good.yaml").write_text(STUDY)
    (here / "bad.yaml").write_text("name: bad\n")
    (here / "cluster.yaml").write_text("kind: local\n")
    result = run("validate", "good.yaml", "bad.yaml", "cluster.yaml", "--json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)["files"]
    assert [(file["kind"], file["valid"]) for file in found] == [("study", True), ("study", False), ("cluster", True)]


@pytest.mark.parametrize("trials", ["0", "-3", "+0", "many", "1.5", ""])
def test_trials_must_be_a_count(trials: str, started: list[Any], here: Path) -> None:
    result = run("launch", f"--trials={trials}")
    assert result.exit_code == 2
    assert "--trials" in result.stderr
    assert started == []


@pytest.mark.slow
def test_init_writes_files_that_are_valid_and_never_overwrites(started: list[Any], here: Path) -> None:
    written = json.loads(run("init", "new", "--json").stdout)["written"]
    assert "new/study.yaml" in written
    kinds = ["gpu", "job", "kubernetes", "local", "ray-up", "slurm"]
    files = ["new/study.yaml", *(f"new/clusters/{kind}.yaml" for kind in kinds)]
    assert {path for path in written if path.endswith(".yaml")} - set(files) == {"new/clusters/ray-cluster.yaml"}
    assert run("validate", *files).exit_code == 0
    text = Path("new/study.yaml").read_text()
    schema = text.splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    assert json.loads((here / "new" / schema).read_text())["properties"]["recipe"]
    assert run("launch", "new/study.yaml").exit_code == 0
    assert started[0][0].name == "new"
    Path("new/study.yaml").write_text("mine")
    Path("new/study.schema.json").unlink()
    result = run("init", "new")
    assert result.exit_code == 2
    assert Path("new/study.yaml").read_text() == "mine"
    assert not Path("new/study.schema.json").exists()
    assert paths.STUDY in result.stderr


@pytest.mark.slow
def test_the_command_after_init_can_be_pasted(here: Path) -> None:
    said = run("init", "two words").stderr
    assert said.splitlines()[-1].endswith("then run `robustsearch launch 'two words/study.yaml'`")


@pytest.mark.parametrize(
    ("code", "arguments", "expected"),
    [
        (0, [], "robustsearch plot mine (or `export` for tables, `model` for a network)"),
        (3, [], "robustsearch front mine"),
        (4, [], "robustsearch status mine"),
        (3, ["--storage", "else where"], "robustsearch front mine --storage '{here}/else where'"),
        (130, [], "robustsearch launch my.yaml"),
        (6, ["--cluster", "inline", "--trials", "3"], "robustsearch launch my.yaml --cluster inline --trials 3"),
        (130, ["--trials", "+3"], "robustsearch launch my.yaml --trials 3"),
        (143, ["--set", "recipe.epochs=7"], "robustsearch launch my.yaml --set recipe.epochs=7"),
    ],
)
def test_the_last_line_says_what_to_type_next(
    code: int, arguments: list[str], expected: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / "my.yaml").write_text(STUDY)

    def launch(plan: Any, **options: Any) -> Study:
        make_study(plan.storage.location, 1, plan.spec, troubled=False)
        return Study(Records.open(plan.storage), Ending(ExitCode(code), "how it ended"))

    monkeypatch.setattr("search.launch.run.launch", launch)
    result = run("launch", "my.yaml", *arguments)
    assert result.exit_code == code
    assert result.stderr.splitlines()[-1] == f"next: {expected.format(here=here)}"


def test_a_storage_of_the_environment_is_not_repeated(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "my.yaml").write_text(STUDY)
    monkeypatch.setenv("ROBUSTSEARCH_STORAGE", str(here / "elsewhere"))

    def launch(plan: Any, **options: Any) -> Study:
        make_study(plan.storage.location, 1, plan.spec, troubled=False)
        return Study(Records.open(plan.storage), Ending(ExitCode.INTERRUPTED, "how it ended"))

    monkeypatch.setattr("search.launch.run.launch", launch)
    assert run("launch", "my.yaml").stderr.splitlines()[-1] == "next: robustsearch launch my.yaml"


def test_json_output_does_not_suggest_the_next_command(started: list[Any], here: Path) -> None:
    result = run("launch", "--json")
    assert "next:" not in result.stderr + result.stdout


def test_validate_says_what_share_of_each_network_is_prunable(here: Path) -> None:
    (here / "known.yaml").write_text(STUDY)
    (here / "unknown.yaml").write_text(STUDY.replace("data: digits", "data: {kind: image_folder, root: here}"))
    assert run("validate", "known.yaml").stdout.splitlines()[1:] == [
        "  lenet300: 50,200 of 50,610 parameters (99.1 %) are prunable"
    ]
    assert "once they are read" in run("validate", "unknown.yaml").stdout.splitlines()[1]
    assert len(run("validate", "--no-networks", "known.yaml").stdout.splitlines()) == 1
    (file,) = json.loads(run("validate", "known.yaml", "--json").stdout)["files"]
    assert file["networks"] == ["lenet300: 50,200 of 50,610 parameters (99.1 %) are prunable"]


def test_validate_refuses_a_network_that_cannot_take_the_images(here: Path) -> None:
    (here / "small.yaml").write_text(STUDY.replace("lenet300", "vgg16"))
    result = run("validate", "small.yaml")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "vgg16" in result.stderr
    assert run("validate", "--no-networks", "small.yaml").exit_code == 0
