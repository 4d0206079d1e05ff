"""Several attacks one after the other, each on what still stands: the worst of them counts, image by image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from trainables.attacks.base import Attack, Sparing, can_hunt
from trainables.attacks.registry import ATTACKS
from trainables.attacks.running import hunt
from trainables.core.spec import located

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from trainables.attacks.base import LogitsFn


class Worst(Sparing):
    """Attacks one after the other, each on the images that the earlier ones did not break."""

    kind: Literal["worst"] = "worst"
    attacks: tuple[Annotated[Attack, ATTACKS], ...] = Field(
        max_length=20,
        description="the attacks, in the norm of `worst`, which they need not name; first what breaks most at its cost",
    )

    @model_validator(mode="before")
    @classmethod
    def _share_norm(cls, data: Any) -> Any:
        """Give attacks without a norm that of the whole."""
        if not isinstance(data, Mapping) or "norm" not in data or not isinstance(data.get("attacks"), (list, tuple)):
            return data
        listed = [{"kind": attack} if isinstance(attack, str) else attack for attack in data["attacks"]]
        shared = [{"norm": data["norm"], **a} if isinstance(a, Mapping) else a for a in listed]
        return {**data, "attacks": shared}

    @model_validator(mode="after")
    def _fit_together(self) -> Self:
        # Not as a bound of the list, which is also said to be broken where an attack in it is wrong.
        if not self.attacks:
            raise located("at least 1 attack required", "attacks", value=[])
        for index, attack in enumerate(self.attacks):
            if isinstance(attack, Worst):
                raise located("list the attacks of an inner `worst` in this one", "attacks", index, value=attack.kind)
            if attack.norm != self.norm:
                message = f"{attack.kind} is in {attack.norm}, but `worst` is in {self.norm}"
                raise located(message, "attacks", index, value=attack.norm)
        return self

    @property
    def needs_no_gradients(self) -> bool:
        return any(attack.needs_no_gradients for attack in self.attacks)

    @property
    def label(self) -> str:
        labels = [attack.label for attack in self.attacks]
        # None is the label of a kind that is not known here; see `trainables.core.registry`.
        return " + ".join(labels) if all(labels) else None  # type: ignore[return-value]

    @property
    def takes_parts(self) -> bool:
        return type(self).hunt is Worst.hunt and all(can_hunt(attack) and attack.takes_parts for attack in self.attacks)

    def within(self, norm: str) -> Self:
        return self.model_copy(update={"norm": norm, "attacks": tuple(each.within(norm) for each in self.attacks)})

    def cheaper(self, steps: int) -> Worst:
        return self.model_copy(update={"attacks": (self.attacks[0].cheaper(steps),)})

    def perturb(
        self,
        logits_fn: LogitsFn,
        x: Tensor,
        y: Tensor,
        *,
        eps: float | Tensor,
        generator: torch.Generator,
        start: Tensor | None = None,
    ) -> Tensor:
        import torch

        from trainables.attacks.ascent import Kept
        from trainables.attacks.losses import Margin
        from trainables.attacks.verdicts import wrong

        kept, loss = Kept(x), Margin(y)
        for attack in self.attacks:
            found = attack.perturb(logits_fn, x, y, eps=eps, generator=generator, start=start).detach()
            with torch.no_grad():
                logits = logits_fn(found)
            kept.offer(found, wrong(logits, loss.labels), loss.value(logits))
        return kept.inputs

    def hunt(
        self,
        logits_fn: LogitsFn,
        x: Tensor,
        y: Tensor,
        *,
        eps: float | Tensor,
        generator: torch.Generator,
        standing: Tensor,
    ) -> Tensor:
        import torch

        from trainables.attacks.verdicts import wrong

        inputs, standing = x.clone(), standing.clone()
        for attack in self.attacks:
            rows = standing.nonzero()[:, 0]
            if not len(rows):
                break
            found = hunt(attack, logits_fn, x, y, eps=eps, generator=generator, standing=standing)[rows]
            with torch.no_grad():
                broken = wrong(logits_fn(found), y[rows])
            inputs[rows] = found
            standing[rows] = ~broken
        return inputs
