from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import check_grad, minimize_scalar
from scipy.stats import lognorm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import Matern, WhiteKernel

from search.samplers.ehvi.gp import Lengths, condition, evidence, fit

GROUPS = np.array([0, 1, 1, 2])


def data(n: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    x = draw.random((n, 4))
    return x, np.sin(4 * x[:, 0]) + 0.3 * x[:, 1] - x[:, 2] ** 2 + 0.02 * draw.standard_normal(n)


def test_it_predicts_what_scikit_learn_does() -> None:
    x, y = data()
    lengths, noise = np.array([0.3, 0.8, 2.0]), 0.01
    ours = condition(x, y, GROUPS, Lengths(lengths, noise))
    kernel = Matern(lengths[GROUPS], nu=2.5) + WhiteKernel(noise)
    theirs = GaussianProcessRegressor(kernel, optimizer=None, normalize_y=True).fit(x, y)
    x_test = np.random.default_rng(1).random((20, 4))
    mean, deviation = ours.predict(x_test)
    expected, spread = theirs.predict(x_test, return_std=True)
    np.testing.assert_allclose(mean, expected, rtol=1e-7)
    # Theirs includes the noise.
    np.testing.assert_allclose(deviation**2 + noise * y.std() ** 2, spread**2, rtol=1e-6)


def test_the_evidence_is_what_scikit_learn_says_and_its_slope_is_right() -> None:
    x, y = data()
    y = (y - y.mean()) / y.std()
    theta = np.log([0.3, 0.8, 2.0, 0.05])
    kernel = Matern(np.exp(theta[:3])[GROUPS], nu=2.5) + WhiteKernel(0.05)
    theirs = GaussianProcessRegressor(kernel, optimizer=None).fit(x, y)
    assert evidence(x, y, GROUPS, theta)[0] == pytest.approx(theirs.log_marginal_likelihood_value_, rel=1e-6)
    wrong = check_grad(
        lambda at: evidence(x, y, GROUPS, at)[0], lambda at: evidence(x, y, GROUPS, at)[1], theta, epsilon=1e-6
    )
    assert wrong < 1e-3


def test_lengths_tell_what_matters_and_how_noisy_it_is() -> None:
    draw = np.random.default_rng(3)
    x = draw.random((120, 3))
    y = np.sin(6 * x[:, 0]) + 0.1 * draw.standard_normal(120)
    found = fit(x, y, np.array([0, 1, 2]))
    assert found.lengths[0] < 1 < found.lengths[1:].min()
    assert math.sqrt(found.noise) * y.std() == pytest.approx(0.1, rel=0.3)


def test_a_length_of_which_nothing_is_known_is_the_one_of_highest_density() -> None:
    prior = lognorm(s=math.sqrt(3), scale=math.exp(math.sqrt(2) + math.log(3) / 2))
    mode = minimize_scalar(lambda length: -prior.pdf(length), bounds=(0.01, 20), method="bounded").x
    found = fit(np.zeros((1, 4)), np.zeros(1), GROUPS)
    np.testing.assert_allclose(found.lengths, mode, rtol=1e-3)


def test_it_fits_a_function_and_is_uncertain_far_from_observations() -> None:
    x, y = data(80)
    model = condition(x, y, GROUPS, fit(x, y, GROUPS))
    x_test = np.random.default_rng(2).random((50, 4))
    true = np.sin(4 * x_test[:, 0]) + 0.3 * x_test[:, 1] - x_test[:, 2] ** 2
    mean, deviation = model.predict(x_test)
    assert np.abs(mean - true).mean() < 0.1
    assert (np.abs(mean - true) < 3 * deviation + 0.02).mean() > 0.95
    assert model.predict(np.full((1, 4), 9.0))[1][0] > 3 * deviation.mean()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_few_points_and_equal_values_are_no_problem(n: int) -> None:
    x = np.random.default_rng(0).random((n, 4))
    model = condition(x, np.full(n, 0.5), GROUPS, fit(x, np.full(n, 0.5), GROUPS))
    mean, deviation = model.predict(x)
    assert mean == pytest.approx(np.full(n, 0.5))
    assert np.isfinite(deviation).all()


def test_points_may_repeat_and_features_be_absent() -> None:
    x = np.zeros((6, 0))
    y = np.array([0.1, 0.2, 0.1, 0.2, 0.1, 0.2])
    model = condition(x, y, np.zeros(0, int), fit(x, y, np.zeros(0, int)))
    assert model.predict(np.zeros((1, 0)))[0] == pytest.approx([0.15])
    x, y = np.zeros((6, 4)), y
    assert condition(x, y, GROUPS, fit(x, y, GROUPS)).predict(x[:1])[0] == pytest.approx([0.15])
