"""Models whose strongest adversarial input is known in closed form."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainables.attacks import run
from trainables.attacks.pgd import Pgd


class Linear(nn.Module):
    """Two classes, logits (w x, -w x): the margin falls fastest along -w, the same way everywhere."""

    def __init__(self, shape: tuple[int, ...], seed: int = 0) -> None:
        super().__init__()
        weight = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 0.1
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor) -> Tensor:
        score = (x * self.weight).flatten(1).sum(dim=1, keepdim=True)
        return torch.cat([score, -score], dim=1)

    def downhill(self, y: Tensor) -> Tensor:
        """Return the direction, per image, that raises the loss of label y."""
        sign = torch.where(y == 0, -1.0, 1.0).reshape(-1, *[1] * self.weight.dim())
        return sign * self.weight.detach()


def strongest_linf(model: Linear, x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
    """Return the exact maximiser of the loss in the l_inf ball and the box."""
    return (x + eps.reshape(-1, 1, 1, 1) * model.downhill(y).sign()).clamp(0, 1)


def strongest_l2(model: Linear, x: Tensor, y: Tensor, eps: Tensor) -> Tensor:
    """Return the exact maximiser in the l2 ball and the box: clip(t d) with the t that spends eps, by bisection."""
    x, direction = x.double(), model.downhill(y).double()
    low, high = torch.zeros(len(x)).double(), torch.full((len(x),), 1e6).double()

    def moved(t: Tensor) -> Tensor:
        return (x + t.reshape(-1, 1, 1, 1) * direction).clamp(0, 1)

    for _ in range(200):
        middle = (low + high) / 2
        within = (moved(middle) - x).flatten(1).norm(dim=1) <= eps
        low, high = torch.where(within, middle, low), torch.where(within, high, middle)
    return moved(low).float()


def trained_on_digits(norm: str, eps: float) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a network trained adversarially for a few epochs, and the images and labels it was trained on."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    y = torch.tensor(labels)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(64, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
    )
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(12):
        for index in torch.randperm(len(x), generator=torch.Generator().manual_seed(epoch)).split(128):
            draws = torch.Generator().manual_seed(0)
            adversarial = run(Pgd(norm=norm, steps=5), model, x[index], y[index], eps=eps, generator=draws, keep="last")
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(adversarial), y[index]).backward()
            optimiser.step()
    return model.eval(), x, y
