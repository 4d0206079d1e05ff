"""A study before its trials: its budget and precision, what a stored one allows, and its records."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from search.files.diagnostics import shown
from search.launch import warm_start
from search.store import allowed_changes
from search.store.records import Records
from search.store.study_yaml import Fingerprint
from search.study.changes import changes
from search.study.spec import StudySpec
from trainables.core.errors import SpecError
from trainables.store.storage import Storage


def resized(spec: StudySpec, trials: str | int | None, records: Records | None, notes: list[str]) -> StudySpec:
    """Apply `--trials`: a number, or `+N` more than the stored study is to have or, if those are more, has.

    Trials that have run stay. `notes` receives where the study gets another number than what was asked for.

    Raises:
        SpecError: not a positive number.
    """
    stored, issued = (records.spec.planned, records.issued()) if records else (0, 0)
    if trials is None:
        if spec.planned >= stored:
            return spec
        if spec.budget.trials is not None:
            notes.append(
                f"budget.trials is {spec.budget.trials}, but the stored study's {stored} trials stay; "
                f"--trials {spec.planned} would lower them"
            )
        return _with_trials(spec, stored)
    given = trials if isinstance(trials, str) else repr(trials)
    text = given.removeprefix("+")
    if not re.fullmatch(r"0*[1-9][0-9]{0,11}", text):
        wanted = "a positive number such as 20, or +20 for 20 more"
        raise SpecError(f"--trials {shown(trials).strip(chr(39))}: expected {wanted}")
    total = int(text) + (max(stored, issued) if given.startswith("+") else 0)
    spec = _with_trials(spec, total)
    if spec.planned < total:
        notes.append(f"the sampler ends after {spec.planned} trials, so there are no {total}")
    elif total < issued:
        notes.append(f"{issued} trials were started already, so that {total} in all start no new one")
    return spec


def _with_trials(spec: StudySpec, trials: int) -> StudySpec:
    return spec.model_copy(update={"budget": spec.budget.model_copy(update={"trials": trials})})


def with_precision(spec: StudySpec, precision: str) -> StudySpec:
    """Write down what `auto` stands for, so that keys do not depend on where a trial runs."""
    train = spec.recipe.train
    if train.precision != "auto":
        return spec
    recipe = spec.recipe.model_copy(update={"train": train.model_copy(update={"precision": precision})})
    return spec.model_copy(update={"recipe": recipe})


def with_sizes(spec: StudySpec, **meant: bool | None) -> StudySpec:
    """Write down what null stands for as `shrink` or `sparse`, on which keys depend."""
    return spec.model_copy(update={name: value for name, value in meant.items() if getattr(spec, name) is None})


def resumed(spec: StudySpec, records: Records, *, allow_change: bool = False) -> tuple[StudySpec, tuple[str, ...]]:
    """Return a study as it resumes the stored one, and what its changes mean, a line each.

    Its budget may always grow. With `allow_change`, so may its space, and a few things may change.

    Raises:
        SpecError: the stored study searches or measures something else.
    """
    stored = records.spec
    spec = with_sizes(with_precision(spec, stored.recipe.train.precision), shrink=stored.shrink, sparse=stored.sparse)
    differences = changes(records.spec, spec)
    if not differences:
        return spec, ()
    if allow_change:
        return spec, tuple(allowed_changes.effects(records, spec))
    allowed = " or --allow-change" if allowed_changes.may_be_allowed(records, spec) else ""
    listed = "\n".join(f"  {line}" for line in differences)
    raise SpecError(
        f"{records.storage.location} holds a study that differs from this one:\n{listed}\n"
        f"its points and new ones could not be compared; launch under another --name{allowed}"
    )


def create_or_update(
    spec: StudySpec,
    storage: Storage,
    records: Records | None,
    found: Mapping[str, Any],
    say: Callable[[str], None],
    effects: tuple[str, ...] = (),
) -> Records:
    """Create the study, with the points of the studies it starts from, or write what changed in the stored one.

    `found` is what the probe found of the data.

    Raises:
        SpecError: the data are not those that the study was made with.
    """
    if records is None:
        described = {"class_names": found.get("class_names", ()), "data_notes": found.get("notes", ())}
        sizes = {"shape": found["shape"], "classes": found["classes"]}
        fingerprint = Fingerprint(data_hash=found["fingerprint"], **sizes, **described)
        transferred = warm_start.gather(spec, storage.parent(), fingerprint.data_hash)
        if spec.warm_start:
            say(warm_start.summary(transferred, spec))
        return Records.create(storage, spec, fingerprint, transferred)
    if records.fingerprint.data_hash != found["fingerprint"]:
        raise SpecError(
            f"the data differ from those {storage.location} was made with (fingerprint {found['fingerprint'][:12]}, "
            f"not {records.fingerprint.data_hash[:12]}); its points and new ones could not be compared"
        )
    if spec != records.spec:
        records.replace_spec(spec, effects)
    return records
