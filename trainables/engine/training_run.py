"""A training under way: its steps, its epochs, and what is kept of them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from trainables.attacks.base import Attack, LogitsFn
from trainables.attacks.verdicts import correct
from trainables.core.errors import Diverged, SpecError
from trainables.core.precision import resolve_precision
from trainables.core.rng import derive, generator
from trainables.data.augment import augment
from trainables.data.tensors import TrainingData, as_pixels, batch_sizes, batches
from trainables.engine.awp import Once, climb
from trainables.engine.cuda_graphs import Found, Given, Recorder, Replayed, recorder_for
from trainables.engine.epoch import Checkpoint, Epoch
from trainables.engine.optimisation import Optimisation, Whole
from trainables.engine.selection import Selection, held_back
from trainables.engine.validation import Validation
from trainables.losses.base import Adversary, Terms
from trainables.mask_updates.base import Fixed, MaskUpdateContext
from trainables.measure.evaluate import exact
from trainables.method.phases import Train
from trainables.method.training import Training
from trainables.models.activations import activity, recorded
from trainables.models.graph.folding import FrozenAttackModel
from trainables.models.graph.mlp_gradient import layers_of
from trainables.models.isolation import isolated
from trainables.models.single import trains_on_one
from trainables.pruning.network import Network
from trainables.reparametrisations.network import ReparametrisedNetwork
from trainables.store.state import State, Tensors, named_buffers, named_tensors

_EXAMPLES = 8
_CHECK_EVERY = 50


class TrainingRun:
    """A running training: the network, its optimiser, and the average of its weights."""

    def __init__(
        self,
        model: nn.Module,
        state: State,
        phase: Train,
        data: TrainingData,
        key: str,
        device: torch.device,
        recorder: Recorder | None,
        whole: Whole | None = None,
    ) -> None:
        self.phase, self.key, self.device = phase, key, device
        self.training: Training = phase.training
        self.precision = resolve_precision(self.training.precision, device)
        self.format = memory_format(model)
        self.split, held_out = held_back(data.train, self.training.select)
        self.selection = Selection(self.training, held_out, key, device, self.format)
        self.masks = {name: mask.to(device) for name, mask in state.masks.items()}
        self.notes = {name: note.to(device) for name, note in state.notes.items()}
        state = state.to(device).masked()
        state.into(model.to(device).to(memory_format=self.format)).train()
        self.model = model
        begun = generator(key, phase.start, "latent", device)
        own = replace(state, params=dict(model.named_parameters()))
        seed = derive(key, phase.start, "latent network")
        with exact(self.device), isolated(seed, self.device):
            self.weights = phase.weights.build_seeing(Network(model, own, data, begun))
        self.reparametrised = ReparametrisedNetwork(model, self.weights) if self.weights else None
        plain = not self.weights and self.precision == "fp32" and not self.training.activation_l1
        self.perceptron = layers_of(model) if plain else None
        n, batch = len(self.split), self.training.batch
        # Batch norm may refuse a single image. Elsewhere a last batch of one stays, or results would change.
        self.none_of_one = n % batch == 1 < batch and not trains_on_one(model, self.pixels(self.index(1)))
        self.sizes = batch_sizes(n, batch, none_of_one=self.none_of_one)
        self.weighting = torch.tensor(self.sizes, dtype=torch.float32, device=device)
        factor = phase.penalty_factor(len(self.sizes)) if phase.length else 1.0
        self.optimisation = Optimisation(
            model,
            self.masks,
            self.training,
            self.weights,
            penalty_factor=factor,
            trains_pruned=phase.rewiring.trains_pruned,
            whole=whole,
            rate_as_tensor=device.type == "cuda" or recorder is not None,
        )
        self.draws = {purpose: torch.Generator(device) for purpose in ("order", "augment", "attack", "noise")}
        self.noise = self.draws["noise"]
        recorder = recorder or recorder_for(model, data.shape, batch, device)
        self.replayed = Replayed(recorder, batch, [*self.draws.values()]) if recorder else None
        if self.replayed and not self.optimisation.recordable:
            self.replayed.why_not = "its optimiser or its penalty is given the learning rate as a number"
        self.steps = (phase.epochs - phase.start) * len(self.sizes)
        self.initial = state.mask_sparsity()
        self.completed = -1
        self.validation = Validation(phase, data.validation, self.device, self.format)
        self.frozen = self._attack_model() if self.training.loss.attacks else None

    def _attack_model(self) -> FrozenAttackModel:
        """Return the copy of the network that attacks see."""
        model = self.reparametrised.attacked if self.reparametrised else self.model
        example = self.pixels(self.index(min(_EXAMPLES, len(self.split))))
        return FrozenAttackModel(model, self.precision, example, self.masks if self.phase.sparse else None)

    def epochs(self, resume: tuple[int, Checkpoint] | None) -> Iterator[Epoch]:
        """Train all epochs of the phase, or those after the completed ones of `resume`."""
        first = self.phase.start
        if resume is not None:
            first, checkpoint = resume
            self.hold(checkpoint.get("masks", {}))
            self.optimisation.load(checkpoint)
            self.validation.load(checkpoint)
            self.selection.load(checkpoint)
        for epoch in range(first, self.phase.end):
            yield self.epoch(epoch)

    def index(self, images: int) -> Tensor:
        """Return the indices of the first images."""
        return torch.arange(images, device=self.device)

    def pixels(self, index: Tensor, draws: torch.Generator | None = None) -> Tensor:
        """Return images of the training split in the network's memory format, augmented if there is a generator."""
        images = self.split.x.index_select(0, index)
        if draws is not None and (self.training.crop or self.training.flip):
            images = augment(images, crop=self.training.crop, flip=self.training.flip, generator=draws)
        return as_pixels(images.contiguous(memory_format=self.format), self.split.scale)

    def epoch(self, epoch: int) -> Epoch:
        """Train one epoch.

        Layers that draw from torch's own generators, such as dropout, find them seeded by the key and the epoch.
        """
        with isolated(derive(self.key, epoch, "network"), self.device):
            return self._epoch(epoch)

    def _epoch(self, epoch: int) -> Epoch:
        began = time.perf_counter()
        self.completed = -1
        for purpose, draws in self.draws.items():
            draws.manual_seed(derive(self.key, epoch, purpose))
        if self.weights is not None:
            self.weights.begin(epoch)
            self._forget()
        self.loss, self.attack = self.training.loss_at(epoch), self.selection.attack
        n, batch = len(self.split), self.training.batch
        steps = len(self.sizes)
        losses = torch.zeros(steps, device=self.device)
        hits = torch.zeros((), dtype=torch.long, device=self.device)
        lr = eps = 0.0
        for step, index in enumerate(batches(n, batch, self.draws["order"], none_of_one=self.none_of_one)):
            at = epoch + step / steps
            lr = self.training.optimiser.lr * self.training.schedule.factor(at, self.phase.epochs)
            eps = self.training.eps_at(at)
            number = (epoch - self.phase.start) * steps + step + 1
            due = self.phase.rewiring.due(number, self.steps)
            given = Given(self.loss, self.attack, eps, self._climbs(at), keep_gradients=due)
            losses[step], right = self._step(index, given, lr=lr, number=number)
            hits += right
            if due:
                self._check_finite(epoch, losses[: step + 1])
                self._update_masks(number)
            if self.validation.due(step, steps):
                self._validate(epoch, step, steps, eps)
            if (step + 1) % _CHECK_EVERY == 0:
                self._check_finite(epoch, losses[: step + 1])
        self._check_finite(epoch, losses)
        self.completed = epoch + 1
        accuracy = int(hits) / n
        if self.training.select:
            settled = self.phase.rewiring.settled((epoch + 1 - self.phase.start) * steps, self.steps)
            settled = settled and self.phase.weights.settled(epoch + 1, self.phase.epochs)
            state = self.optimisation.state(self.masks)
            self.selection.measure(epoch + 1, self.model, state, accuracy, eligible=settled)
        return Epoch(
            epoch=epoch + 1,
            epochs=self.phase.epochs,
            loss=float((losses * self.weighting).sum() / n),
            accuracy=accuracy,
            lr=lr,
            eps=eps,
            seconds=time.perf_counter() - began,
            precision=self.precision,
            state=lambda: self._state(self._unchanged(epoch + 1)),
            checkpoint=lambda: self._checkpoint(self._unchanged(epoch + 1)),
            images=n,
            validation_loss=self.validation.latest(epoch * steps),
            held_back=self.selection.latest if self.training.select else None,
            replayed=self.replayed.steps if self.replayed else 0,
            not_replayed=self.replayed.why_not if self.replayed else None,
        )

    def _state(self, optimisation: Optimisation) -> State:
        state = replace(optimisation.state(self.masks), history=self.validation.history())
        # Before the end no epoch is chosen: a snapshot is of its epoch, and a training in two parts is one.
        state = self.selection.handed_on(state) if self.completed == self.phase.epochs else state
        return replace(state, notes={**self.notes, **state.notes})

    def _checkpoint(self, optimisation: Optimisation) -> dict[str, Tensors]:
        more = {"history": self.validation.history(), **self.selection.checkpoint()}
        if not isinstance(self.phase.rewiring, Fixed):
            more["masks"] = dict(self.masks)
        return {**optimisation.checkpoint(), **more}

    def hold(self, masks: Tensors) -> None:
        """Continue with other masks, if there are any."""
        if masks:
            self.masks = {name: mask.to(self.device) for name, mask in masks.items()}
            self.optimisation.change_masks(self.masks)
            self._forget()

    def _step(self, index: Tensor, given: Given, *, lr: float, number: int) -> Found:
        self.optimisation.set_rate(lr)
        found = self.replayed(self._descend, index, given) if self.replayed else self._descend(index, given)
        self.optimisation.follow(number)
        return found

    def _descend(self, index: Tensor, given: Given) -> Found:
        """Do all of a step that a graph may replay."""
        y = self.split.y.index_select(0, index)
        x = self.pixels(index, self.draws["augment"])
        adversary = self._adversary(given.attack, given.eps, self.draws["attack"])
        back = None
        if any(given.climbs.values()):
            adversary = Once(adversary)
            trained, buffers = self.optimisation.trained, dict(named_buffers(self.model))
            back = climb(lambda: self._terms(adversary, x, y).loss, trained, self.masks, buffers, given.climbs)
        found = self._terms(adversary, x, y)
        self.optimisation.descend(found.loss, back=back, keep_gradients=given.keep_gradients)
        return found.loss.detach(), correct(found.logits.detach(), y).sum()

    def _forget(self) -> None:
        if self.replayed:
            self.replayed.forget()

    def _climbs(self, at: float) -> Mapping[str, float]:
        """Return by what share of its norm each trained tensor moves up the loss, `at` epochs into the training.

        Vectors (biases, batch norms' scales and shifts) stay, but for those that the reparametrisation moves.
        """
        awp = self.training.awp_at(at)
        if not awp and self.weights is None:
            return {}
        own = {name: awp for name, p in self.model.named_parameters() if p.dim() > 1}
        if self.weights is None:
            return own
        return {**own, **self.weights.climbs(at / self.phase.epochs, awp)}

    def _update_masks(self, number: int) -> None:
        context = MaskUpdateContext(
            step=number,
            steps=self.steps,
            params=self.optimisation.values(),
            masks=self.masks,
            gradients=self.optimisation.gradients,
            initial=self.initial,
            results=self.selection.results,
            generator=generator(self.key, number, "rewire", self.device),
        )
        self.hold(self.phase.rewiring.masks(context))

    def _terms(self, adversary: Adversary, x: Tensor, y: Tensor) -> Terms:
        penalty = self.training.activation_l1
        with recorded(self.model) if penalty else nullcontext[list[Tensor]]([]) as outputs:
            found = self.loss.terms(self._forward, adversary, x, y, self.training.label_smoothing)
        if not penalty:
            return found
        if not outputs:
            raise SpecError(
                "activation_l1: the network has no activation layers, that is, modules such as nn.ReLU or nn.GELU; "
                "leave it at 0"
            )
        return replace(found, loss=found.loss + penalty * activity(outputs))

    def _adversary(self, attack: Attack, eps: float, draws: torch.Generator) -> Adversary:
        """Return an attack on the network as it is now."""
        logits_fn: LogitsFn = self._forward
        if self.frozen is not None and self.reparametrised is not None:
            logits_fn = self.reparametrised.adversary(self.frozen, self.noise)
        elif self.frozen is not None:
            self.frozen.outdate()  # Not refreshed at once: within a radius of 0 nothing is attacked.
            logits_fn = self.frozen
        return Adversary(attack, logits_fn, eps, draws, self.training.attack_labels)

    def _validate(self, epoch: int, step: int, steps: int, eps: float) -> None:
        draws = generator(self.key, epoch, f"validation-{step}", self.device)
        if self.weights is not None:
            noise, self.noise = self.noise, draws
        self.model.eval()
        loss = self.validation.loss(self._forward, self._adversary(self.training.attack, eps, draws))
        self.model.train()
        if self.weights is not None:
            self.noise = noise
        self.validation.note(epoch * steps + step + 1, steps, loss)

    def _forward(self, x: Tensor) -> Tensor:
        if self.perceptron is not None:
            return self.perceptron(x)
        mixed: AbstractContextManager[object] = nullcontext()
        if self.precision == "bf16":
            mixed = torch.autocast(self.device.type, torch.bfloat16)
        with mixed:
            logits: Tensor = self.reparametrised.forward(x, self.noise) if self.reparametrised else self.model(x)
        return logits

    def _unchanged(self, epoch: int) -> Optimisation:
        assert self.completed == epoch, "the tensors of an epoch must be read before the next one begins"
        return self.optimisation

    def _check_finite(self, epoch: int, losses: Tensor) -> None:
        """Check the weights, and the losses of the steps since the last check."""
        first = (len(losses) - 1) // _CHECK_EVERY * _CHECK_EVERY
        extras = self.weights.extras.values() if self.weights else ()
        norms = torch.stack(torch._foreach_norm([*self.model.parameters(), *extras]))
        if bool(torch.cat([losses[first:], norms]).isfinite().all()):
            return
        for at in range(first, len(losses)):
            if not bool(losses[at].isfinite()):
                raise Diverged(f"the training loss is {losses[at].item()} in epoch {epoch + 1}, step {at + 1}")
        raise Diverged(f"weights are no longer finite in epoch {epoch + 1}, step {len(losses)}")


def memory_format(model: nn.Module) -> torch.memory_format:
    """Return the memory format that suits a network: channels last where there are convolutions, of images alone."""
    convolutional = any(isinstance(module, nn.Conv2d) for module in model.modules())
    convolutional = convolutional and not any(t.dim() == 5 for t in named_tensors(model).values())
    return torch.channels_last if convolutional else torch.contiguous_format
