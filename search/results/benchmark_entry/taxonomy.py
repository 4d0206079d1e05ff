"""How the adversarial pruning benchmark classifies a method, from the phases of a trial.

Names and values are those of the benchmark's `taxonomy.json`. What its words do not cover is `Not Specified`.
"""

from __future__ import annotations

from collections.abc import Sequence

from trainables.method.phases import Imitate, Measure, Phase, Prune, Rewind, Train

UNKNOWN = "Not Specified"
_TRAINING = {
    "madry": "Adversarial Training (AT) PGD",
    "trades": "Adversarial Training (AT) TRADES",
    "mart": "Adversarial Training (AT) MART",
    "natural": "Natural Training (NT)",
}
_STRUCTURES = {"unstructured": "Unstructured (US)", "filter": "Structured (S) filters"}
_SCOPES = {"global": "Global Pruning (G)", "layerwise": "Local Pruning (L)"}
_CRITERIA = {
    "magnitude": "Lowest Weight Magnitude LWM",
    "scores": "Least Importance Score (LIS)",
    "rated": "Least Importance Score (LIS)",
    "mad": "Least Importance Score (LIS)",
    "admm": "Solver Based LWM (SOLWM)",
    "twin": "Sparsity Based LWM (SPALWM)",
    "flying_bird": "Lowest Weight Magnitude LWM",
    "gradual": "Lowest Weight Magnitude LWM",
}
_WITHIN_LAYERS = ("scores", "flying_bird")
"""What decides within each layer, whatever the scope of the pruning that applies it."""


def entry(phases: Sequence[Phase], ap_key: str, link: str) -> dict[str, str]:
    """Return the JSON entry of a method, with the benchmark's keys."""
    trains = [phase for phase in phases if isinstance(phase, Train)]
    prunes = [phase for phase in phases if isinstance(phase, (Prune, Imitate))]
    rounds = "IT" if len(prunes) > 1 else "1S"
    first, last = (_training(trains[at]) if trains else "None" for at in (0, -1))
    pipelines = {
        "A": {
            "Type of Pipeline:": "A-Methods Pruning After Training",
            "A: Pretraining ": first,
            "A: Finetuning": last if _after(phases) else "None",
            "A: OneShot (1S) vs Iterative (IT)": rounds,
        },
        "B": {
            "Type of Pipeline:": "B-Methods Pruning Before Training",
            "B: Pruning step ": first if isinstance(phases[0], Train) else UNKNOWN,
            "B: Training step ": last,
            "B: OneShot (1S) vs Iterative (IT)": rounds,
        },
        "D": {"Type of Pipeline:": "D-Methods Pruning During Training", "D: Training step ": last},
    }
    return {
        "link_to_paper": link,
        "ap_key": ap_key,
        **pipelines[pipeline(phases)],
        **_specifics(trains, prunes),
    }


def pipeline(phases: Sequence[Phase]) -> str:
    """Return when a method prunes: A after a training, B before the training of the result, D during it."""
    trains = [phase for phase in phases if isinstance(phase, Train)]
    if any(train.rewiring.kind != "fixed" for train in trains) or any(_interrupted(train) for train in trains):
        return "D"
    rewound = any(isinstance(phase, Rewind) and phase.to != "dense_trained" for phase in phases)
    first = next((phase for phase in phases if not isinstance(phase, Measure)), None)
    return "B" if rewound or isinstance(first, (Prune, Imitate)) else "A"


def _interrupted(train: Train) -> bool:
    """Return whether a training stops before its end, to be continued behind a pruning."""
    return train.until is not None and train.until < train.epochs


def _after(phases: Sequence[Phase]) -> bool:
    """Return whether a training follows the last pruning."""
    at = max((index for index, phase in enumerate(phases) if isinstance(phase, (Prune, Imitate))), default=len(phases))
    return any(isinstance(phase, Train) for phase in phases[at:])


def _training(train: Train) -> str:
    return _TRAINING.get(train.training.loss.kind, UNKNOWN)


def _specifics(trains: Sequence[Train], prunes: Sequence[Prune | Imitate]) -> dict[str, str]:
    # A learned mask, a penalty or a mask update decides, if there is one, and not the pruning that goes with it.
    kinds = [kind for train in trains for kind in (train.weights.kind, train.rewiring.kind)]
    kinds += [prune.pruning.pruner.kind for prune in prunes[-1:]]
    decides = next((kind for kind in kinds if kind in _CRITERIA), UNKNOWN)
    pruning = prunes[-1].pruning if prunes else None
    scope = "layerwise" if decides in _WITHIN_LAYERS else pruning.scope if pruning else None
    return {
        "Pruning structure": _STRUCTURES.get(pruning.structure if pruning else "unstructured", UNKNOWN),
        "Pruning locality": _SCOPES.get(scope or "", UNKNOWN),
        "Pruning criterion": _CRITERIA.get(decides, UNKNOWN),
    }
