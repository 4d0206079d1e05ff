"""Parameters as numbers: where in a parameter's range a value lies, and back."""

from __future__ import annotations

import math
from typing import Any

from search.space import Categorical, FloatRange, IntRange, Parameter


def place(share: float, parameter: Parameter) -> Any:
    """Return the value that lies `share` in [0, 1) of the way through a parameter."""
    if isinstance(parameter, Categorical):
        return parameter.choices[int(share * len(parameter.choices))]
    assert isinstance(parameter, (FloatRange, IntRange))
    low, high = parameter.low, parameter.high
    whole = isinstance(parameter, IntRange)
    step = parameter.step or (1 if whole else None)
    if parameter.log:
        # A whole number owns half a unit on either side, as it does in Optuna's own samplers.
        margin = 0.5 if whole else 0.0
        value = math.exp(math.log(low - margin) + share * (math.log(high + margin) - math.log(low - margin)))
    elif step is not None:
        value = low + int(share * (round((high - low) / step) + 1)) * step
    else:
        value = low + share * (high - low)
    value = min(max(value, low), high)
    return round(value) if whole else value
