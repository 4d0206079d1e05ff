"""Saved networks: weights in safetensors, everything else in a JSON card."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor, nn

from trainables import models
from trainables.core.atomic import temporary_name, write_new
from trainables.core.errors import SpecError, StorageError
from trainables.core.plugins import PluginError, current_folder
from trainables.core.plugins import load as load_plugins
from trainables.core.registry import nearest
from trainables.core.versions import versions
from trainables.export import coupled, shrunk
from trainables.export.shrunk import Spread
from trainables.models.graph.logits import same_logits
from trainables.models.noise import Noise
from trainables.store.state import State, Tensors, fill, named_tensors, prunable

WEIGHTS = "model.safetensors"
CARD = "model.json"
PROGRAM = "model.pt2"
ONNX = "model.onnx"
EXAMPLES = "examples.csv"
CONFIRMED = "confirmed.csv"
README = "README.md"
BESIDE = frozenset((PROGRAM, ONNX, EXAMPLES, CONFIRMED, README))
"""What else may be in the directory of a network."""
SCHEMA = 1

_SHRINKING: dict[str, ModuleType] = {"own": shrunk, "torch-pruning": coupled}
"""What makes networks smaller, by its name in a card's `shrunk`."""
_ALIVE = "alive/"
"""Prefix of a weight's name in a smaller network: a boolean tensor of the outputs that it has."""


