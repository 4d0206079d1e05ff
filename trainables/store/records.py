"""The records of a trial: its issue, its measured points and its outcome, as plain data.

Written by the driver and the worker, read by everything else. Unknown fields are ignored on reading, so that an older
version can open a newer study's records where the schema number allows it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from trainables.store import paths
from trainables.store.checksum import sealed

SCHEMA = 1

Status = Literal["ok", "warn", "invalid"]
State = Literal["complete", "stopped", "failed"]
LARGEST = 2**63 - 1
"""The largest integer of a table's column."""
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def point_id(trial: int, measure: int) -> str:
    """Return the id of a point, such as `t17.2`. The letter keeps readers of CSV from taking it for a number."""
    return f"t{trial}.{measure}"


class Record(BaseModel):
    """Base of all records: frozen, and tolerant of fields that a later version added."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    def json_bytes(self, place: str = "") -> bytes:
        """Return the record as indented JSON, with a checksum for the file at `place`; by default its own."""
        return sealed(self.model_dump_json(indent=1), place or self.place())

    def place(self) -> str:
        """Return where the record belongs in a study's directory, as far as it says so itself."""
        return ""


class Point(Record):
    """One measured network. Fractions are in [0, 1]; times are ISO 8601 in UTC."""

    measure: Count = Field(description="number of the measurement within its trial, from 0")
    key: str
    stage: str = Field(description="key of the measured state")
    robust_accuracy: Fraction
    clean_accuracy: Fraction
    robust_correct: Count
    clean_correct: Count
    examples: Count = Field(gt=0)
    sparsity: float = Field(ge=0, le=1)
    nonzero: Count
    prunable: Count = Field(gt=0)
    parameters: Count | None = Field(default=None, description="all parameters of the network, prunable or not")
    macs_dense: Count | None = Field(default=None, description="multiply-accumulates of the dense network")
    macs_effective: Count | None = Field(default=None, description="multiply-accumulates with weights that are not 0")
    attack: str
    norm: str
    eps: float
    eps_text: str = Field(description="the radius as the study writes it")
    split: str = "validation"
    tier: Literal["screened", "search", "confirmed"] = "search"
    status: Status = "ok"
    flags: tuple[str, ...] = ()
    verdicts: str = Field(default="", description="hex of the robust-correct bits, packed big-endian, in example order")
    outcomes: dict[str, str] = Field(
        default={},
        description="the same for the clean accuracy and metrics that are accuracies, pass after pass, by name",
    )
    epochs_trained: Count = Field(description="epochs that the trial had trained itself")
    epochs_shared: Count = Field(description="epochs that other trials had trained for it")
    seconds: float = Field(ge=0, description="duration of the work for this point alone")
    device: str
    weights_sha256: str
    code_version: str
    started: str
    finished: str
    stands_for: dict[str, Any] = Field(
        default={}, description="recipe fields with which this measurement would have been the recipe's last"
    )
    metrics: dict[str, float | None] = Field(default={}, description="by name; null is not finite")
    epoch: Count | None = Field(
        default=None, description="epoch of the training before it of which the network is; null: what it left"
    )
    weights_outside: Count | None = Field(
        default=None, description="weights outside prunable layers, which no sparsity counts"
    )

    def place(self) -> str:
        return paths.point(self.key)


class PartialMeasurement(Record):
    """A cheap measurement during a training, for early stopping alone and never a point.

    The accuracies are of few examples and a short attack.
    """

    resource: Count = Field(description="epochs that the trial had trained itself")
    share: float = Field(gt=0, lt=1, description="part of the training that was done")
    measures: Count = Field(description="points that the trial had measured before")
    robust_accuracy: Fraction
    clean_accuracy: Fraction
    examples: Count = Field(gt=0)
    attack: str
    sparsity: float = Field(ge=0, le=1)
    nonzero: Count
    prunable: Count = Field(gt=0)
    macs_dense: Count | None = None
    macs_effective: Count | None = None


class Failure(Record):
    """Why a trial failed."""

    kind: str = Field(description="oom, timeout, diverged, data, storage, spec, crashed or bug")
    message: str
    traceback: str = ""


class Outcome(Record):
    """How a trial ended; written once."""

    schema_number: int = Field(default=SCHEMA, alias="schema", serialization_alias="schema")
    number: Count
    state: State
    points: tuple[Point, ...] = ()
    rungs: tuple[PartialMeasurement, ...] = Field(default=(), description="partial measurements, in order")
    failure: Failure | None = None
    started: str
    finished: str
    seconds: float = Field(ge=0)
    host: str = ""
    params: dict[str, Any] = Field(default={}, description="the trial's, so that a lost trial.json can be rebuilt")
    versions: dict[str, str] = {}

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, populate_by_name=True, serialize_by_alias=True
    )

    def place(self) -> str:
        return paths.outcome(self.number)


class TrialRecord(Record):
    """The issue of a trial; written before its worker starts."""

    schema_number: int = Field(default=SCHEMA, alias="schema", serialization_alias="schema")
    number: Count
    study: str
    params: dict[str, Any] = Field(description="sampled values by dotted path")
    spec: dict[str, Any] = Field(description="the TrialSpec as plain data")
    keys: tuple[str, ...] = Field(description="keys of the phases, in order")
    seed: Annotated[int, Field(ge=-LARGEST, le=LARGEST)]
    sampler: dict[str, Any] = Field(default={}, description="what the sampler needs to replay the trial")
    issued: str
    configuration: Count | None = Field(
        default=None, description="number of the configuration that the trial is a replicate of; null: it has none"
    )

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, populate_by_name=True, serialize_by_alias=True
    )

    def place(self) -> str:
        return paths.trial_record(self.number)
