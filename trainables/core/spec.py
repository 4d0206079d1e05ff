"""The base of every spec: frozen, strict, and with one canonical form.

Everything a user writes and everything that is hashed is a `Spec`. Validation, the JSON schema
for editors and the canonical JSON all come from the same pydantic model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, ClassVar, cast

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import InitErrorDetails, PydanticCustomError, core_schema

_DECIMAL = r"[0-9]+(?:\.[0-9]+)?"
_FRACTION = re.compile(rf"\s*({_DECIMAL})\s*/\s*({_DECIMAL})\s*")
_NUMBER = re.compile(r"\s*[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?\s*")
_SCALARS = ("bool", "int", "float", "str")
_NO_SCHEMA = ("default", "expected", "metadata", "config", "cls", "function")

MAX_SEED = 2**64 - 1
"""The largest seed that a generator of torch takes."""


def _strict(schema: Any, own: type[Spec]) -> Any:
    """Return the schema of a spec, or a part of it, with strict scalars; the specs inside have been through this."""
    if isinstance(schema, (list, tuple)):
        return type(schema)(_strict(item, own) for item in schema)
    if not isinstance(schema, dict):
        return schema
    kind = schema.get("type")
    if kind == "model" and schema["cls"] is not own and issubclass(schema["cls"], Spec):
        return schema
    parts = {name: part if name in _NO_SCHEMA else _strict(part, own) for name, part in schema.items()}
    if kind in _SCALARS:
        return {**parts, "strict": True}
    if kind == "literal" and any(type(value) is int for value in schema["expected"]):
        return core_schema.no_info_before_validator_function(_no_twin, cast(core_schema.CoreSchema, parts))
    return parts


def _no_twin(value: Any) -> Any:
    """Refuse true and 1.0 where the number 1 is asked for, which Python calls equal."""
    if isinstance(value, (bool, float)):
        raise PydanticCustomError("int_type", "Input should be a valid integer")
    return value


class Spec(BaseModel):
    """A frozen description; unknown keys, NaN and infinities are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    written_bare: ClassVar[bool] = False
    """Whether a kind of this family that has no fields is written as its name, as it was before kinds had fields."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Take scalars only as they are: no text for a number, no `yes` for true, no 1.0 and no true for 1.

        pydantic's own strict mode would also refuse lists for tuples. A whole number stands for a real one.
        """
        return cast(core_schema.CoreSchema, _strict(handler(source), cls))


class Eps(float):
    """An attack radius in pixel units of [0, 1] inputs that remembers how it was written.

    Accepts a number or a fraction such as `8/255`; equal numbers are equal however written.
    """

    text: str

    def __new__(cls, value: float | str) -> Eps:
        if isinstance(value, Eps):
            return value
        text = value if isinstance(value, str) else repr(float(value)).removesuffix(".0")
        fraction = _FRACTION.fullmatch(text)
        if fraction and float(fraction[2]) > 0:
            number = float(fraction[1]) / float(fraction[2])
        elif _NUMBER.fullmatch(text):
            number = float(text)
        else:
            raise ValueError(f"{value!r} is neither a number nor a fraction such as 8/255")
        if not 0 <= number < float("inf"):
            raise ValueError(f"{value!r} is not a radius; it must be a finite number of at least 0")
        eps = super().__new__(cls, number)
        eps.text = text.strip()
        return eps

    def __reduce__(self) -> tuple[type[Eps], tuple[str]]:
        return Eps, (self.text,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        written = core_schema.union_schema(
            [
                core_schema.is_instance_schema(cls),
                core_schema.float_schema(strict=True),
                core_schema.str_schema(strict=True),
            ],
            custom_error_type="eps",
            custom_error_message="a radius is a number or a fraction such as 8/255",
        )
        return core_schema.no_info_after_validator_function(cls, written)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> JsonSchemaValue:
        return {
            "anyOf": [
                {"type": "number", "minimum": 0},
                {"type": "string", "pattern": r"^[0-9]+(\.[0-9]+)?\s*/\s*[0-9]+(\.[0-9]+)?$"},
            ]
        }


def located(message: str, *loc: str | int, value: Any = None) -> ValidationError:
    """Return the error that a model validator raises about one of its fields, at `loc`."""
    kind = PydanticCustomError("inconsistent", "{message}", {"message": message})
    return ValidationError.from_exception_data("", [InitErrorDetails(type=kind, loc=loc, input=value)])


def first_error(error: ValidationError) -> str:
    """Return the first problem that a validation has found, with the path of its field."""
    first = error.errors(include_url=False, include_input=False)[0]
    place, said = ".".join(map(str, first["loc"])), str(first["msg"]).removeprefix("Value error, ")
    return f"{place}: {said}" if place else said


@contextmanager
def within(*loc: str | int) -> Iterator[None]:
    """Say of the errors that `located` returned in this block that they are about a field below `loc`."""
    try:
        yield
    except ValidationError as error:
        problem = error.errors()[0]
        raise located(problem["msg"], *loc, *problem["loc"], value=problem["input"]) from None


def check_radius(eps: float, norm: str) -> None:
    """Refuse an l_inf radius beyond the pixel range, the classic forgotten `/255`.

    Raises:
        pydantic.ValidationError: `norm` is `linf` and `eps` exceeds 1.
    """
    if norm == "linf" and eps > 1:
        text = eps.text if isinstance(eps, Eps) else repr(eps)
        message = f"an l_inf eps of {text} exceeds the pixel range [0, 1]; did you mean {text}/255?"
        raise located(message, "eps", value=eps)


def _default(field: FieldInfo) -> Any:
    # pydantic's own way copies the default deeply, which costs more than all the rest.
    return field.default if field.default_factory is None else field.get_default(call_default_factory=True)


def plain(value: Any, *, defaults: bool = True, hashed: bool = False) -> Any:
    """Turn a spec into plain JSON-able data, keys in field order.

    With `defaults=False` a field that equals its default is omitted (`kind` never is), so that a
    new field with a no-op default changes no key. With `hashed=True` radii become numbers and
    fields marked `json_schema_extra={"hashed": False}` are left out.
    """
    if isinstance(value, Spec):
        if value.written_bare and not value.model_extra and list(type(value).model_fields) == ["kind"]:
            return value.kind  # type: ignore[attr-defined]
        fields: dict[str, Any] = {}
        for name, field in type(value).model_fields.items():
            extra = field.json_schema_extra
            if hashed and isinstance(extra, dict) and extra.get("hashed") is False:
                continue
            item = getattr(value, name)
            if name != "kind" and not defaults and item == _default(field):
                continue
            fields[name] = plain(item, defaults=defaults, hashed=hashed)
        return fields | plain(value.model_extra or {}, defaults=defaults, hashed=hashed)
    if isinstance(value, Eps):
        return float(value) if hashed or not value.text.count("/") else value.text
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, dict):
        return {str(key): plain(item, defaults=defaults, hashed=hashed) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item, defaults=defaults, hashed=hashed) for item in value]
    if isinstance(value, float):
        return value + 0.0  # -0.0 equals 0.0, and must not have another key.
    return value
