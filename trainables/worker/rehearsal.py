"""A small trial before the first one, on a worker.

It runs what a trial runs (`trainables.worker.run`), with the study's seed, on the worker's device and in its precision.
Only numbers that cost time are small (`trainables.recipes.rehearsal`), and stages are kept in memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from trainables import attacks
from trainables.core.errors import DataError, SpecError, StorageError
from trainables.data.tensors import Split, TrainingData
from trainables.mask_updates.base import Fixed
from trainables.measure.evaluate import one_pass
from trainables.method.phases import Phase, Train
from trainables.models.base import Model
from trainables.models.checks import title
from trainables.models.isolation import isolated
from trainables.models.single import REFUSAL
from trainables.recipes.rehearsal import in_small
from trainables.recipes.trial import TrialSpec
from trainables.worker.in_memory import InMemory
from trainables.worker.job import ends_the_launch
from trainables.worker.run import Run

IMAGES = 2
"""Images of a batch, and to measure on."""

PATIENCE_SECONDS = 5.0
"""How long a worker goes on with small trials, once it has run one for each network and kind of recipe."""

_HINTS = {
    REFUSAL: "a batch norm has one value per channel: let it keep running statistics (track_running_stats=True), and "
    "set recipe.train.batch above 1",
    "does not require grad and does not have a grad_fn": "the logits do not depend on a trained parameter, or the "
    "network switches gradients off",
}
"""What to change, by a part of torch's message."""


def rehearse(trials: Sequence[TrialSpec], data: TrainingData, device: torch.device) -> None:
    """Run trials in small: the first of each network and kind of recipe, others while there is time.

    Raises:
        SpecError: one fails; says in which phase, and with what error.
    """
    began = time.monotonic()
    seen: list[tuple[Model, str]] = []  # A plug-in's spec may have fields that cannot be hashed.
    for trial in trials:
        kinds = (trial.model, trial.recipe.kind)
        if kinds not in seen or time.monotonic() - began < PATIENCE_SECONDS:
            seen.append(kinds)
            run_small(trial, data, device)


def run_small(trial: TrialSpec, data: TrainingData, device: torch.device) -> None:
    """Run one trial in small, and leave nothing behind.

    Raises:
        SpecError: it fails.
    """
    tiny = in_small(trial)
    phases, done = tiny.recipe.phases(), -1

    def what() -> str:
        # The first phase of a trial is its initialisation; what is attacked before it is attacked as in a measurement.
        name = ("init", *(phase.kind for phase in phases), "measure")[min(done, len(phases))]
        return f"a small trial of the recipe {trial.recipe.kind} with the network {title(trial.model)} fails ({name})"

    with explained(what, always=True), isolated(on=device):
        little = _few(data, phases)
        run = Run(tiny, little, InMemory(), 0, "rehearsal", device)
        _attack(run, tiny, little.validation, device)
        for progress in run.progress():
            done = progress.phases_done


def _attack(run: Run, trial: TrialSpec, split: Split, device: torch.device) -> None:
    """Attack a few images as a measurement does, which leaves out the attack where none is classified correctly."""
    net = one_pass(run.network().to(device).eval().requires_grad_(False))
    x = split.pixels().to(device)
    with torch.no_grad():
        y = net(x).argmax(dim=1)
    draws = torch.Generator(device).manual_seed(0)
    attack, eps = trial.protocol.attack, float(trial.protocol.eps)
    if attack.sparing:
        attacks.hunt(attack, net, x, y, eps=eps, generator=draws, standing=torch.ones_like(y, dtype=torch.bool))
    else:
        attacks.run(attack, net, x, y, eps=eps, generator=draws, keep="worst")


@contextmanager
def explained(what: Callable[[], str], *, always: bool = False) -> Iterator[None]:
    """Turn any error of the block into a SpecError that begins with `what()`.

    A SpecError says what is wrong by itself: it stays, unless `always` something is put before it.

    Raises:
        SpecError: the block raised, or called `sys.exit`.
    """
    try:
        yield
    except BaseException as error:
        known = (DataError, StorageError) if always else (SpecError, DataError, StorageError)
        if ends_the_launch(error) or isinstance(error, known):
            raise
        said = str(error) if isinstance(error, SpecError) else f"{type(error).__name__}: {error}".rstrip(": ")
        hint = next((f"; {text}" for part, text in _HINTS.items() if part in said), "")
        raise SpecError(f"{what()}: {said}{hint}") from error


def _few(data: TrainingData, phases: Sequence[Phase]) -> TrainingData:
    """Return data with the first images of each split: a batch and those held back, or two where masks change."""
    trainings = [phase for phase in phases if isinstance(phase, Train)]
    held_back = max((phase.training.select for phase in trainings), default=0)
    # Masks change between two steps.
    batches = 2 if any(phase.rewiring != Fixed() for phase in trainings) else 1

    def first(split: Split, images: int) -> Split:
        return replace(split, x=split.x[:images], y=split.y[:images])

    return replace(
        data, train=first(data.train, batches * IMAGES + held_back), validation=first(data.validation, IMAGES)
    )
