"""What a trial leaves behind: measured points and how it ended, as plain data.

Written by the worker, read by everything else. Unknown fields are kept out on reading, so that
an older version can open a newer study's records where the schema number allows it.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 1

Status = Literal["ok", "warn", "invalid"]
State = Literal["complete", "stopped", "failed"]
Fraction = Field(ge=0, le=1, allow_inf_nan=False)


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    def json_bytes(self) -> bytes:
        """Return the record as indented JSON."""
        return (self.model_dump_json(indent=1) + "\n").encode()


class Point(_Record):
    """One measured network. Fractions are in [0, 1]; times are ISO 8601 in UTC; `seconds` counts this point's work."""

    measure: int = Field(ge=0)
    key: str
    stage: str
    robust_accuracy: float = Fraction
    clean_accuracy: float = Fraction
    robust_correct: int = Field(ge=0)
    clean_correct: int = Field(ge=0)
    examples: int = Field(gt=0)
    sparsity: float = Field(ge=0, le=1)
    nonzero: int = Field(ge=0)
    prunable: int = Field(gt=0)
    macs_dense: int | None = None
    macs_effective: int | None = None
    attack: str
    norm: str
    eps: float
    eps_text: str
    split: str = "validation"
    tier: Literal["screened", "search", "confirmed"] = "search"
    status: Status = "ok"
    flags: tuple[str, ...] = ()
    verdicts: str = Field(default="", description="hex of the robust-correct bits, packed big-endian, in example order")
    epochs_trained: int = Field(ge=0)
    epochs_shared: int = Field(ge=0)
    seconds: float = Field(ge=0)
    device: str
    weights_sha256: str
    code_version: str
    started: str
    finished: str
    stands_for: dict[str, Any] = {}
    metrics: dict[str, float | None] = {}


class Rung(_Record):
    """What a training looked like on its way: a cheap measurement, for early stopping alone and never a point.

    `resource` counts the epochs that the trial had trained itself, `share` is the part of the training that was
    done, `measures` how many points the trial had measured before. The accuracies are of few examples and a short
    attack.
    """

    resource: int = Field(ge=0)
    share: float = Field(gt=0, lt=1)
    measures: int = Field(ge=0)
    robust_accuracy: float = Fraction
    clean_accuracy: float = Fraction
    examples: int = Field(gt=0)
    attack: str
    sparsity: float = Field(ge=0, le=1)
    nonzero: int = Field(ge=0)
    prunable: int = Field(gt=0)
    macs_dense: int | None = None
    macs_effective: int | None = None


class Failure(_Record):
    """Why a trial failed: `kind` is oom, diverged, data, storage, spec, crashed or bug."""

    kind: str
    message: str
    traceback: str = ""


class Outcome(_Record):
    """A trial's end; written once. `params` are the trial's once more, so that a lost `trial.json` can be rebuilt."""

    schema_number: int = Field(default=SCHEMA, alias="schema", serialization_alias="schema")
    number: int = Field(ge=0)
    state: State
    points: tuple[Point, ...] = ()
    rungs: tuple[Rung, ...] = ()
    failure: Failure | None = None
    started: str
    finished: str
    seconds: float = Field(ge=0)
    host: str = ""
    params: dict[str, Any] = {}
    versions: dict[str, str] = {}

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, populate_by_name=True, serialize_by_alias=True
    )


class TrialRecord(_Record):
    """A trial's issue; written before its worker starts.

    `params` are the sampled values by dotted path; `spec` the whole trial as plain data; `keys` the
    phase keys in order; `sampler` what the sampler needs to be replayed.
    """

    schema_number: int = Field(default=SCHEMA, alias="schema", serialization_alias="schema")
    number: int = Field(ge=0)
    study: str
    params: dict[str, Any]
    spec: dict[str, Any]
    keys: tuple[str, ...]
    seed: int
    sampler: dict[str, Any] = {}
    issued: str

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, populate_by_name=True, serialize_by_alias=True
    )
