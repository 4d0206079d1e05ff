"""The Square Attack on networks whose answer is known, and against the code of its authors."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.trainables.attacks.oracles import Affine, Linear, strongest_linf, trained_on_digits
from trainables.attacks import run
from trainables.attacks.losses import lead
from trainables.attacks.pgd import Pgd
from trainables.attacks.random_search import SEARCHES, _hill
from trainables.attacks.square import Square, _Pace


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_finds_the_corner_that_a_linear_network_is_weakest_at() -> None:
    """Single pixels decide at the end: after enough queries every channel of every pixel lies as the optimum has it."""
    shape = (1, 4, 4)
    model = Linear(shape)
    x = torch.rand(6, *shape, generator=generator(1))
    y = model(x).argmax(dim=1)
    eps = torch.full((6,), 1e-3)
    found = run(Square(queries=1000, rescale=True), model, x, y, eps=eps, generator=generator(), keep="last")
    torch.testing.assert_close(found, strongest_linf(model, x, y, eps))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_sees_through_rounding_which_hides_the_gradient(norm: str) -> None:
    net = Affine(4)
    x, y = net.batch(60)
    exact = net.distance(x, y, norm)
    eps = float(exact.median()) * 2

    def masked(z: Tensor) -> Tensor:
        return net((z * 255).round() / 255)

    for attack, least, most in ((Square(norm=norm, queries=500), 0.9, 1.0), (Pgd(norm=norm, steps=3), 0.0, 0.4)):
        found = run(attack, masked, x, y, eps=eps, generator=generator())
        broken = net(found).argmax(dim=1) != y
        assert least <= float(broken[(exact > 0) & (exact < 0.5 * eps)].float().mean()) <= most


@pytest.mark.parametrize("restarts", [1, 2])
def test_all_images_may_leave_at_the_same_input(restarts: int) -> None:
    x = torch.full((5, 1, 4, 4), 0.5)

    def right_at_x_alone(z: Tensor) -> Tensor:
        lead = torch.where((z == 0.5).flatten(1).all(dim=1), 1.0, -1.0)
        return torch.stack([lead, torch.zeros_like(lead)], dim=1)

    y = torch.zeros(5, dtype=torch.long)
    found = run(Square(queries=20, restarts=restarts), right_at_x_alone, x, y, eps=0.1, generator=generator())
    assert (right_at_x_alone(found).argmax(dim=1) != y).all()


@pytest.mark.parametrize("reach", [None, 1e-3])
def test_later_runs_keep_what_they_do_not_improve(reach: float | None) -> None:
    model = Linear((1, 8, 8))
    x = torch.rand(64, 1, 8, 8, generator=generator(1))
    y = model(x).argmax(dim=1)

    def leads(restarts: int) -> Tensor:
        attack = Square(queries=30, restarts=restarts, reach=reach)
        return lead(model(run(attack, model, x, y, eps=1e-3, generator=generator(), keep="last")), y)

    once, twice, thrice = (leads(restarts) for restarts in (1, 2, 3))
    assert (twice <= once).all()
    assert (thrice <= twice).all()
    assert (thrice < once).any() == (reach is None), "a run that gives up all images is the only one"


def test_an_image_leaves_at_its_first_misclassified_input() -> None:
    sizes: list[int] = []
    x = torch.full((4, 1, 4, 4), 0.5)
    limit = torch.tensor([0.5, 0.505, 0.51, 9.0])

    def mean_above(z: Tensor) -> Tensor:
        sizes.append(len(z))
        lead = limit[-len(z) :] - z.mean(dim=(1, 2, 3))
        return torch.stack([lead, torch.zeros_like(lead)], dim=1)

    found = run(Square(queries=200), mean_above, x, torch.zeros(4, dtype=torch.long), eps=0.1, generator=generator())
    assert sizes[0] == 4
    assert sorted(sizes[:-1], reverse=True) == sizes[:-1]
    assert sizes[-2] == 1, "only the last image cannot be broken"
    assert found.mean(dim=(1, 2, 3)).sub(limit).gt(0).tolist() == [True, True, True, False]


@pytest.mark.parametrize(
    ("rescale", "query", "side"),
    [
        (False, 0, 18),
        (False, 10, 18),
        (False, 11, 13),
        (False, 51, 9),
        (False, 4999, 2),
        (True, 4999, 1),
        (True, 6, 13),
    ],
)
def test_squares_shrink_by_the_schedule_of_the_paper(rescale: bool, query: int, side: int) -> None:
    assert Square(queries=5000, rescale=rescale)._side(query, (20, 20)) == side


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_proposals_fill_the_ball(norm: str) -> None:
    x = torch.full((8, 3, 12, 9), 0.5)
    eps = torch.linspace(0.1, 0.4, 8).view(-1, 1, 1, 1)
    search = SEARCHES[norm](x, eps, generator())
    for inputs in (search.first(), search.propose(5), search.propose(1)):
        delta = (inputs - x).flatten(1)
        if norm == "linf":
            torch.testing.assert_close(delta.abs().amax(dim=1), eps.flatten())
        else:
            torch.testing.assert_close(delta.norm(dim=1), eps.flatten())
        search.accept(inputs, torch.ones(8, dtype=torch.bool))


def test_squares_reach_every_pixel_and_each_image_has_its_own() -> None:
    x = torch.full((64, 1, 5, 7), 0.5)
    search = SEARCHES["linf"](x, 0.1, generator())
    changed = torch.zeros(5, 7)
    for _ in range(10):
        moved = search.propose(1) != x
        assert moved.flatten(1).sum(dim=1).eq(1).all()
        changed += moved.sum(dim=(0, 1))
    assert bool((changed > 0).all())


def test_a_hill_is_a_stack_of_rectangles() -> None:
    layers = torch.tensor([1 + 1 / 4 + 1 / 9, 1 / 4 + 1 / 9, 1 / 9])
    down = torch.tensor([2, 1, 0, 1, 2])
    expected = layers[torch.maximum(down[:, None], down[None, :])]
    torch.testing.assert_close(_hill(5, 5), expected / expected.norm())


def test_gives_up_what_its_pace_does_not_reach_unless_something_broke() -> None:
    leads = [torch.tensor([1.0, 1.0, 1.0]), torch.tensor([0.9, 0.6, 1.0])]
    # 3 x 0.1 x log2(5) is below 0.9, 3 x 0.4 x log2(5) above 0.6.
    wanted = [False, True, False]
    for broke in (False, True):
        pace = _Pace(1000, 3.0)
        pace.broke = broke
        assert pace.hopeful(100, leads[0]) is None
        found = pace.hopeful(200, leads[1])
        assert (found is None) if broke else (found is not None and found.tolist() == wanted)
        assert pace.hopeful(201, leads[1]) is None


def test_given_up_images_are_asked_no_more() -> None:
    asked: list[int] = []

    def certain(z: Tensor) -> Tensor:
        asked.append(len(z))
        return torch.stack([torch.ones(len(z)), torch.zeros(len(z))], dim=1)

    x = torch.rand(5, 1, 4, 4, generator=generator())
    run(Square(queries=100, reach=3.0), certain, x, torch.zeros(5, dtype=torch.long), eps=0.1, generator=generator())
    assert len(asked) == 1 + 20 + 1


@pytest.mark.slow
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_breaks_at_least_what_the_original_code_breaks(norm: str) -> None:
    square = pytest.importorskip("pyautoattack.square")
    eps = {"linf": 0.1, "l2": 0.5}[norm]
    model, x, y = trained_on_digits(norm, eps)
    x, y = x[:300], y[:300]
    correct = model(x).argmax(1) == y
    ours = run(Square(norm=norm, queries=300), model, x, y, eps=eps, generator=generator())
    names = {"linf": "Linf", "l2": "L2"}
    original = square.SquareAttack(
        lambda z: model(z).clone(), norm=names[norm], n_queries=300, eps=eps, seed=0, resc_schedule=False, device="cpu"
    )
    theirs = original.perturb(x[correct].clone(), y[correct].clone())
    left = [
        float((correct & (model(ours).argmax(1) == y)).sum()) / 300,
        float((model(theirs).argmax(1) == y[correct]).sum()) / 300,
    ]
    assert 0.4 < left[0] < 0.95, "a network on which the attacks can differ"
    assert left[0] <= left[1] + 0.005
