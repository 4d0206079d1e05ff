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


class Affine(nn.Module):
    """Several classes, affine logits: the distance to a face is the lead over the dual norm of its gradient."""

    def __init__(self, classes: int, pixels: int = 16, seed: int = 0) -> None:
        super().__init__()
        self.weight = torch.randn(classes, pixels, generator=torch.Generator().manual_seed(seed)) * 0.25
        self.bias = -self.weight @ torch.full((pixels,), 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.weight.T + self.bias

    def batch(self, n: int = 24) -> tuple[Tensor, Tensor]:
        """Draw images far from the box's faces, labelled as the network sees them but for the first three."""
        x = torch.rand(n, 1, 4, 4, generator=torch.Generator().manual_seed(1)) * 0.2 + 0.4
        y = self(x).argmax(dim=1)
        y[:3] = (y[:3] + 1) % len(self.bias)
        return x, y

    def distance(self, x: Tensor, y: Tensor, norm: str) -> Tensor:
        """Return the distance to the nearest face (N,), 0 where an image is misclassified, as if there were no box."""
        logits = self(x)
        lead = logits.gather(1, y[:, None]) - logits
        slope = self.weight[y][:, None] - self.weight[None]
        size = torch.linalg.vector_norm(slope, ord={"linf": 1, "l2": 2}[norm], dim=2)
        distance = torch.where(torch.arange(len(self.bias)) == y[:, None], torch.inf, lead / size.clamp_min(1e-12))
        return distance.amin(dim=1).clamp_min(0)


def curved(n: int = 60) -> tuple[nn.Module, Tensor, Tensor]:
    """Return a small network with curved faces, images, and the labels that it gives them."""
    torch.manual_seed(0)
    layers = [nn.Flatten(), nn.Linear(36, 40), nn.Tanh(), nn.Linear(40, 6)]
    net = nn.Sequential(*layers).requires_grad_(False)
    for layer in (net[1], net[3]):
        layer.weight *= 6
    net[3].bias -= net(torch.full((1, 1, 6, 6), 0.5))[0]
    x = torch.rand(n, 1, 6, 6, generator=torch.Generator().manual_seed(1))
    return net, x, net(x).argmax(dim=1)
