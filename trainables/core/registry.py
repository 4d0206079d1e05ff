"""Registries: explicit tables of the kinds that a spec's field may have."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Generic, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from trainables.core.spec import Spec

S = TypeVar("S", bound=Spec)


def nearest(name: str, known: Any) -> str:
    """Return `; did you mean 'x'?` for the known name nearest to `name`, or an empty string."""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


class Registry(Mapping[str, type[S]], Generic[S]):
    """A table from `kind` to the spec class that implements it.

    Use `Annotated[Base, registry]` as a field's type: the field then accepts a mapping with a
    `kind`, a bare kind name, or an instance. Plug-in modules add entries with `register`.
    """

    def __init__(self, family: str, base: type[Any], table: dict[str, type[S]]) -> None:
        """Start with a table of kinds; `base` is the class that all kinds derive from, abstract where they differ."""
        self.family, self.base = family, base
        self._table: dict[str, type[S]] = {}
        for kind, implementation in table.items():
            self.register(kind, implementation)

    def register(self, kind: str, implementation: type[S]) -> None:
        """Add one kind.

        Raises:
            ValueError: the class does not derive from the family's base, lacks a method that is abstract there, has
                another `kind`, or the kind is taken by another class.
        """
        if not issubclass(implementation, self.base):
            base = f"{self.base.__module__}.{self.base.__qualname__}"
            raise ValueError(f"{self.family} {kind!r}: {implementation.__qualname__} is no subclass of {base}")
        if missing := sorted(implementation.__abstractmethods__):
            raise ValueError(
                f"{self.family} {kind!r}: {implementation.__qualname__} does not define "
                f"{', '.join(f'`{name}`' for name in missing)}, which every {self.family} needs"
            )
        declared = implementation.model_fields["kind"].default
        if declared != kind:
            raise ValueError(f"{implementation.__name__} declares kind {declared!r}, not {kind!r}")
        if self._table.setdefault(kind, implementation) is not implementation:
            raise ValueError(f"{self.family} {kind!r} is registered already, by {self._table[kind].__module__}")

    def __getitem__(self, kind: str) -> type[S]:
        return self._table[kind]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    # A registry is one table, not its content: it grows, and types carry it as metadata, which is hashed.
    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def unknown(self, kind: object) -> PydanticCustomError:
        """Return the error of an unknown kind, which names the known ones and the nearest."""
        return PydanticCustomError(
            "kind_unknown",
            "unknown {family} '{kind}'; allowed: {kinds}{hint}",
            {
                "kind": str(kind),
                "family": self.family,
                "kinds": ", ".join(self._table),
                "hint": nearest(str(kind), self._table),
            },
        )

    def parse(self, value: Any) -> S:
        """Build the spec that `value` describes: a mapping with `kind`, a bare kind, or an instance.

        Raises:
            pydantic.ValidationError: with the path of each wrong field.
            PydanticCustomError: the kind is missing or unknown.
        """
        known: tuple[type[S], ...] = tuple(self._table.values())
        if isinstance(value, known):
            return value
        if isinstance(value, str):
            value = {"kind": value}
        if not isinstance(value, Mapping) or "kind" not in value:
            raise PydanticCustomError(
                "kind_missing",
                "this {family} needs a kind: one of {kinds}",
                {"family": self.family, "kinds": ", ".join(self._table)},
            )
        kind = value["kind"]
        if not isinstance(kind, str) or kind not in self._table:
            raise self.unknown(kind)
        return self._table[kind].model_validate(dict(value))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.parse, metadata={"pydantic_js_functions": [self._json_schema]}
        )

    def _json_schema(self, schema: Any, handler: Any) -> JsonSchemaValue:
        choices = [handler(implementation.__pydantic_core_schema__) for implementation in self._table.values()]
        return {"anyOf": [*choices, {"enum": list(self._table)}]}
