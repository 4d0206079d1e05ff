"""Registries: explicit tables of the kinds that a spec's field may have."""

from __future__ import annotations

import difflib
import inspect
import types
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Generic, TypeVar

from pydantic import GetCoreSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, PydanticUndefined, core_schema

from trainables.core.errors import SpecError
from trainables.core.spec import Spec

S = TypeVar("S", bound=Spec)
_LONGEST = 100
"""Characters of a name that is compared with others: it takes quadratic time."""

_registries: weakref.WeakSet[Registry[Any]] = weakref.WeakSet()
_opaque: ContextVar[bool] = ContextVar("opaque", default=False)


@contextmanager
def opaque_kinds() -> Iterator[None]:
    """Read a kind that no registry knows as a spec that keeps all its fields and can do nothing.

    Records of a study whose plug-ins are not imported are read so.
    """
    token = _opaque.set(True)
    try:
        yield
    finally:
        _opaque.reset(token)


def reading_opaque() -> bool:
    """Return whether unknown kinds are read as opaque ones."""
    return _opaque.get()


@contextmanager
def restored_on_error() -> Iterator[None]:
    """Take back what was registered within this block where it fails."""
    before = {registry: dict(registry._table) for registry in _registries}
    try:
        yield
    except BaseException:
        for registry in _registries:
            registry._table = before.get(registry, dict(registry._own))
        raise


def nearest(name: str, known: Any) -> str:
    """Return `; did you mean 'x'?` for the known name nearest to `name`, or an empty string."""
    if len(str(name)) > _LONGEST:
        return ""
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""


def _is_computed(name: str, member: object) -> bool:
    return isinstance(member, property) and not name.startswith(("_", "model_"))


def _other_parameters(base: Any, method: Any) -> str:
    """Say which parameters a method should take, where it cannot be called as that of its base."""
    if method is base or not (callable(method) and callable(base)):
        return ""
    wanted = inspect.signature(base)
    named = [name for name, parameter in wanted.parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    try:
        inspect.signature(method).bind(*[None] * (len(wanted.parameters) - len(named)), **dict.fromkeys(named))
    except TypeError as error:
        names = [str(parameter.replace(annotation=parameter.empty)) for parameter in wanted.parameters.values()]
        if named:
            names.insert(len(names) - len(named), "*")
        return f"cannot be called as ({', '.join(names)}): {error}"
    except ValueError:  # It is written in C, without a signature.
        pass
    return ""


class Registry(Mapping[str, type[S]], Generic[S]):
    """A table from `kind` to the spec class that implements it.

    Use `Annotated[Base, registry]` as a field's type: the field then accepts a mapping with a
    `kind`, a bare kind name, or an instance. Plug-in modules add entries with `register`.
    """

    def __init__(self, family: str, base: type[Any], table: dict[str, type[S]]) -> None:
        """Start with a table of kinds; `base` is the class that all kinds derive from, abstract where they differ."""
        self.family, self.base = family, base
        self._table: dict[str, type[S]] = {}
        self._stand_in: type[S] | None = None
        self._described: set[str] = set()
        self.include(table)
        _registries.add(self)

    def include(self, table: dict[str, type[S]]) -> None:
        """Add kinds that are the framework's own.

        Raises:
            ValueError: as `register`.
        """
        for kind, implementation in table.items():
            self.register(kind, implementation)
        self._own = dict(self._table)

    def register(self, kind: str, implementation: type[S]) -> None:
        """Add one kind.

        Raises:
            ValueError: the class does not derive from the family's base, lacks a method that is abstract there or
                defines it with other parameters, has another `kind`, or the kind is taken by another class.
        """
        if not (isinstance(implementation, type) and issubclass(implementation, self.base)):
            given = getattr(implementation, "__qualname__", f"an object of {type(implementation).__qualname__}")
            base = f"{self.base.__module__}.{self.base.__qualname__}"
            raise ValueError(f"{self.family} {kind!r}: {given} is not a subclass of {base}")
        if missing := sorted(implementation.__abstractmethods__):
            raise ValueError(
                f"{self.family} {kind!r}: {implementation.__qualname__} does not define "
                f"{', '.join(f'`{name}`' for name in missing)}, which every {self.family} needs"
            )
        for name in sorted(self.base.__abstractmethods__):
            if problem := _other_parameters(getattr(self.base, name), getattr(implementation, name)):
                raise ValueError(f"{self.family} {kind!r}: {implementation.__qualname__}.{name} {problem}")
        declared = implementation.model_fields["kind"].default
        if declared is PydanticUndefined:
            line = f'kind: Literal["{kind}"] = "{kind}"'
            raise ValueError(f"{self.family} {kind!r}: {implementation.__qualname__} lacks its kind: add `{line}`")
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
                "kind": name if len(name := str(kind)) <= _LONGEST else f"{name[:_LONGEST]}...",
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
        if isinstance(kind, str) and kind not in self._table and _opaque.get():
            self._stand_in = self._stand_in or self._opaque_kind()
            return self._stand_in.model_validate(dict(value), extra="allow")
        if not isinstance(kind, str) or kind not in self._table:
            raise self.unknown(kind)
        return self._table[kind].model_validate(dict(value))

    def _opaque_kind(self) -> type[S]:
        """Return the spec of kinds that are unknown: the family's base, and whatever other fields there are.

        The methods that a kind defines raise, and what it computes from its fields, such as a label, is None.
        """

        def absent(spec: Any, *arguments: Any, **options: Any) -> Any:
            raise SpecError(f"{self.family} {spec.kind!r} is unknown here: it is defined by a plug-in")

        own: dict[str, Any] = dict.fromkeys(self.base.__abstractmethods__, absent)
        computed = [name for name, member in inspect.getmembers_static(self.base) if _is_computed(name, member)]
        own |= dict.fromkeys(computed, property(lambda spec: None))
        own["__module__"] = __name__
        return types.new_class(f"Unknown{self.base.__name__}", (self.base,), exec_body=lambda body: body.update(own))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.parse, metadata={"pydantic_js_functions": [self._json_schema]}
        )

    def _json_schema(self, schema: Any, handler: Any) -> JsonSchemaValue:
        kinds = [kind for kind in self._table if kind not in self._described]
        choices = []
        for kind in kinds:
            # A kind with fields of its own family is not described once more within itself.
            self._described.add(kind)
            try:
                choices.append(handler(self._table[kind].__pydantic_core_schema__))
            finally:
                self._described.remove(kind)
        return {"anyOf": [*choices, {"enum": kinds}]}
