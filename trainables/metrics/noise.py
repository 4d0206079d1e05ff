"""How much robustness the noise on a network's weights adds, also under attacks that average over it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from trainables.attacks import ATTACKS
from trainables.attacks.base import Attack
from trainables.attacks.pgd import Pgd
from trainables.metrics.base import Accuracy, Metric, MetricContext

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainables.attacks.base import LogitsFn


NAME = r"^[a-z][a-z0-9_]*$"
TAKEN = frozenset({"clean", "pgd", "eot", "mean", "off_clean", "off_pgd", "off_strong", "density", "strength"})
"""The numbers of the metric that further attacks cannot be named after."""


class Noise(Metric):
    """Accuracies of a network with noise on its weights, beside those without.

    `noise_clean`: clean, with noise. `noise_pgd`: under `attack` on the noisy network, one pass for each gradient, as
    the papers measure; `noise_<name>`: likewise under one of `attacks`. `noise_eot`: under `strong`, each gradient the
    mean of `eot` passes. `noise_mean`: under `strong` on the network without noise, then classified with noise.
    `noise_off_clean`, `noise_off_pgd` (under `attack`) and `noise_off_strong`: without noise. `noise_density`: the
    share of prunable weights that are not 0 in a noisy pass. `noise_strength`: the mean absolute coefficient. A network
    without noise is measured in the same way, so that the numbers are comparable.
    Source: He et al. 2019, arXiv:1811.09310; `noise_eot` after Athalye et al. 2018, arXiv:1802.00420.
    """

    kind: Literal["noise"] = "noise"
    attack: Annotated[Attack, ATTACKS] = Field(
        default=Pgd(steps=7, step_size=0.01 / 0.031),
        description="the attack of the papers; by default PGD-7 with steps of 0.01 at a radius of 0.031",
    )
    strong: Annotated[Attack, ATTACKS] = Field(default=Pgd(steps=20), description="the stronger attack")
    attacks: dict[Annotated[str, StringConstraints(pattern=NAME)], Annotated[Attack, ATTACKS]] = Field(
        default={}, description="further attacks on the noisy network, one pass for each of their queries, by name"
    )
    eot: int = Field(default=20, gt=0, description="passes that are averaged for each gradient of `strong`")
    trials: int = Field(default=5, gt=0, description="noisy passes whose accuracies are averaged")
    examples: int | None = Field(
        default=None, gt=0, description="number of images, the first of the protocol's; null: all"
    )

    @field_validator("attacks")
    @classmethod
    def _named_anew(cls, attacks: dict[str, Attack]) -> dict[str, Attack]:
        if taken := sorted(TAKEN & attacks.keys()):
            raise ValueError(f"noise_{taken[0]} is a number of the metric already; choose another name")
        return attacks

    @property
    def attacks_within(self) -> tuple[Attack, ...]:
        return self.attack, self.strong, *self.attacks.values()

    def values(self, context: MetricContext) -> dict[str, float]:
        import torch

        from trainables.attacks.eot import Eot
        from trainables.models import noise

        state = context.state.to(context.x.device)
        found = noise.Noise.of(state)
        net: nn.Module = context.net
        passes = 1
        if found is not None:
            noisy = noise.Noisy(context.net, found, state.masks)
            noisy.generator = torch.Generator(context.x.device).manual_seed(context.generator.initial_seed() + 1)
            net, passes = noisy, self.eot
        batches = _batches(context, self.examples)
        measured: dict[str, tuple[tuple[Attack, LogitsFn] | None, LogitsFn]] = {
            "noise_clean": (None, net),
            "noise_pgd": ((self.attack, net), net),
            "noise_eot": ((self.strong, Eot(net, passes)), net),
            "noise_mean": ((self.strong, context.net), net),
            "noise_off_clean": (None, context.net),
            "noise_off_pgd": ((self.attack, context.net), context.net),
            "noise_off_strong": ((self.strong, context.net), context.net),
            **{f"noise_{name}": ((attack, net), net) for name, attack in self.attacks.items()},
        }
        values = {}
        for name, (against, scored) in measured.items():
            trials = self.trials if scored is not context.net else 1
            values[name] = _accuracy(context, batches, against, scored, trials)
        density = state.nonzero() / state.size() if found is None else found.density(state)
        strength = 0.0 if found is None else found.strength()
        return {**values, "noise_density": density, "noise_strength": strength}


BATCH = 128


def _batches(context: MetricContext, examples: int | None) -> list[tuple[Tensor, Tensor]]:
    number = len(context.y) if examples is None else min(examples, len(context.y))
    return [
        (context.x[at : min(at + BATCH, number)], context.y[at : min(at + BATCH, number)])
        for at in range(0, number, BATCH)
    ]


def _accuracy(
    context: MetricContext,
    batches: list[tuple[Tensor, Tensor]],
    against: tuple[Attack, LogitsFn] | None,
    scored: LogitsFn,
    trials: int,
) -> Accuracy:
    """Return the accuracy on batches that are attacked once and classified in `trials` passes."""
    import torch

    from trainables.attacks import run
    from trainables.attacks.verdicts import correct

    outcomes = []
    for x, y in batches:
        found = x
        if against is not None:
            attack, attacked = against
            found = run(attack, attacked, x, y, eps=context.eps, generator=context.generator, keep="last")
        with torch.no_grad():
            outcomes.append(torch.stack([correct(scored(found), y) for _ in range(trials)]))
    return Accuracy.of(torch.cat(outcomes, dim=1))
