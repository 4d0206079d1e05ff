"""K-FAC against per-image gradients, whole Hessians, and convolutions written out position by position."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from tests.trainables.models.factories import Rows
from tests.trainables.pruning.factories import SHAPE, build, context, network
from trainables.core.errors import SpecError
from trainables.pruning.curvature import Factors, factors
from trainables.pruning.mad import Mad
from trainables.store.state import State


def images(number: int = 24) -> tuple[Tensor, Tensor]:
    draws = torch.Generator().manual_seed(4)
    x = torch.rand(number, 2, 6, 6, generator=draws, dtype=torch.float64)
    return x, torch.randint(0, 3, (number,), generator=draws)


def found(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Factors]:
    state = State.of(model)
    weights = {name: state.params[name] for name in state.masks}
    return dict(factors(network(state, model), weights, x, y))


def test_factors_of_a_linear_layer_are_those_of_its_per_image_gradients() -> None:
    """An image's gradient is g a' by the weight and g by the bias, from which both come back."""
    model = build().double().eval()
    params = {name: p.detach() for name, p in model.named_parameters()}
    x, y = images()

    def loss(params: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(functional_call(model, params, (image[None],)), label[None])

    by_image = vmap(grad(loss), in_dims=(None, 0, 0))(params, x, y)
    for layer, kind in found(model, x, y).items():
        if params[layer].dim() == 2:
            g = by_image[layer.replace("weight", "bias")]
            a = (by_image[layer] * g[:, :, None]).sum(dim=1) / g.square().sum(dim=1, keepdim=True)
            torch.testing.assert_close(kind.inputs, (a.T @ a / len(x))[None])
            torch.testing.assert_close(kind.outputs, (g.T @ g / len(x))[None])


@pytest.mark.parametrize("blocks", ["layer", "output", "weight"])
def test_damage_of_a_softmax_regression_is_half_the_form_of_its_hessian(blocks: Any) -> None:
    """With one image whose labels come as often as the network says they do, K-FAC is not an approximation."""
    counts = torch.tensor([12, 8, 4])
    one = images(1)[0]
    x, y = one.repeat(24, 1, 1, 1), torch.arange(3).repeat_interleave(counts)
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 3)).double()
    weight, bias = (p.detach() for p in model.parameters())
    bias.copy_((counts / 24).log() - weight @ one.flatten())

    def loss(w: Tensor) -> Tensor:
        return F.cross_entropy(F.linear(x.flatten(1), w, bias), y)

    whole = torch.autograd.functional.hessian(loss, weight)  # (outputs, inputs, outputs, inputs)
    change = torch.randn(weight.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    shares = found(model, x, y)["1.weight"].damage(change, blocks)
    parts = {"layer": "ijkl,kl->ij", "output": "ijil,il->ij", "weight": "ijij,ij->ij"}
    torch.testing.assert_close(shares, change * torch.einsum(parts[blocks], whole, change) / 2)


def test_damage_is_the_form_of_the_kronecker_product_and_an_outputs_is_never_negative() -> None:
    draws = torch.Generator().manual_seed(0)
    a, g, change = (torch.randn(*shape, generator=draws) for shape in ((9, 4), (9, 3), (3, 4)))
    kind = Factors((a.T @ a)[None], (g.T @ g)[None])
    flat = change.flatten()
    form = flat @ torch.kron(g.T @ g, a.T @ a) @ flat / 2
    torch.testing.assert_close(kind.damage(change, "layer").sum(), form)
    apart = kind.damage(change, "output")
    assert (apart.sum(dim=1) >= 0).all()
    torch.testing.assert_close(apart.sum(dim=1), torch.diag(g.T @ g) * ((change @ a.T) ** 2).sum(dim=1) / 2)
    assert (apart < 0).any()  # A weight's share alone may be.
    assert (kind.damage(change, "weight") >= 0).all()


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"stride": 2, "padding": 1},
        {"padding": 2, "dilation": 2, "bias": False},
        {"groups": 2, "padding": 1},
        {"padding": "same", "padding_mode": "reflect"},
    ],
    ids=str,
)
def test_factors_of_a_convolution_are_moments_of_patches_cut_by_hand(how: dict[str, Any], layout: Any) -> None:
    conv = nn.Conv2d(2, 4, 3, **how)
    model = nn.Sequential(conv, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)).double()
    x, y = images(5)
    x = x.contiguous(memory_format=layout)
    out = conv(x).detach().requires_grad_()
    loss = F.cross_entropy(model[4](model[3](model[2](out.relu()))), y, reduction="sum")
    (slope,) = torch.autograd.grad(loss, out)
    stride, dilation, groups = conv.stride[0], conv.dilation[0], conv.groups
    pad = 1 if how.get("padding") == "same" else how.get("padding", 0)
    padded = F.pad(x, [pad] * 4, mode=how.get("padding_mode", "constant"))
    a = torch.zeros(groups, 18 // groups, 18 // groups, dtype=torch.float64)
    g = torch.zeros(groups, 4 // groups, 4 // groups, dtype=torch.float64)
    places = [(n, i, j) for n in range(5) for i in range(out.shape[2]) for j in range(out.shape[3])]
    for n, i, j in places:
        rows, columns = (torch.arange(3) * dilation + stride * k for k in (i, j))
        window = padded[n][:, rows][:, :, columns]
        for group, (part, column) in enumerate(zip(window.chunk(groups), slope[n, :, i, j].chunk(groups), strict=True)):
            a[group] += torch.outer(part.flatten(), part.flatten()) / 5
            g[group] += torch.outer(column, column) / len(places)
    kind = found(model, x, y)["0.weight"]
    torch.testing.assert_close(kind.inputs, a)
    torch.testing.assert_close(kind.outputs, g)


def test_a_layer_that_is_called_twice_has_the_positions_of_both() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.outer = nn.Linear(72, 72), nn.Linear(72, 3)

        def forward(self, x: Tensor) -> Tensor:
            result: Tensor = self.outer(self.inner(self.inner(x.flatten(1)).relu()))
            return result

    model = Twice().double()
    x, y = images()
    once, again = x.flatten(1), model.inner(x.flatten(1)).relu().detach()
    kind = found(model, x, y)["inner.weight"]
    torch.testing.assert_close(kind.inputs, ((once.T @ once + again.T @ again) / len(x))[None])


def test_layers_whose_inputs_are_not_seen_are_refused_by_name() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(72, 3)

        def forward(self, x: Tensor) -> Tensor:
            return F.linear(x.flatten(1), self.layer.weight)

    for seen in (lambda: found(Hidden().double(), *images()), lambda: Mad().check(Hidden(), SHAPE)):
        with pytest.raises(SpecError, match=r"layer\.weight"):
            seen()


def test_layers_called_by_keyword_are_seen_and_those_behind_nothing_do_no_damage() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.aside = nn.Linear(72, 3), nn.Linear(72, 4)

        def forward(self, x: Tensor) -> Tensor:
            self.aside(x.flatten(1))
            logits: Tensor = self.layer(input=x.flatten(1))
            return logits

    x, y = images()
    by_name = found(Odd().double(), x, y)
    assert float(by_name["layer.weight"].inputs[0].trace()) == pytest.approx(float(x.square().sum()) / len(x))
    assert not by_name["aside.weight"].outputs.any()
    Mad().check(Odd(), SHAPE)
    scores = Mad(examples=24, batch=24, mask_steps=2).scores(context(Odd()))
    assert scores["layer.weight"].any()
    assert not scores["aside.weight"].any()


def test_attention_and_recurrent_layers_are_refused_before_anything_is_trained() -> None:
    with pytest.raises(SpecError, match=r"attention\.in_proj_weight is not known: .* attention or recurrent"):
        Mad().check(Rows(), (1, 8, 8))
    with pytest.raises(SpecError, match=r"weight_ih_l0 is not known"):
        Mad().check(nn.GRU(4, 3), (1, 4, 4))


def test_a_network_that_can_be_scored_is_left_as_it_was() -> None:
    model = build()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    Mad().check(model.train(), SHAPE)
    assert model.training
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
