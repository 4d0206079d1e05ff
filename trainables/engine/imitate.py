"""The tangent-kernel mask search: a sparse network imitates the dense one at initialisation, logits and kernel.

As in training, what an epoch does is a function of the phase's spec, its key, the epoch's number and the tensors at
its start, so a resumed search equals an uninterrupted one. Source: Liu & Zenke 2020, arXiv:2006.08228; with
adversarial inputs Shi et al. 2022, arXiv:2202.06488.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from itertools import product as pairs

import torch
from torch import Tensor, nn
from torch.func import functional_call

from trainables.attacks import run
from trainables.core.errors import Diverged
from trainables.core.rng import derive, generator
from trainables.data.tensors import TrainingData, batches
from trainables.engine.epoch import Checkpoint, Epoch
from trainables.engine.optimisation import load_slots, slots
from trainables.method.phases import Imitate
from trainables.models.graph.folding import FrozenAttackModel
from trainables.models.isolation import isolated
from trainables.models.ntk import Function, kernel, readout
from trainables.pruning.base import Pruner
from trainables.pruning.cut import View, prune
from trainables.pruning.scores import Magnitude
from trainables.store.state import State, Tensors

_EXAMPLES = 8


def imitate(
    model: nn.Module,
    state: State,
    phase: Imitate,
    data: TrainingData,
    *,
    key: str,
    device: torch.device | str,
    view: View,
    resume: tuple[int, Checkpoint] | None = None,
) -> Iterator[Epoch]:
    """Search for the epochs of the phase from `state`, or resume after the completed epochs of `resume`.

    Of an `Epoch`, `loss` is the objective and `accuracy` the share of inputs for which sparse and dense network predict
    the same class. Both are in eval mode. `model` is a scratch model; `view` shows it to the pruner of the first mask.

    Raises:
        Diverged: the objective is no longer finite.
    """
    search = _Search(model, state.to(device).masked(), phase, data, key, torch.device(device), view)
    first = 0
    if resume is None:
        search.masks = search.mask_of(phase.pruning.pruner, search.dense)
    else:
        first, checkpoint = resume
        search.load(checkpoint)
    for epoch in range(first, phase.epochs):
        yield search.epoch(epoch)


class _Search:
    """A running search: the dense network, what is learnt, and the mask."""

    def __init__(
        self,
        model: nn.Module,
        state: State,
        phase: Imitate,
        data: TrainingData,
        key: str,
        device: torch.device,
        view: View,
    ) -> None:
        self.phase, self.key, self.device, self.split = phase, key, device, data.train
        self.classes, self.view = data.classes, view
        self.settings = phase.imitation
        # Contiguous: the memory format decides the rounding.
        params = {name: p.contiguous() for name, p in state.params.items()}
        self.dense = State(params, state.buffers, state.masks)
        self.model = self.dense.into(model.to(device).to(memory_format=torch.contiguous_format)).eval()
        self.masks: Tensors = {}
        if self.settings.learn == "weights":
            start = params
        else:
            start = {name: params[name].abs() for name in state.prunable()}
        self.learnt = {name: nn.Parameter(t.clone()) for name, t in start.items()}
        self.optimiser = self.settings.optimiser.build(self.learnt.values())
        self.frozen = FrozenAttackModel(self.model, "fp32", self.split.pixels(slice(_EXAMPLES)).contiguous())

    def draws(self, epoch: int, purpose: str) -> torch.Generator:
        return generator(self.key, epoch, purpose, self.device)

    def mask_of(self, pruner: Pruner, state: State) -> Tensors:
        """Return the mask that a pruner gives the phase's network."""
        pruning = self.phase.pruning.model_copy(update={"pruner": pruner})
        with isolated(derive(self.key, 0, "network"), self.device):
            return prune(pruning, self.phase.sparsity, state, self.draws(0, "prune"), self.view).masks

    def epoch(self, epoch: int) -> Epoch:
        """Search for one epoch."""
        began = time.perf_counter()
        order, attack, outputs = (self.draws(epoch, purpose) for purpose in ("order", "attack", "outputs"))
        n, batch = len(self.split), self.settings.batch
        steps = -(-n // batch)
        total = steps * self.phase.epochs
        losses = torch.zeros(steps, device=self.device)
        agreed = torch.zeros((), dtype=torch.long, device=self.device)
        for step, index in enumerate(batches(n, batch, order)):
            losses[step], same = self._step(self.split.pixels(index).contiguous(), self.split.y[index], attack, outputs)
            agreed += same
            number = epoch * steps + step + 1
            if self.settings.reranks(number, total):
                self._check_finite(epoch, losses[: step + 1])
                self.masks = self._ranked()
        self._check_finite(epoch, losses)
        return Epoch(
            epoch=epoch + 1,
            epochs=self.phase.epochs,
            loss=float(losses.mean()),
            accuracy=int(agreed) / n,
            lr=self.settings.optimiser.lr,
            eps=float(self.settings.eps),
            seconds=time.perf_counter() - began,
            precision="fp32",
            state=self.state,
            checkpoint=self.checkpoint,
            images=n,
        )

    def _check_finite(self, epoch: int, losses: Tensor) -> None:
        wrong = (~losses.isfinite()).nonzero()
        if len(wrong):
            raise Diverged(f"the objective is {losses[wrong[0]].item()} in epoch {epoch + 1}, step {int(wrong[0]) + 1}")
        if not all(bool(t.isfinite().all()) for t in self.learnt.values()):
            raise Diverged(f"what is learnt is no longer finite in epoch {epoch + 1}, step {len(losses)}")

    def _step(self, x: Tensor, y: Tensor, attack: torch.Generator, outputs: torch.Generator) -> tuple[Tensor, Tensor]:
        """Take one step; return the objective, and for how many inputs both networks predict the same class.

        Shapes: x (N, C, H, W) in [0, 1]; y (N,) class indices; both results ().
        """
        settings = self.settings
        worse = self._attacked(x, y, attack) if settings.attacks else x
        seen = worse if settings.target_inputs == "adversarial" else x
        self.optimiser.zero_grad(set_to_none=True)
        sparse = self._sparse()(self._params(), seen)
        with torch.no_grad():
            dense = self._dense(self.dense.params, seen)
        loss = settings.target * (sparse - dense).square().mean() + self._decay()
        loss.backward()  # type: ignore[no-untyped-call]
        loss = loss.detach()
        half = len(x) // 2
        if settings.kernel and half:
            first = worse if settings.kernel_inputs == "adversarial" else x
            second = x if settings.kernel_inputs == "clean" else worse
            loss = loss + settings.kernel * self._descend_kernel(first[:half], second[half : 2 * half], outputs)
        self.optimiser.step()
        return loss, (sparse.argmax(dim=1) == dense.argmax(dim=1)).sum()

    def _descend_kernel(self, x1: Tensor, x2: Tensor, draws: torch.Generator) -> Tensor:
        """Add the gradient of the kernels' distance, block by block, and return the distance."""
        read = readout(self.settings.outputs, self.classes, draws)
        entries = len(x1) * len(x2) * (self.classes if read is None else 1) ** 2
        chunk = self.settings.chunk or len(x1)
        distance = torch.zeros((), device=self.device)
        for rows, columns in pairs(torch.split(x1, chunk), torch.split(x2, chunk)):
            with torch.no_grad():
                wanted = kernel(self._dense, self.dense.params, rows, columns, read=read)
            found = kernel(self._sparse(), self._params(), rows, columns, read=read)
            part = (found - wanted).square().sum() / entries
            (self.settings.kernel * part).backward()  # type: ignore[no-untyped-call]
            distance += part.detach()
        return distance

    def _attacked(self, x: Tensor, y: Tensor, draws: torch.Generator) -> Tensor:
        if self.settings.attacked == "sparse":
            self.state().into(self.model)
            self.frozen.refresh()
        return run(self.settings.attack, self.frozen, x, y, eps=self.settings.eps, generator=draws, keep="last")

    def _dense(self, params: Mapping[str, Tensor], x: Tensor) -> Tensor:
        logits: Tensor = functional_call(self.model, {**params, **self.dense.buffers}, (x,))
        return logits

    def _sparse(self) -> Function:
        """Return the network with its parameters gated by the mask; derivatives by them are gated too."""
        gates = self._gates()

        def logits(params: Mapping[str, Tensor], x: Tensor) -> Tensor:
            return self._dense({**params, **{name: params[name] * gate for name, gate in gates.items()}}, x)

        return logits

    def _params(self) -> Mapping[str, Tensor]:
        return self.learnt if self.settings.learn == "weights" else self.dense.params

    def _gates(self) -> Tensors:
        """Return the mask as numbers, with the scores' gradients straight through where it is what is learnt."""
        gates = {name: mask.to(self.dense.params[name].dtype) for name, mask in self.masks.items()}
        if self.settings.learn == "weights":
            return gates
        return {**gates, **{name: gates[name] + (scores - scores.detach()) for name, scores in self.learnt.items()}}

    def _decay(self) -> Tensor:
        """Return the penalty on the living weights; the mask alone has none to choose."""
        if not self.settings.l2 or self.settings.learn == "mask":
            return torch.zeros((), device=self.device)
        living = [(self.learnt[name] * self.masks[name]).square().sum() for name in self.dense.prunable()]
        return self.settings.l2 / (1 - self.phase.sparsity) * torch.stack(living).sum()

    def _ranked(self) -> Tensors:
        """Return the mask of the largest weights, or of the highest scores, which exp turns to sizes in their order."""
        sizes = {name: self.learnt[name].detach() for name in self.dense.prunable()}
        if self.settings.learn == "mask":
            sizes = {name: scores.exp() for name, scores in sizes.items()}
        ranked = State({**self.dense.params, **sizes}, self.dense.buffers, self.dense.masks)
        return self.mask_of(Magnitude(), ranked)

    def state(self) -> State:
        """Copy what would be the phase's result now."""
        params = {name: p.detach().clone() for name, p in self._params().items()}
        return State(params, self.dense.buffers, self.masks).masked()

    def checkpoint(self) -> dict[str, Tensors]:
        """Copy all tensors that the next step depends on."""
        groups: dict[str, Mapping[str, Tensor]] = {
            "learnt": self.learnt,
            "masks": self.masks,
            "optimiser": slots(self.optimiser, self.learnt),
        }
        return {group: {name: t.detach().clone() for name, t in tensors.items()} for group, tensors in groups.items()}

    def load(self, checkpoint: Checkpoint) -> None:
        """Resume from what `checkpoint` returned."""
        with torch.no_grad():
            for name, p in self.learnt.items():
                p.copy_(checkpoint["learnt"][name])
        self.masks = {name: mask.to(self.device) for name, mask in checkpoint["masks"].items()}
        load_slots(self.optimiser, self.learnt, checkpoint["optimiser"])
