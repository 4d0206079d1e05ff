"""The search space: parameters by the dotted path of the recipe or model field that they set."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, StrictBool, StrictFloat, StrictInt, StrictStr, model_validator

from trainables.core.registry import Registry, nearest
from trainables.core.spec import Eps, Spec, located

Scalar = StrictBool | StrictInt | StrictFloat | StrictStr | None
Params = dict[str, Any]
"""Values by dotted path."""

MAX_WHOLE = 2**53
"""The largest bound of a whole number: a real number beyond it skips some."""
MAX_STEPS = 100_000
"""How many steps a grid of real numbers may have."""
MAX_CHOICES = 1_000
MAX_GRID = 10_000
"""How many combinations of values a grid may have."""

SPARSITY_PATH = "recipe.sparsity"
"""The parameter that says how sparse the last network of a trial is to be."""


def _number(value: Any) -> Any:
    """Read a fraction such as 8/255; everything else is left to the field."""
    return Eps(value) if isinstance(value, str) and "/" in value else value


def _listed(value: Any) -> Any:
    return value if isinstance(value, (list, tuple)) else [value]


Number = Annotated[float, BeforeValidator(_number, json_schema_input_type=Eps)]
Condition = Annotated[
    tuple[Scalar, ...],
    BeforeValidator(_listed, json_schema_input_type=Scalar | list[Scalar]),
    Field(min_length=1),
]


class Parameter(Spec):
    """Base of every parameter."""

    kind: str
    when: dict[str, Condition] = Field(
        default={}, description="Earlier parameters, each with the value or values for which this one is searched."
    )

    @abstractmethod
    def extremes(self) -> dict[str | int, Any]:
        """Return the extreme values, by field or index in the parameter: all choices, or both bounds."""

    @abstractmethod
    def contains(self, value: Any) -> bool:
        """Return whether a sampler could suggest `value`."""

    @abstractmethod
    def values_text(self) -> str:
        """Return a text that names the possible values."""

    @abstractmethod
    def spaced(self, number: int) -> list[Any]:
        """Return the values of a grid: all where they are listed or have steps, else `number` of them, evenly spaced.

        A list beyond `MAX_GRID` values is cut.
        """


_LOG = "Search the logarithm."
_STEP = "Distance of the values of a grid that starts at `low`; null for every value."


class _Range(Parameter):
    """What float and int ranges share."""

    low: float
    high: float
    log: bool = Field(default=False, description=_LOG)

    def extremes(self) -> dict[str | int, Any]:
        return {"low": self.low, "high": self.high} if self.low != self.high else {"low": self.low}

    def values_text(self) -> str:
        step = getattr(self, "step", None)
        return f"{self.low:g} to {self.high:g}" + (f" in steps of {step:g}" if step else "")

    def spaced(self, number: int) -> list[Any]:
        step: float | None = getattr(self, "step", None)
        count = round((self.high - self.low) / step) + 1 if step else number
        if step is None and isinstance(self, IntRange):
            count = min(number, self.high - self.low + 1)
        if self.low == self.high:
            count = 1
        shares = [at / (count - 1) if count > 1 else 0.0 for at in range(min(count, MAX_GRID + 1))]
        return list(dict.fromkeys(self._at(share, step) for share in shares))

    def _at(self, share: float, step: float | None) -> Any:
        """Return the value of a grid at a share of the range, both ends included."""
        low, high = self.low, self.high
        if self.log:
            value = math.exp(math.log(low) + share * (math.log(high) - math.log(low)))
        elif step is not None:
            return self.on_grid(round(share * (high - low) / step), step)
        else:
            value = low + share * (high - low)
        value = min(max(value, low), high)
        return round(value) if isinstance(self, IntRange) else float(f"{value:.12g}")

    def on_grid(self, at: int, step: float) -> Any:
        """Return the value that is `at` steps above `low`, which is one number however it is reached.

        Where 0.1 + 2 * 0.1 and 0.3 were two values, their trials would share nothing.
        """
        value = min(self.low + at * step, self.high)
        return value if isinstance(self, IntRange) else float(f"{value:.15g}")

    def _checked(self, step: float | None) -> None:
        if self.low > self.high:
            raise located(f"{self.low:g} exceeds high, {self.high:g}", "low", value=self.low)
        if self.log and self.low <= 0:
            raise located(f"a logarithmic range cannot start at {self.low:g}; low must be above 0", "low")
        if self.log and step is not None:
            raise located("a logarithmic range has no step; leave one of log and step out", "step", value=step)
        if not math.isfinite(self.high - self.low):
            raise located(f"the range from {self.low:g} to {self.high:g} is wider than any number", "high")
        if step is None:
            return
        if (self.high - self.low) / step > (MAX_STEPS if isinstance(step, float) else MAX_WHOLE):
            raise located(f"steps of {step:g} are more than {MAX_STEPS}; leave `step` out, or enlarge it", "step")
        steps = (Decimal(str(float(self.high))) - Decimal(str(float(self.low)))) / Decimal(str(step))
        if steps != steps.to_integral_value():
            top = float(Decimal(str(float(self.low))) + math.floor(steps) * Decimal(str(step)))
            raise located(f"{self.high:g} is not a whole number of steps above low; the last step is {top:g}", "high")


class FloatRange(_Range):
    """A real number."""

    kind: Literal["float"] = "float"
    low: Number = Field(description="Smallest value.")
    high: Number = Field(description="Largest value.")
    log: bool = Field(default=False, description=_LOG)
    step: float | None = Field(default=None, gt=0, description=_STEP)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        self._checked(self.step)
        return self

    def contains(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not self.low <= value <= self.high:
            return False
        steps = (value - self.low) / self.step if self.step else 0.0
        return abs(steps - round(steps)) < 1e-8


class IntRange(_Range):
    """A whole number."""

    kind: Literal["int"] = "int"
    low: int = Field(ge=-MAX_WHOLE, le=MAX_WHOLE, description="Smallest value.")
    high: int = Field(ge=-MAX_WHOLE, le=MAX_WHOLE, description="Largest value.")
    log: bool = Field(default=False, description=_LOG)
    step: int | None = Field(default=None, gt=0, description=_STEP)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        self._checked(self.step)
        return self

    def contains(self, value: Any) -> bool:
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            return False
        return (value - self.low) % (self.step or 1) == 0


class Categorical(Parameter):
    """One of several values."""

    kind: Literal["categorical"] = "categorical"
    choices: tuple[Scalar, ...] = Field(
        min_length=1, max_length=MAX_CHOICES, description="Texts, numbers, truth values or null, all different."
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for index, choice in enumerate(self.choices):
            if choice in self.choices[:index]:
                raise located(f"{choice!r} equals an earlier choice", "choices", index, value=choice)
        return self

    def extremes(self) -> dict[str | int, Any]:
        return dict(enumerate(self.choices))

    def values_text(self) -> str:
        return f"one of {', '.join(map(repr, self.choices))}"

    def contains(self, value: Any) -> bool:
        return any(value == choice and type(value) is type(choice) for choice in self.choices)

    def spaced(self, number: int) -> list[Any]:
        return list(self.choices)


PARAMETERS: Registry[Parameter] = Registry(
    "parameter", Parameter, {"float": FloatRange, "int": IntRange, "categorical": Categorical}
)

Space = dict[str, Annotated[Parameter, PARAMETERS]]


def is_active(parameter: Parameter, params: Mapping[str, Any]) -> bool:
    """Return whether a parameter is active, given the values of the active parameters before it."""
    when = parameter.when
    return not when or all(path in params and params[path] in wanted for path, wanted in when.items())


def identity(params: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what distinguishes trials, hashable: 1, 1.0 and true are three values."""
    return tuple([(path, type(value), value) for path, value in params.items()])  # Of a list: samplers ask thousands.


