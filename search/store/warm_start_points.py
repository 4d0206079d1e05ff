"""The points of other studies that a study starts from: copied once, when it is created."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from trainables.core.errors import StorageError
from trainables.core.spec import first_error
from trainables.store import paths
from trainables.store.checksum import checksum_fault, sealed
from trainables.store.records import Point, point_id
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
"""The fields of a point from which objectives and constraints are computed."""


class WarmStartPoint(BaseModel):
    """A point of another study: the `params` of this study that give it, and what was `measured`."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    study: str
    point: str
    params: dict[str, Any]
    measured: dict[str, Any]


class WarmStartPoints(BaseModel):
    """The file: all points, in the order in which they are observed, and the keys of the stages that led to them."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True, serialize_by_alias=True)

    schema_number: Literal[1] = Field(default=1, alias="schema", serialization_alias="schema")
    points: tuple[WarmStartPoint, ...] = Field(default=(), alias="lessons", serialization_alias="lessons")
    stages: tuple[str, ...] = ()


NOTHING = WarmStartPoints()


def copied(study: str, trial: int, params: dict[str, Any], point: Point) -> WarmStartPoint:
    """Copy a point of another study."""
    measured = {name: getattr(point, name) for name in _MEASURED}
    return WarmStartPoint(study=study, point=point_id(trial, point.measure), params=params, measured=measured)


def write(storage: Storage, points: WarmStartPoints) -> None:
    """Write the points of a study that is about to be created."""
    storage.write(paths.WARM_START, sealed(points.model_dump_json(indent=1), paths.WARM_START))


def read(storage: Storage) -> WarmStartPoints:
    """Return the points that a study started from.

    Raises:
        StorageError: they are missing or damaged; without them the search would not continue as it began.
    """
    where = f"{storage.location}/{paths.WARM_START}"
    try:
        content = storage.read(paths.WARM_START)
        points = WarmStartPoints.model_validate_json(content)
    except FileNotFoundError:
        raise StorageError(f"{where} is missing; without it this study cannot resume as it began") from None
    except ValidationError as error:
        raise StorageError(f"{where} is damaged: {first_error(error)}") from None
    if fault := checksum_fault(content, paths.WARM_START):
        raise StorageError(f"{where} is damaged: {fault}")
    return points
