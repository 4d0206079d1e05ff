"""What `robustsearch confirm` measured of one network with one attack, on the test split."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from trainables.core.spec import first_error
from trainables.store import paths
from trainables.store.checksum import checksum_fault
from trainables.store.consistency import times_fault
from trainables.store.records import LARGEST, SCHEMA, Count, Fraction, Record
from trainables.store.storage import Storage

Role = Literal["clean", "attack", "corruption", "noise_off"]
"""What a result counts as: an attack counts towards the worst, at its radius; the others stand for themselves."""

ALL = "all"
"""The name of the whole test split."""


def examples_name(limit: int | None) -> str:
    """Return the name of the first `limit` examples of the test split, or of all: results of two never mix."""
    return ALL if limit is None else f"first-{limit}"


class Confirmation(Record):
    """One attack on one network. Bits are hex, packed big-endian, in the order of the test split.

    An attack is run on the examples that none before it has broken: `attacked` are those, and `correct` those of them
    that are still classified correctly.
    """

    schema_number: int = Field(default=SCHEMA, alias="schema", serialization_alias="schema")
    point: str = Field(description="id of the search's point, such as t17.2")
    seed: Annotated[int, Field(ge=-LARGEST, le=LARGEST)] = Field(description="training seed of the network")
    weights_sha256: str = Field(pattern="^[0-9a-f]{64}$")
    stage: str = Field(description="key of the measured state")
    attack: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$", description="name of the attack, unique within the network")
    planned: tuple[str, ...] = Field(default=(), description="names of all attacks that the confirmation asks for")
    role: Role
    label: str = Field(description="name for tables, with the implementation's version")
    spec: dict[str, Any] = Field(default={}, description="the attack as plain data")
    norm: str
    eps: float = Field(ge=0)
    eps_text: str
    split: Literal["test"] = "test"
    split_sha256: str = Field(description="hash of the examples and labels that were measured")
    limit: Count | None = Field(default=None, description="the first examples of the split that were asked for")
    examples: Count = Field(gt=0)
    attacked: str = Field(description="bits of the examples that the attack was run on")
    correct: str = Field(description="bits of those of them that are still classified correctly")
    attacked_count: Count
    correct_count: Count
    distances: tuple[float | None, ...] | None = Field(
        default=None, description="by example: the smallest perturbation found in the norm, null where none was"
    )
    draws: Count = Field(default=0, description="passes whose majority is the verdict of a network with noise")
    sparsity: Fraction
    nonzero: Count
    prunable: Count = Field(gt=0)
    macs_dense: Count | None = None
    macs_effective: Count | None = None
    seconds: float = Field(ge=0)
    device: str
    host: str = ""
    versions: dict[str, str] = {}
    code_version: str
    started: str
    finished: str

    model_config = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, populate_by_name=True, serialize_by_alias=True
    )

    def place(self) -> str:
        return paths.confirmation(self.weights_sha256, examples_name(self.limit), self.attack)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if reason := _contradiction(self):
            raise ValueError(reason)
        return self


class Begun(Record):
    """What is measured of an attack whose result is not there yet: its first examples, in their order.

    `of` tells what it is the beginning of; another measurement does not go on from it.
    """

    of: str
    examples: Count = Field(gt=0)
    correct: str = Field(description="bits of the examples that are still classified correctly")
    distances: tuple[float | None, ...] | None = None
    seconds: float = Field(ge=0)


def read_begun(storage: Storage, path: str, of: str) -> Begun | None:
    """Return the beginning of a result; None where there is none, or it is damaged or that of another measurement."""
    try:
        content = storage.read(path)
        begun = Begun.model_validate_json(content)
    except (FileNotFoundError, ValidationError):
        return None
    return begun if begun.of == of and not checksum_fault(content, path, required=True) else None


def bits(text: str) -> int:
    """Return packed bits as a number, of which set operations are cheap."""
    return int.from_bytes(bytes.fromhex(text))


def packed(examples: int, chosen: int) -> str:
    """Return `bits` as hex again."""
    return chosen.to_bytes(-(-examples // 8)).hex()


def write(storage: Storage, confirmation: Confirmation) -> bool:
    """Write a result once; return False, and change nothing, where there is one already."""
    return storage.claim(confirmation.place(), confirmation.json_bytes())


def read(storage: Storage, path: str) -> Confirmation | str | None:
    """Return a result, what is wrong with its file, or None where there is none."""
    try:
        content = storage.read(path)
    except FileNotFoundError:
        return None
    try:
        result = Confirmation.model_validate_json(content)
    except ValidationError as error:
        return first_error(error)
    if result.schema_number != SCHEMA:
        return f"schema {str(result.schema_number)[:20]} is unknown to this version, which reads {SCHEMA}"
    if reason := checksum_fault(content, path, required=True):
        return reason
    return result if result.place() == path else f"it belongs to {result.place()}"


def _contradiction(found: Confirmation) -> str | None:
    size = -(-found.examples // 8)
    for name in ("attacked", "correct"):
        text = getattr(found, name)
        try:
            content = bytes.fromhex(text)
        except ValueError:
            return f"{name} is not hexadecimal text"
        if len(content) != size or int.from_bytes(content) & ((1 << (8 * size - found.examples)) - 1):
            return f"{name} has bits of other examples than the {found.examples} measured"
        if bits(text).bit_count() != getattr(found, f"{name}_count"):
            return f"{bits(text).bit_count()} bits of {name} are set, but {name}_count says otherwise"
    if bits(found.correct) & ~bits(found.attacked):
        return "an example is correct that was not attacked"
    if found.distances is not None and len(found.distances) != found.examples:
        return f"{len(found.distances)} distances of {found.examples} examples"
    if found.limit is not None and found.examples > found.limit:
        return f"{found.examples} examples, but {found.limit} were asked for"
    if found.nonzero > found.prunable:
        return "more weights are nonzero than there are"
    return times_fault(found.started, found.finished)
