"""Studies made shorter: everything that counts in epochs or steps of training, alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LENGTHS = frozenset(
    {
        "admm_epochs",
        "awp_warmup",
        "cycle",
        "epochs",
        "eps_warmup",
        "finetune_eps_warmup",
        "every",
        "finetune_epochs",
        "grace",
        "large_epochs",
        "measure_at",
        "natural_epochs",
        "prune_epoch",
        "prune_epochs",
        "rerank",
        "retrain_epochs",
        "rewind",
        "round_epochs",
        "search_epochs",
        "update_epochs",
        "validate_every",
        "warmup",
        "window",
    }
)
"""The keys of a study that count epochs or steps of training. Schedules in shares of a training need no change."""

INTERVALS = frozenset({"every", "rerank"})
"""Those whose real numbers are shares."""

BEGINNINGS = frozenset({"natural_epochs", "rewind"})
"""Those at the beginning of a training, which may become 0: a whole epoch would be most of a short training."""


def shortened(study: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """Return a study, as plain data with all defaults, whose lengths are `scale` times as long.

    A length in whole epochs or steps stays at least 1, except for a beginning, which may become 0. The part of a
    running average that a step replaces is at most all of it. Weights of penalties stay: recipes scale them by the
    steps of a training. A measurement within trainings that would come at their end or later is left out.
    """
    found: dict[str, Any] = {name: _shortened(value, scale) for name, value in study.items() if name != "measure_at"}
    for path, parameter in study.get("space", {}).items():
        if (last := path.rpartition(".")[2]) in LENGTHS:
            values = {
                name: _length(last, parameter[name], scale) for name in ("low", "high", "choices") if name in parameter
            }
            found["space"][path] = {**parameter, **values}
    longest = found["recipe"]["epochs"]
    within = [at for at in dict.fromkeys(scaled(study.get("measure_at", []), scale)) if at < longest]
    return {**found, "measure_at": within}


def scaled(length: Any, scale: float, least: int = 1) -> Any:
    """Return a length, or each of several, times `scale`; what is not a number, such as the name of a state, stays.

    Whole numbers become `least` at least.
    """
    if isinstance(length, (list, tuple)):
        return [scaled(each, scale, least) for each in length]
    if isinstance(length, bool) or not isinstance(length, (int, float)) or length == 0:
        return length
    return length * scale if isinstance(length, float) else max(least, int(length * scale + 0.5))


def _length(name: str, value: Any, scale: float) -> Any:
    if isinstance(value, (list, tuple)):
        return [_length(name, each, scale) for each in value]
    if name in INTERVALS and isinstance(value, float):
        return value
    return scaled(value, scale, least=0 if name in BEGINNINGS else 1)


def _shortened(value: Any, scale: float) -> Any:
    if isinstance(value, Mapping):
        return {name: _of(name, each, scale) for name, each in value.items()}
    return [_shortened(each, scale) for each in value] if isinstance(value, (list, tuple)) else value


def _of(name: str, value: Any, scale: float) -> Any:
    if name in LENGTHS and not isinstance(value, Mapping):
        return _length(name, value, scale)
    if name == "ema" and isinstance(value, float) and value:
        return max(0.0, 1 - (1 - value) / scale)
    return _shortened(value, scale)
