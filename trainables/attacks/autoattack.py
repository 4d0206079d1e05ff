"""AutoAttack as its authors wrote it, by the package `pyautoattack`."""

from __future__ import annotations

import logging
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from trainables.attacks.base import Attack
from trainables.core import heartbeat
from trainables.core.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor

    from trainables.attacks.base import LogitsFn, Norm

_CLASSES = {"standard": 4, "rand": 3}
"""What the losses need: the targeted DLR loss four logits, the DLR loss three."""


class AutoAttack(Attack):
    """Attacks one after the other, each on what still stands.

    `standard` runs APGD-CE, targeted APGD-DLR, FAB-T and Square; `rand`, for randomised networks, APGD-CE and APGD-DLR
    with gradients averaged over 20 passes. Source: Croce & Hein 2020, arXiv:2003.01690; the package is their code.
    """

    kind: Literal["autoattack"] = "autoattack"
    version: Literal["standard", "rand"] = Field(
        default="standard", description="attacks of the ensemble; `rand` is for randomised networks"
    )
    steps: int = Field(default=100, gt=0, description="steps of APGD and FAB; the original has 100")
    queries: int = Field(default=5000, gt=0, description="queries of Square; the original has 5,000")

    @property
    def needs_no_gradients(self) -> bool:
        return self.version == "standard"

    @property
    def label(self) -> str:
        original = (self.steps, self.queries) == (100, 5000)
        return "AutoAttack" + {"standard": "", "rand": "-rand"}[self.version] + ("" if original else f"-{self.steps}")

    def cheaper(self, steps: int) -> AutoAttack:
        return self.model_copy(update={"steps": min(steps, self.steps), "queries": min(steps, self.queries)})

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
        return stepped(self.norm, logits_fn, x, y, eps, self.original(logits_fn, x, y, eps=eps, generator=generator))

    def original(
        self, logits_fn: LogitsFn, x: Tensor, y: Tensor, *, eps: float | Tensor, generator: torch.Generator
    ) -> Tensor:
        """Return what the package itself returns: images that it does not break are as they were.

        Shapes: those of `perturb`.
        Raises:
            SpecError: the package is not installed, or the network has too few classes.
        """
        import torch

        from trainables.attacks.bridge import differentiable
        from trainables.attacks.standing import classes

        package = _package()
        net = differentiable(logits_fn, like=x)
        with torch.no_grad():
            count = net(x[:1]).shape[1]
        if count < _CLASSES[self.version]:
            raise SpecError(
                f"AutoAttack {self.version} needs at least {_CLASSES[self.version]} classes for its DLR loss, but the "
                f"network has {count}; take the attack `aa`"
            )
        if self.norm == "l2" and x.dim() > 2 and min(x.shape[-2:]) < 5:
            raise SpecError("AutoAttack's Square in l2 needs images of at least 5 x 5 pixels; take the attack `aa`")
        seed = int(torch.randint(2**31, (), generator=generator, device=generator.device))
        labels, found = classes(y), x.contiguous().clone()
        radii = torch.as_tensor(eps, dtype=torch.float64).expand(len(x)).to(x.device)
        with _alone(x.device):
            for radius in sorted(set(radii.tolist()) - {0.0}):
                which = radii == radius
                attack = self._ensemble(package, net, radius, seed, count, x.device)
                found[which] = attack.run_standard_evaluation(
                    x[which].float().contiguous(), labels[which], batch_size=len(x)
                )[0].to(x.dtype)
        return found

    def _ensemble(self, package: Any, net: Any, eps: float, seed: int, classes: int, device: Any) -> Any:
        norm = {"linf": "Linf", "l2": "L2"}[self.norm]
        made = package.AutoAttack(net, norm=norm, eps=eps, seed=seed, version=self.version, device=device)
        made.verbose = False
        made.logger = made.apgd.logger = made.apgd_targeted.logger = _silent()
        made.square.n_queries = self.queries
        made.square.margin_and_loss = _decide_ties(net, made.square.margin_and_loss)
        made.fab.n_iter = self.steps
        for part in (made.apgd_targeted, made.fab):
            part.n_target_classes = min(part.n_target_classes, classes - 1)
        for part in (made.apgd, made.apgd_targeted):
            part.n_iter = part.n_iter_orig = self.steps
            part.n_iter_2, part.n_iter_min, part.size_decr = (
                max(int(share * self.steps), 1) for share in (0.22, 0.06, 0.03)
            )
        return made


def stepped(norm: Norm, logits_fn: LogitsFn, x: Tensor, y: Tensor, eps: float | Tensor, found: Tensor) -> Tensor:
    """Move the images that an attack returned as they are by a step up the gradient of the cross-entropy."""
    from trainables.attacks.geometry import choose, region
    from trainables.attacks.losses import CrossEntropy
    from trainables.attacks.pgd import climb

    moved = climb(logits_fn, x, CrossEntropy(y), region(norm, x, eps), steps=1, size=eps)
    return choose((found == x).flatten(1).all(dim=1), moved, found)


def _package() -> Any:
    try:
        import pyautoattack
    except ImportError as error:
        raise SpecError(
            "the attack autoattack needs the package pyautoattack; install it with: pip install 'robustsearch[confirm]'"
        ) from error
    return pyautoattack


def _decide_ties(net: Any, margin_and_loss: Any) -> Any:
    """Give tied logits a margin with the sign of the verdict: where all margins are 0, the package fails."""
    import torch

    from trainables.attacks.verdicts import correct

    def decided(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        margin, loss = margin_and_loss(x, y)
        if bool((margin == 0).any()):
            tied = torch.where(correct(net(x), y), 1e-30, -1e-30).to(margin)
            margin = torch.where(margin == 0, tied, margin)
        return margin, loss

    return decided


def _silent() -> logging.Logger:
    logger = logging.Logger("autoattack")
    logger.addHandler(logging.NullHandler())
    return logger


@contextmanager
def _alone(device: torch.device) -> Iterator[None]:
    """Undo what the package changes: it seeds the global generators and switches tracing off."""
    import torch

    heartbeat.beat()
    tracing = sys.gettrace()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            yield
    finally:
        sys.settrace(tracing)
