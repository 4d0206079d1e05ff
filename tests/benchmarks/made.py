"""A small table without any training: curves from a formula, for a study with few choices."""

from __future__ import annotations

import math

from curves import Curves, Epoch, chained

from search.space.parameters import SPARSITY_PATH
from search.study.spec import StudySpec

EPS, LOSS, L1, REWIND = (
    *("recipe.train.eps", "recipe.train.loss.kind", "recipe.train.regularisers.l1"),
    "recipe.rewind",
)

DENSE_EPOCHS, ROUND_EPOCHS, TOP = 5, 2, 3


def study() -> StudySpec:
    """Two radii, two ways to rewind, up to three rounds."""
    return StudySpec.model_validate(
        {
            "name": "made",
            "data": {"kind": "digits", "validation": 300},
            "model": {"kind": "lenet300", "hidden": [8]},
            "recipe": {
                "kind": "imp",
                "epochs": DENSE_EPOCHS,
                "rate": 0.5,
                "round_epochs": ROUND_EPOCHS,
                "train": {"batch": 128, "precision": "fp32", "attack": {"kind": "pgd", "steps": 2}},
            },
            "space": {
                SPARSITY_PATH: {"kind": "categorical", "choices": [1 - 0.5**number for number in range(1, TOP + 1)]},
                EPS: {"kind": "categorical", "choices": [0.0, 0.1]},
                LOSS: {"kind": "categorical", "choices": ["madry", "mix"]},
                L1: {"kind": "categorical", "choices": [0.0, 1e-4]},
                REWIND: {"kind": "categorical", "choices": ["init", 2, "none"]},
            },
            "protocol": {"eps": 0.1, "examples": 100, "attack": {"kind": "pgd", "steps": 2}},
        }
    )


def rounds(sparsity: float) -> int:
    """How many cuts reach a sparsity."""
    return round(-math.log2(1 - sparsity))


def curves() -> Curves:
    """Robustness that falls with every round, slower for some choices."""
    spec = study()
    chains = {}
    choices = {path: parameter.spaced(0) for path, parameter in spec.space.items()}
    for index, params in enumerate(chained(spec)):
        way = choices[REWIND].index(params[REWIND])
        chains[tuple(choices[path].index(value) for path, value in params.items())] = {
            number: tuple(
                Epoch(
                    robust=(0.8 - 0.01 * (index // 3)) * (1 - 0.1 * number - 0.02 * way) * (epoch + 1) / epochs,
                    clean=0.9,
                    sparsity=1 - 0.5**number,
                    cheap_robust=0.5,
                    cheap_clean=0.9,
                    status="ok",
                )
                for epoch in range(epochs)
            )
            for number, epochs in ((n, ROUND_EPOCHS if n else DENSE_EPOCHS) for n in range(TOP + 1))
        }
    return Curves(spec, 100, chains)
