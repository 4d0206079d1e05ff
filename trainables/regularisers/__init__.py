"""Regularisers: penalties on the prunable weights, added to the training loss."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator

from trainables.core.registry import Registry
from trainables.core.spec import Spec
from trainables.regularisers.base import Regulariser
from trainables.regularisers.norms import L1, L2, GroupLasso, Slimming

REGULARISERS: Registry[Regulariser] = Registry(
    "regulariser", Regulariser, {"l1": L1, "l2": L2, "group_lasso": GroupLasso, "slimming": Slimming}
)


def _named(value: Any) -> Any:
    """Read `{l1: 1e-5}` and `{l1: {weight: 1e-5}}` as regularisers of the kind that the key names."""
    if not isinstance(value, dict):
        return value
    named: dict[str, Any] = {}
    for kind, fields in value.items():
        if isinstance(fields, Spec):
            named[kind] = fields
        else:
            named[kind] = {"kind": kind, **(fields if isinstance(fields, dict) else {"weight": fields})}
    return named


_Regulariser = Annotated[Regulariser, REGULARISERS]
Regularisers = Annotated[
    dict[str, _Regulariser],
    BeforeValidator(_named, json_schema_input_type=dict[str, float | _Regulariser]),
]
