"""The distance between two trainings: logits and robust accuracy, epoch by epoch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from trainables.attacks import ATTACKS, run
from trainables.attacks.base import Attack
from trainables.attacks.pgd import Pgd
from trainables.metrics.base import Metric, MetricContext

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.store.state import State


class Dynamics(Metric):
    """Distances between the last training of a network and the first one of its trial, that of the dense network.

    `dynamics_logits`: the mean squared difference of the logits; `dynamics_robust`: the absolute difference of the
    robust accuracies. Means over the epochs that both trainings have, and the end. Null for a network that comes from
    no training, or from the first. Source: what Shi et al. 2022, arXiv:2202.06488, claim to preserve.
    """

    kind: Literal["dynamics"] = "dynamics"
    epochs: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        default=(), description="epochs after which the trainings are compared, besides the end"
    )
    examples: int = Field(default=200, gt=0, description="number of images, the first of the protocol's")
    attack: Annotated[Attack, ATTACKS] = Field(
        default=Pgd(steps=10), description="the attack, within the protocol's radius"
    )

    @property
    def follows(self) -> tuple[int, ...]:
        return self.epochs

    def values(self, context: MetricContext) -> dict[str, float]:
        found = context.trainings()
        if found is None:
            return dict.fromkeys(("dynamics_logits", "dynamics_robust"), float("nan"))
        ours, first = found
        pairs = [(ours[epoch], first[epoch]) for epoch in sorted(ours.keys() & first.keys())]
        if max(ours) != max(first):
            pairs.append((ours[max(ours)], first[max(first)]))
        draws = context.generator.get_state()
        logits = robust = 0.0
        for pair in pairs:
            (one, accuracy), (other, reference) = (self._outputs(context, state, draws) for state in pair)
            logits += float((one - other).square().mean())
            robust += abs(accuracy - reference)
        return {"dynamics_logits": logits / len(pairs), "dynamics_robust": robust / len(pairs)}

    def _outputs(self, context: MetricContext, state: State, draws: Tensor) -> tuple[Tensor, float]:
        """Return the logits (examples, classes), float64, and the robust accuracy, always with the same draws."""
        import torch
        from torch.func import functional_call

        from trainables.attacks.verdicts import correct

        x, y = (t[: self.examples].contiguous() for t in (context.x, context.y))
        state = state.to(x.device)

        def logits_fn(images: Tensor) -> Tensor:
            logits: Tensor = functional_call(context.net, {**state.params, **state.buffers}, (images,))
            return logits

        attack = self.attack.within(context.norm)
        context.generator.set_state(draws)
        worse = run(attack, logits_fn, x, y, eps=context.eps, generator=context.generator, keep="worst")
        with torch.no_grad():
            clean, attacked = logits_fn(x), logits_fn(worse)
        stands = correct(clean, y) & correct(attacked, y)
        return clean.double(), float(stands.double().mean())
