"""`study.yaml` in a study's directory: the resolved study, and what it was made with."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from search.files import yaml
from search.study import file as study_file
from search.study.spec import StudySpec
from trainables import __version__
from trainables.core.errors import SpecError, StorageError
from trainables.core.spec import first_error
from trainables.store import paths
from trainables.store.records import SCHEMA
from trainables.store.storage import Storage

MADE_WITH = "made_with"
DIGEST = "digest"


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


class Changed(BaseModel):
    """A change that was allowed on purpose: when, after how many trials, and its effects."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    at: str = Field(default_factory=utc_now)
    trials: int
    effects: tuple[str, ...]


class Fingerprint(BaseModel):
    """What a study was made with: the schema of its records, the data's hash, image shape and classes, our version.

    `data_notes` are lines about files and images that are not used. Studies of before have neither them nor names.

    It stands in `study.yaml` under `made_with`, beside the resolved study.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_number: int = Field(default=SCHEMA, alias="schema", serialization_alias="schema")
    data_hash: str
    shape: tuple[int, int, int]
    classes: int
    class_names: tuple[str, ...] = ()
    data_notes: tuple[str, ...] = ()
    code_version: str = __version__
    created: str = Field(default_factory=utc_now)
    digests: bool = Field(default=True, description="whether this file has a digest and all records a checksum")
    changed: tuple[Changed, ...] = ()


def study_digest(storage: Storage) -> str | None:
    """Return the digest of the bytes of a study's `study.yaml`, None where there is none; nothing is parsed."""
    try:
        return sha256(storage.read(paths.STUDY))
    except (FileNotFoundError, NotADirectoryError):
        return None


def sha256(content: bytes) -> str:
    """Return the digest of bytes."""
    return hashlib.sha256(content).hexdigest()


def study_bytes(spec: StudySpec, fingerprint: Fingerprint) -> bytes:
    """Return the content of the file."""
    heading = (
        "# Written by robustsearch, every default filled in. The records of this study refer to it: do not edit.\n"
    )
    absent = {name for name in ("class_names", "data_notes", "changed") if not getattr(fingerprint, name)}
    made_with = fingerprint.model_dump(by_alias=True, mode="json", exclude=absent)
    content = {MADE_WITH: made_with, **spec.resolved()}
    content[MADE_WITH][DIGEST] = _digest(content)
    return (heading + yaml.dump_yaml(content)).encode()


def _digest(content: dict[str, Any]) -> str:
    """Hash the content of a study file, however it is formatted: a truncated one may still be valid YAML."""
    made_with = {name: value for name, value in content[MADE_WITH].items() if name != DIGEST}
    canonical = json.dumps({**content, MADE_WITH: made_with}, sort_keys=True)
    return sha256(canonical.encode())


class StudyDamaged(StorageError):
    """The file is not as it was written."""

    def __init__(self, where: str, reason: str, named: str) -> None:
        detail = reason.removeprefix(f"{where}:").strip()
        super().__init__(
            f"{where}: truncated or edited since it was written ({detail}); `robustsearch repair {named}` restores it"
        )


def parse_study(content: bytes, where: str, named: str, *, plugins: bool = False) -> tuple[StudySpec, Fingerprint]:
    """Read the content of the file, which calls itself `where` in errors; commands have the study as `named`.

    Plug-ins are imported with `plugins`; without it nothing is executed, and their kinds are opaque.

    Raises:
        StudyDamaged: it is not as it was written.
        SpecError: a plug-in cannot be imported, or another version wrote what this one does not allow.
        StorageError: another version of robustsearch wrote it.
    """
    try:
        document = yaml.parse(yaml.decode(content, where), where)
    except SpecError as error:
        raise StudyDamaged(where, str(error), named) from None
    made_with = document.data.get(MADE_WITH) if isinstance(document.data, dict) else None
    if not isinstance(made_with, dict):
        raise StudyDamaged(where, f"`{MADE_WITH}` is missing", named)
    if len(document.data) == 1:
        raise StudyDamaged(where, "the study is missing", named)
    digest = _digest(document.data)
    del document.data[MADE_WITH]
    if made_with.get("schema") != SCHEMA:
        raise StorageError(
            f"{where}: records of schema {str(made_with.get('schema'))[:20]}; this version reads {SCHEMA}: "
            "use the version of robustsearch that wrote them"
        )
    try:
        fingerprint = Fingerprint.model_validate({"digests": False, **made_with})
    except ValidationError as error:
        raise StudyDamaged(where, f"{MADE_WITH}.{first_error(error)}", named) from None
    if made_with.get(DIGEST, None if fingerprint.digests else digest) != digest:
        raise StudyDamaged(where, f"its {DIGEST} is another", named)
    spec = study_file.from_record(document, plugins=plugins)
    return spec, fingerprint
