"""What a study was taught by others before its first trial, as it is kept: copied once, and never looked up again."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trainables.core.errors import StorageError
from trainables.store import paths
from trainables.store.records import Point
from trainables.store.storage import Storage

_MEASURED = (
    "status",
    "robust_accuracy",
    "clean_accuracy",
    "sparsity",
    "nonzero",
    "prunable",
    "macs_dense",
    "macs_effective",
)
"""What of a point tells its worth."""


class WarmStartPoint(BaseModel):
    """A point of another study: `params` of this study make it, `measured` is what `search.objectives.values` reads."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    study: str
    point: str
    params: dict[str, Any]
    measured: dict[str, Any]


class WarmStartPoints(BaseModel):
    """The file: all lessons, in the order in which they are taught, and the keys of the stages that led to them."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, serialize_by_alias=True)

    schema_number: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    lessons: tuple[WarmStartPoint, ...] = ()
    stages: tuple[str, ...] = ()


NOTHING = WarmStartPoints()


def lesson(study: str, trial: int, params: dict[str, Any], point: Point) -> WarmStartPoint:
    """Copy a point."""
    measured = {name: getattr(point, name) for name in _MEASURED}
    return WarmStartPoint(study=study, point=f"{trial}.{point.measure}", params=params, measured=measured)


def write(storage: Storage, lessons: WarmStartPoints) -> None:
    """Keep the lessons of a study that is about to be made."""
    storage.write(paths.WARM_START, (lessons.model_dump_json(indent=1) + "\n").encode())


def read(storage: Storage) -> WarmStartPoints:
    """Return a study's lessons.

    Raises:
        StorageError: they are not there, or damaged: the study would go on another way than it went.
    """
    where = f"{storage.location}/{paths.WARM_START}"
    try:
        return WarmStartPoints.model_validate_json(storage.read(paths.WARM_START))
    except FileNotFoundError:
        raise StorageError(f"{where} is not there, without which this study cannot go on as it began") from None
    except ValidationError as error:
        raise StorageError(f"{where} is damaged: {error.errors()[0]['msg']}") from None