class _Card(BaseModel):
    """The fields of a card that loading needs; it may have more."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    schema_number: int = Field(alias="schema", ge=1)
    model: dict[str, Any]
    shape: tuple[int, int, int]
    classes: int = Field(gt=0)
    plugins: tuple[str, ...] = ()
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


def save(
    directory: str | Path,
    state: State,
    card: dict[str, Any],
    *,
    overwrite: bool = False,
    shrink: bool = False,
    files: Mapping[str, bytes] = MappingProxyType({}),
) -> Path:
    """Write a network as a directory with `model.safetensors` and `model.json`, complete or not at all.

    `files` are further files, of the names in `BESIDE`; `files` in the card has the sha256 of all but the card.

    Weights are dense, pruned ones 0, under the module's names. `card` is plain data: `model` (the spec), `shape` and
    `classes` are required, `plugins` for a model of a plug-in, and anything else is saved too (protocol, accuracies).
    Counted sparsity, versions and hashes are added, and `noise`: the mean strength of the noise on the weights with
    which the network was trained, and without which it is saved; null if there was none.

    With `shrink` the network is saved without its dead filters (`trainables.export.shrunk`): smaller dense layers with
    the same logits up to rounding. `shrunk` in the card lists their sizes; all other fields are about the full network.
    The model is built for that, so its plug-ins are imported.

    Raises:
        SpecError: a required field of the card is missing, it is not JSON, no filter is dead, or the target exists and
            is not empty (`overwrite` replaces a saved network, nothing else).
        StorageError: the disk refuses.
    """
    target = Path(directory).absolute()
    tensors = {**state.params, **state.buffers}
    smaller: dict[str, Any] = {}
    if shrink:
        tensors, smaller["shrunk"] = _smaller(state, card, target)
    weights = safetensors.save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
    full = {
        "schema": SCHEMA,
        **card,
        **smaller,
        "sparsity": 1 - state.nonzero() / state.size(),
        "nonzero": state.nonzero(),
        "prunable": state.size(),
        "parameters": state.parameters(),
        "noise": _noise(state),
        "weights_sha256": state.weights_sha256(),
        "sha256": hashlib.sha256(weights).hexdigest(),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in {WEIGHTS: weights, **files}.items()},
        "versions": versions(),
    }
    try:
        _Card.model_validate(full)
        text = json.dumps(full, indent=1, allow_nan=False) + "\n"
    except (ValidationError, ValueError, TypeError) as error:
        raise SpecError(f"invalid card of a network: {error}") from error
    check_target(target, overwrite)
    assert files.keys() <= BESIDE, "what may stand beside a network is named in BESIDE"
    try:
        write_directory(target, {WEIGHTS: weights, **files, CARD: text.encode()})
    except OSError as error:
        raise StorageError(f"cannot write the network to {target}: {error}") from error
    return target


def load(directory: str | Path, *, allow_plugins: bool = False) -> nn.Module:
    """Read a saved network: on the CPU, in eval mode, with the logits it had, bit for bit in one memory format.

    A network that was saved smaller is loaded smaller. Nothing in the directory is executed. The model of a plug-in
    needs its modules, and importing executes them: they are imported only with `allow_plugins`.

    Raises:
        StorageError: files are missing, damaged, or of another kind.
        SpecError: the card's model is unknown, or the weights do not fit it.
    """
    folder = Path(directory)
    card = read_card(folder)
    weights = _read(folder, WEIGHTS)
    if hashlib.sha256(weights).hexdigest() != card["sha256"]:
        raise StorageError(f"{folder / WEIGHTS} is not the file that {CARD} describes: its sha256 differs")
    try:
        tensors = safetensors.load(weights)
    except SafetensorError as error:
        raise StorageError(f"{folder / WEIGHTS} is not a safetensors file ({error}); pickles are not read") from error
    model = _build(card, folder, allow_plugins)
    alive = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_ALIVE)}
    if alive:
        by = _SHRINKING.get(card.get("shrunk", {}).get("by", "own"))
        if by is None:
            raise SpecError(f"{folder / CARD} was made smaller by something that this version does not know")
        model = by.without(model, {name.removeprefix(_ALIVE): t for name, t in alive.items()}, tuple(card["shape"]))
    try:
        fill(model, tensors)
    except ValueError as error:
        raise SpecError(f"the weights in {folder} do not fit the model its card describes: {error}") from error
    return model.eval()


def read_card(directory: str | Path) -> dict[str, Any]:
    """Read and check the card of a saved network.

    Raises:
        StorageError: it is missing, damaged, or of a later version.
    """
    folder = Path(directory)
    try:
        card = json.loads(_read(folder, CARD))
        checked = _Card.model_validate(card)
    except ValueError as error:
        raise StorageError(f"{folder / CARD} is not a valid card of a network: {error}") from error
    if checked.schema_number > SCHEMA:
        raise StorageError(f"{folder / CARD} has schema {checked.schema_number}; this version reads up to {SCHEMA}")
    return dict(card)


def network(directory: str | Path, state: State, card: dict[str, Any], *, shrink: bool = False) -> nn.Module:
    """Return the network that `save` writes to a directory: on the CPU, in eval mode; plug-ins of its model are run.

    Raises:
        SpecError: the card's model cannot be built, the state is that of another, or no filter is dead.
    """
    if shrink:
        return _without_dead(state, card, Path(directory))[0]
    try:
        built = state.to("cpu").into(_build(card, Path(directory), allow_plugins=True))
    except ValueError as error:
        raise SpecError(f"the weights do not fit the model of the card: {error}") from error
    return built.eval().requires_grad_(False)


def _smaller(state: State, card: dict[str, Any], target: Path) -> tuple[Tensors, dict[str, Any]]:
    """Return the tensors of a network without its dead filters, with its living outputs, and the card's `shrunk`."""
    small, alive, by = _without_dead(state, card, target)
    named_by = {"by": by} if by != "own" else {}
    sizes = _sizes(small)
    counts = {"parameters": sum(p.numel() for p in small.parameters()), "prunable": sum(map(math.prod, sizes.values()))}
    named = {_ALIVE + name: outputs for name, outputs in alive.items()}
    derived = {f"{name}.index" for name, module in small.named_modules() if isinstance(module, Spread)}
    own = {name: t for name, t in named_tensors(small).items() if name not in derived}
    return {**own, **named}, {**named_by, **counts, "layers": sizes}


def _sizes(network: nn.Module) -> dict[str, list[int]]:
    """Return the shapes of the weights that pruning may make smaller."""
    return {name: list(network.get_parameter(name).shape) for name in prunable(network)}