def standing_for(params: Mapping[str, Any], recipe: Mapping[str, Any]) -> Params:
    """Return the parameters of the trial that a measurement stands for: those of its own, but for these of `recipe`."""
    fields = {f"recipe.{name}": value for name, value in recipe.items()}
    return {path: fields.get(path, value) for path, value in params.items()}


def canonical_value(parameter: Parameter, value: Any) -> Any:
    """Return the value of a parameter that an equal one stands for: the choice 0.0 for 0, 0.3 for 0.1 + 2 * 0.1."""
    if isinstance(parameter, FloatRange) and type(value) in (int, float):
        if parameter.step is not None and parameter.contains(value):
            return parameter.on_grid(round((value - parameter.low) / parameter.step), parameter.step)
        return float(value)
    if isinstance(parameter, Categorical) and type(value) in (int, float):
        return next((choice for choice in parameter.choices if choice == value and type(choice) is not bool), value)
    return value


def value_at(share: float, parameter: Parameter) -> Any:
    """Return the value of a parameter at `share` of its range; below 0 it is the first, from 1 on the last."""
    share = min(max(share, 0.0), 1.0)
    if isinstance(parameter, Categorical):
        return parameter.choices[min(int(share * len(parameter.choices)), len(parameter.choices) - 1)]
    assert isinstance(parameter, (FloatRange, IntRange))
    low, high = parameter.low, parameter.high
    if share == 1:
        return high
    whole = isinstance(parameter, IntRange)
    step = parameter.step or (1 if whole else None)
    if parameter.log:
        # A whole number owns half a unit on either side, as it does in Optuna's own samplers.
        margin = 0.5 if whole else 0.0
        value = math.exp(math.log(low - margin) + share * (math.log(high + margin) - math.log(low - margin)))
    elif step is not None:
        return parameter.on_grid(int(share * (round((high - low) / step) + 1)), step)
    else:
        value = low + share * (high - low)
    value = min(max(value, low), high)
    return round(value) if whole else value


