"""Ways to train adversarially, ours and the usual ones, with one interface: a generator that yields after each pass.

Every way trains the same network from the same start on the same images with PGD on the cross-entropy (l_inf, eps
8/255, step 2.5 eps / steps, random start), SGD with momentum, and the same batch size. The usual ways read their images
like torchvision's data sets: PIL image, `ToTensor`, a DataLoader in the same process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from trainables import models
from trainables.attacks.pgd import Pgd
from trainables.core.errors import DataError
from trainables.data import DATASETS, tensors
from trainables.data.tensors import Split, TrainingData
from trainables.engine.train import train
from trainables.method.phases import Train
from trainables.method.schedules import Constant
from trainables.method.training import Training
from trainables.models import MODELS
from trainables.optimisers.sgd import Sgd
from trainables.store.state import State

EPS = 8 / 255
LR = 0.01
MNIST, CIFAR = (1, 28, 28), (3, 32, 32)
NETS = {"lenet300": MNIST, "lenet5": MNIST, "resnet20": CIFAR, "resnet18": CIFAR}


@dataclass(frozen=True)
class Setup:
    """What all ways share: the network's name, images on the device, and the attack's length."""

    net: str
    data: TrainingData
    batch: int
    steps: int
    device: torch.device

    def network(self) -> nn.Module:
        d = self.data
        model = models.build(MODELS[self.net](), shape=d.shape, classes=d.classes, mean=d.mean, std=d.std, seed=0)
        return model.to(self.device)

    @property
    def step_size(self) -> float:
        return 2.5 * EPS / self.steps


def make_setup(net: str, *, images: int, batch: int, steps: int, device: torch.device) -> tuple[Setup, str]:
    """Return the first `images` training images a network is made for, and which they are."""
    shape = NETS[net]
    name = "mnist" if shape == MNIST else "cifar10"
    try:
        data, source = tensors.load(DATASETS[name](), device), name
    except DataError:
        generator = torch.Generator().manual_seed(0)
        x = torch.randint(256, (max(images, 1024), *shape), generator=generator).to(torch.uint8).to(device)
        split = Split(x, torch.randint(10, (len(x),), generator=generator).to(device), 255.0)
        data = TrainingData(split, split, 10, shape, (0.5,) * shape[0], (0.29,) * shape[0], "", "")
        source = f"random images shaped as {name}'s"
    repeats = -(-images // len(data.train))
    part = Split(data.train.x.repeat(repeats, 1, 1, 1)[:images], data.train.y.repeat(repeats)[:images], 255.0)
    few = TrainingData(part, data.validation, data.classes, data.shape, data.mean, data.std, "", "")
    return Setup(net, few, batch, steps, device), source


def ours(setup: Setup, precision: str) -> Iterator[None]:
    """Train with `trainables.engine.train`, one epoch a pass."""
    training = Training(
        batch=setup.batch,
        optimiser=Sgd(lr=LR),
        schedule=Constant(),
        attack=Pgd(steps=setup.steps, step_size=2.5 / setup.steps),
        eps=EPS,
        precision=precision,
    )
    model = setup.network()
    state = State.of(model)
    phase = Train(epochs=10**6, training=training)
    for _ in train(model, state, phase, setup.data, key="benchmark", device=setup.device):
        yield


class AsTorchvision(Dataset[tuple[Tensor, int]]):
    """Serve images as torchvision's MNIST and CIFAR-10 with `ToTensor` do: from an array through a PIL image."""

    def __init__(self, split: Split) -> None:
        from torchvision.transforms import ToTensor

        self.images = split.x.permute(0, 2, 3, 1).contiguous().cpu().squeeze(-1).numpy()
        self.labels = split.y.tolist()
        self.transform = ToTensor()

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


Attack = Callable[[nn.Module, Tensor, Tensor], Tensor]


def usual(setup: Setup, make_attack: Callable[[nn.Module, Setup], Attack]) -> Iterator[None]:
    """Train as tutorials do: DataLoader, attack, forward, backward, step."""
    model = setup.network()
    optimiser = torch.optim.SGD(model.parameters(), lr=LR, momentum=0.9, weight_decay=5e-4)
    loader = DataLoader(AsTorchvision(setup.data.train), batch_size=setup.batch, shuffle=True)
    attack = make_attack(model, setup)
    while True:
        model.train()
        for x, y in loader:
            x, y = x.to(setup.device), y.to(setup.device)
            adversarial = attack(model, x, y)
            loss = F.cross_entropy(model(adversarial), y)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        yield


def torchattacks_pgd(model: nn.Module, setup: Setup) -> Attack:
    """Return torchattacks.PGD, as its README uses it."""
    import torchattacks

    attack = torchattacks.PGD(model, eps=EPS, alpha=setup.step_size, steps=setup.steps, random_start=True)
    return lambda model, x, y: attack(x, y)


def robustness_manner(model: nn.Module, setup: Setup) -> Attack:
    """Attack as MadryLab's robustness does: eval mode, autograd.grad on the input, step and project objects.

    Its habit of keeping the best iterate, which costs more, is left out.
    """

    def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        was_training = model.training
        model.eval()
        original = x.detach()
        x = torch.clamp(original + 2 * (torch.rand_like(original) - 0.5) * EPS, 0, 1)
        for _ in range(setup.steps):
            x = x.clone().detach().requires_grad_(True)
            losses = F.cross_entropy(model(x), y, reduction="none")
            (gradient,) = torch.autograd.grad(torch.mean(losses), [x])
            with torch.no_grad():
                x = x + torch.sign(gradient) * setup.step_size
                x = torch.clamp(torch.clamp(x - original, -EPS, EPS) + original, 0, 1)
        model.train(was_training)
        return x.clone().detach()

    return attack


def backward_loop(model: nn.Module, setup: Setup) -> Attack:
    """Attack with `loss.backward()`, which computes the gradients of the weights too."""

    def attack(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        model.eval()
        delta = torch.empty_like(x).uniform_(-EPS, EPS).requires_grad_(True)
        for _ in range(setup.steps):
            loss = F.cross_entropy(model((x + delta).clamp(0, 1)), y)
            loss.backward()
            assert delta.grad is not None
            delta.data = (delta.data + setup.step_size * delta.grad.sign()).clamp(-EPS, EPS)
            delta.grad.zero_()
        model.train()
        return (x + delta.detach()).clamp(0, 1)

    return attack


WAYS: dict[str, Callable[[Setup], Iterator[None]]] = {
    "ours bf16": lambda setup: ours(setup, "bf16"),
    "ours fp32": lambda setup: ours(setup, "fp32"),
    "torchattacks": lambda setup: usual(setup, torchattacks_pgd),
    "robustness": lambda setup: usual(setup, robustness_manner),
    "backward": lambda setup: usual(setup, backward_loop),
}
