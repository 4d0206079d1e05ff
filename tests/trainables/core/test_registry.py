from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Literal

import pytest
from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from trainables.attacks import ATTACKS
from trainables.attacks.pgd import Pgd
from trainables.core.errors import SpecError
from trainables.core.registry import Registry, nearest, opaque_kinds, reading_opaque
from trainables.core.spec import Spec, plain


class _Shape(Spec):
    kind: str


class _Circle(_Shape):
    kind: Literal["circle"] = "circle"
    radius: float = 1.0


class _Square(_Shape):
    kind: Literal["square"] = "square"


SHAPES: Registry[_Shape] = Registry("shape", _Shape, {"circle": _Circle})


class _Picture(Spec):
    shape: Annotated[_Shape, SHAPES] = _Circle()


def test_a_field_takes_a_mapping_a_bare_kind_or_an_instance() -> None:
    for written in ({"kind": "circle"}, "circle", _Circle()):
        assert _Picture.model_validate({"shape": written}).shape == _Circle()


def test_an_unknown_kind_names_the_family_what_is_allowed_and_the_nearest() -> None:
    with pytest.raises(ValidationError, match="unknown shape 'cirlce'; allowed: circle; did you mean 'circle'"):
        _Picture.model_validate({"shape": "cirlce"})


def test_a_missing_kind_is_named() -> None:
    with pytest.raises(ValidationError, match="this shape needs a kind"):
        _Picture.model_validate({"shape": {"radius": 1}})


def test_errors_inside_a_kind_keep_their_path() -> None:
    with pytest.raises(ValidationError) as caught:
        _Picture.model_validate({"shape": {"kind": "circle", "radius": "wide", "colour": 1}})
    assert {error["loc"] for error in caught.value.errors()} == {("shape", "radius"), ("shape", "colour")}


def test_a_kind_registered_later_is_accepted_by_fields_that_exist() -> None:
    registry: Registry[_Shape] = Registry("shape", _Shape, {"circle": _Circle})

    class Late(Spec):
        shape: Annotated[_Shape, registry]

    registry.register("square", _Square)
    assert Late.model_validate({"shape": "square"}).shape == _Square()


def test_a_kind_is_taken_once_and_must_match_its_class() -> None:
    registry: Registry[_Shape] = Registry("shape", _Shape, {"circle": _Circle})
    registry.register("circle", _Circle)
    with pytest.raises(ValueError, match="declares kind 'square'"):
        registry.register("disc", _Square)


class _Drawn(_Shape):
    @abstractmethod
    def draw(self) -> str:
        """Return a picture."""


def test_a_kind_without_its_familys_method_is_refused_before_anything_runs() -> None:
    registry: Registry[_Drawn] = Registry("drawing", _Drawn, {})

    class Blank(_Drawn):
        kind: Literal["blank"] = "blank"

    class Dot(Blank):
        kind: Literal["dot"] = "dot"  # type: ignore[assignment]

        def draw(self) -> str:
            return "."

    with pytest.raises(ValueError, match=r"drawing 'blank': .*Blank does not define `draw`, which every drawing needs"):
        registry.register("blank", Blank)
    registry.register("dot", Dot)
    assert list(registry) == ["dot"]


def test_a_kind_of_another_family_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape 'other': .*Other is not a subclass of .*_Shape"):
        SHAPES.register("other", type("Other", (Spec,), {"__annotations__": {"kind": str}, "kind": "other"}))


def test_the_json_schema_lists_every_kind() -> None:
    schema = _Picture.model_json_schema()
    circle, bare = schema["properties"]["shape"]["anyOf"]
    assert circle["properties"]["kind"]["const"] == "circle"
    assert bare == {"enum": ["circle"]}


def test_nearest_is_silent_where_nothing_is_near() -> None:
    assert nearest("sparsit", ["sparsity", "epochs"]) == "; did you mean 'sparsity'?"
    assert nearest("zzz", ["sparsity"]) == ""


def test_an_unknown_kind_is_opaque_where_records_are_read() -> None:
    fields = {"kind": "mine", "norm": "l2", "strength": [1, {"a": 2}]}
    with pytest.raises(PydanticCustomError, match="unknown attack 'mine'"):
        ATTACKS.parse(fields)
    with opaque_kinds():
        attack = ATTACKS.parse(fields)
        again = ATTACKS.parse(fields)
        with pytest.raises(ValidationError, match="norm"):
            ATTACKS.parse({"kind": "mine", "norm": "l3"})
        assert type(ATTACKS.parse("pgd")) is Pgd
    assert plain(attack) == fields
    assert plain(attack, defaults=False) == fields
    assert attack.norm == "l2"
    assert attack.label is None, "only its class knows it"
    assert again == attack
    with pytest.raises(SpecError, match="attack 'mine' is unknown here: it is defined by a plug-in"):
        attack.perturb(None, None, None, eps=0.1, generator=None)  # type: ignore[arg-type]
    assert not reading_opaque()