def _without_dead(state: State, card: dict[str, Any], target: Path) -> tuple[nn.Module, dict[str, Tensor], str]:
    """Return a network without its dead filters, which outputs of each layer live, and what found them.

    That is the package torch-pruning where it is installed and makes the network smaller than our own way does.
    """
    try:
        checked = _Card.model_validate({"schema": SCHEMA, "sha256": "0" * 64, **card})
    except ValidationError as error:
        raise SpecError(f"invalid card of a network: {error}") from error
    whole = state.to("cpu").into(_build(card, target, allow_plugins=True)).eval()
    found: list[tuple[nn.Module, dict[str, Tensor], str]] = []
    problems: list[SpecError] = []
    for by, way in _SHRINKING.items():
        try:
            alive = way.living(whole, checked.shape)
            small = way.without(whole, alive, checked.shape)
            _check_equal(whole, small, checked.shape)
            found.append((small, alive, by))
        except SpecError as error:
            problems.append(error)
    if not found:
        raise problems[0]
    small, alive, by = min(found, key=lambda made: sum(p.numel() for p in made[0].parameters()))
    if _sizes(small) == _sizes(whole):
        raise SpecError(
            "no filter of this network is dead, so it cannot be made smaller: single weights were pruned, or none; "
            "pruning with structure filter, as the recipe `filter` does, prunes whole ones"
        )
    return small, alive, by


def _check_equal(whole: nn.Module, small: nn.Module, shape: tuple[int, int, int]) -> None:
    """Refuse a smaller network with other logits than the whole one's.

    Raises:
        SpecError: its structure is not understood.
    """
    images = torch.rand((4, *shape), generator=torch.Generator().manual_seed(0))
    problem = "the smaller network has other logits, so its structure is not understood; save it without shrinking"
    with torch.no_grad():
        wanted = whole(images)
        try:
            found = small(images)
        except RuntimeError as error:  # Layers no longer fit together.
            raise SpecError(problem) from error
    if not same_logits(found, wanted):
        raise SpecError(problem)


def _noise(state: State) -> float | None:
    noise = Noise.of(state)
    return None if noise is None else noise.strength()


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        pickles = [p.name for p in folder.glob("*") if p.suffix in {".pt", ".pth", ".pkl", ".bin", ".ckpt"}]
        hint = f" ({pickles[0]} is a pickle; pickles are not read)" if pickles else ""
        raise StorageError(f"{folder} has no saved network: {name} cannot be read{hint}: {error.strerror}") from error


def _build(card: dict[str, Any], folder: Path, allow_plugins: bool) -> nn.Module:
    kind = card["model"].get("kind")
    plugins = card.get("plugins", ())
    if kind not in models.MODELS and plugins:
        if not allow_plugins:
            raise SpecError(
                f"{folder} has a model '{kind}' of the plug-ins {', '.join(plugins)}; importing them runs their "
                "code, so allow it with allow_plugins"
            )
        try:
            load_plugins(plugins, current_folder())
        except PluginError as error:
            raise SpecError(f"the model in {folder}: {error}") from error
    if kind not in models.MODELS:
        raise SpecError(f"{folder} has an unknown model '{kind}'{nearest(str(kind), models.MODELS)}")
    try:
        spec = models.MODELS.parse(card["model"])
    except (ValidationError, PydanticCustomError) as error:
        raise SpecError(f"the model in {folder / CARD} is not valid: {error}") from error
    channels, height, width = card["shape"]
    # Weights and statistics, mean and std among them, are overwritten by those of the file.
    return models.build(
        spec,
        shape=(channels, height, width),
        classes=card["classes"],
        mean=[0.0] * channels,
        std=[1.0] * channels,
        seed=0,
    )


def check_target(target: Path, overwrite: bool = False) -> None:
    """Refuse a directory that a network cannot be written to.

    Raises:
        SpecError: it exists and is not empty, or, with `overwrite`, has other files than a network's.
    """
    if not target.exists():
        return
    if not target.is_dir():
        raise SpecError(f"{target} is a file; a network is saved as a directory")
    names = [entry.name for entry in target.iterdir()]
    if names and not overwrite:
        raise SpecError(f"{target} is not empty; choose a directory that is new or empty")
    foreign = [name for name in names if not name.startswith("model.") and name not in BESIDE]
    if foreign:
        raise SpecError(f"{target} has other files than a network's ({foreign[0]}) and is not overwritten")


def write_directory(target: Path, files: Mapping[str, bytes]) -> None:
    """Replace the target, which is absent, empty, or a saved network, by a directory of these files, or by none.

    Raises:
        OSError: the disk refuses.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = Path(temporary_name(target.with_name(f".{target.name}")))
    old = fresh.with_suffix(".old")
    try:
        fresh.mkdir()
        for name, content in files.items():
            write_new(fresh / name, content)
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        if target.exists():
            shutil.rmtree(old, ignore_errors=True)
