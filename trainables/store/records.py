"""What a trial leaves behind: measured points and how it ended, as plain data.

Written by the worker, read by everything else. Unknown fields are kept out on reading, so that
an older version can open a newer study's records where the schema number allows it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = 1

Status = Literal["ok", "warn", "invalid"]
State = Literal["complete", "stopped", "failed"]
Fraction = Field(ge=0, le=1, allow_inf_nan=False)
LARGEST = 2**63 - 1
"""The largest whole number that a table can hold."""
Count = Annotated[int, Field(ge=0, le=LARGEST)]


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    def json_bytes(self) -> bytes:
        """Return the record as indented JSON."""
        return (self.model_dump_json(indent=1) + "\n").encode()


class Point(_Record):
    """One measured network. Fractions are in [0, 1]; times are ISO 8601 in UTC; `seconds` counts this point's work."""

    measure: Count
    key: str
    stage: str
    robust_accuracy: float = Fraction
    clean_accuracy: float = Fraction
    robust_correct: Count
    clean_correct: Count
    examples: Count = Field(gt=0)
    sparsity: float = Field(ge=0, le=1)
    nonzero: Count
    prunable: Count = Field(gt=0)
    macs_dense: Count | None = None
    macs_effective: Count | None = None
    attack: str
    norm: str
    eps: float
    eps_text: str
    split: str = "validation"
    tier: Literal["screened", "search", "confirmed"] = "search"
    status: Status = "ok"
    flags: tuple[str, ...] = ()
    verdicts: str = Field(default="", description="hex of the robust-correct bits, packed big-endian, in example order")
    epochs_trained: Count
    epochs_shared: Count
    seconds: float = Field(ge=0)
    device: str
    weights_sha256: str
    code_version: str
    started: str
    finished: str
    stands_for: dict[str, Any] = {}
    metrics: dict[str, float | None] = {}


class PartialMeasurement(_Record):
    """What a training looked like on its way: a cheap measurement, for early stopping alone and never a point.

    `resource` counts the epochs that the trial had trained itself, `share` is the part of the training that was
    done, `measures` how many points the trial had measured before. The accuracies are of few examples and a short
    attack.
    """

    resource: Count
    share: float = Field(gt=0, lt=1)
    measures: Count
    robust_accuracy: float = Fraction
    clean_accuracy: float = Fraction
    examples: Count = Field(gt=0)
    attack: str
    sparsity: float = Field(ge=0, le=1)
    nonzero: Count
    prunable: Count = Field(gt=0)
    macs_dense: Count | None = None
    macs_effective: Count | None = None


class Failure(_Record):
    """Why a trial failed: `kind` is oom, diverged, data, storage, spec, crashed or bug."""

    kind: str
    message: str
    traceback: str = ""


class Outcome(_Record):
    """A trial's end; written once. `params` are the trial's once more, so that a lost `trial.json` can be rebuilt."""

    schema_number: int = Field(default=SCHEMA, alias="schema", serialization_alias="schema")
    number: Count
    state: State
    points: tuple[Point, ...] = ()
    rungs: tuple[PartialMeasurement, ...] = ()
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
    number: Count
    study: str
    params: dict[str, Any]
    spec: dict[str, Any]
    keys: tuple[str, ...]
    seed: Annotated[int, Field(ge=-LARGEST, le=LARGEST)]
    sampler: dict[str, Any] = {}
    issued: str

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, populate_by_name=True, serialize_by_alias=True
    )