def numbers(choices: Sequence[Any]) -> list[float] | None:
    """Return choices as numbers, fractions such as 8/255 included; None where one is none."""
    found = []
    for choice in choices:
        if isinstance(choice, bool) or not isinstance(choice, (int, float, str)):
            return None
        try:
            found.append(float(Eps(choice)) if isinstance(choice, str) else float(choice))
        except ValueError:
            return None
    return found


def searched(space: Mapping[str, Parameter], values: Mapping[str, Any]) -> Params:
    """Return of values for all parameters those that are active together, in the order of the space."""
    kept: Params = {}
    for path, parameter in space.items():
        if is_active(parameter, kept):
            kept[path] = values[path]
    return kept


def active(space: Mapping[str, Parameter], params: Mapping[str, Any]) -> Params | None:
    """Return the values of the active parameters in the order of the space.

    None where one is missing or lies outside of its range.
    """
    kept: Params = {}
    for path, parameter in space.items():
        if not is_active(parameter, kept):
            continue
        if path not in params or not parameter.contains(params[path]):
            return None
        kept[path] = params[path]
    return kept


def combinations(space: Mapping[str, Parameter], values: Mapping[str, Sequence[Any]]) -> Iterator[Params]:
    """Yield every combination of values of the parameters that are active together; the last varies fastest.

    Parameters without values are left out.
    """

    def extend(rest: Sequence[str], kept: Params) -> Iterator[Params]:
        for at, path in enumerate(rest):
            if path in values and is_active(space[path], kept):
                for value in values[path]:
                    yield from extend(rest[at + 1 :], {**kept, path: value})
                return
        yield kept

    yield from extend(list(space), {})


def check_conditions(space: Mapping[str, Parameter]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield where and why a condition cannot be met: it may name only earlier parameters and values they can take."""
    before: dict[str, Parameter] = {}
    for path, parameter in space.items():
        for other, wanted in parameter.when.items():
            at = (path, "when", other)
            if other == path:
                yield at, "a parameter cannot depend on itself"
            elif other not in space:
                yield at, f"'{other}' is not a parameter of this space{nearest(other, space)}"
            elif other not in before:
                yield at, f"'{other}' must stand before '{path}' in the space"
            elif isinstance(before[other], FloatRange):
                yield (
                    at,
                    f"'{other}' is a real number, which hardly ever has one value; name an int or a categorical",
                )
            else:
                impossible = [value for value in wanted if not before[other].contains(value)]
                if impossible:
                    yield at, f"'{other}' is never {', '.join(map(repr, impossible))}"
        before[path] = parameter
