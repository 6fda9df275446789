"""The Gaussian process and the expected hypervolume improvement, compared with other computations
of the same numbers.
"""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import approx_fprime
from scipy.stats import lognorm
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, DotProduct, Matern

from nas.core.dominance import hypervolume
from nas.sampling import gaussian_process
from nas.sampling.gaussian_process import (
    JITTER,
    Columns,
    GaussianProcess,
    Hyperparameters,
    fit,
    matern,
    standardized,
)
from nas.sampling.improvement import boxes, expected_improvement, expected_shortfall

COLUMNS = Columns(groups=np.array([0, 1, 1, 2]), values=np.array([-1, 0, 1, -1]))


def data(count=40):
    rng = np.random.default_rng(1)
    inputs = rng.random((count, 4))
    return inputs, np.sin(4 * inputs[:, 0]) + inputs[:, 1] * inputs[:, 3] + 0.05 * rng.normal(
        size=count
    )


def test_the_posterior_is_scikit_learns():
    """With the same covariance and hyperparameters, mean and deviation agree to eight digits."""
    inputs, outputs = data()
    parameters = Hyperparameters(
        lengths=np.log([0.7, 1.3, 2.0, 0.9, 1.2]), signal=0.3, linear=-1.0, noise=-4.0
    )
    kernel = ConstantKernel(np.exp(0.3)) * Matern(
        np.array([0.7, 1.3 * 0.9, 1.3 * 1.2, 2.0]), nu=2.5
    ) + ConstantKernel(np.exp(-1.0) / 3) * DotProduct(sigma_0=1e-12)
    theirs = GaussianProcessRegressor(kernel, alpha=np.exp(-4.0) + JITTER, optimizer=None)
    target, centre, scale = standardized(outputs)
    theirs.fit(inputs, target)
    at = np.random.default_rng(2).random((25, 4))
    mean, deviation = theirs.predict(at, return_std=True)
    process = GaussianProcess(
        inputs=inputs, outputs=outputs, columns=COLUMNS, hyperparameters=parameters
    )
    ours = process.predict(at)
    assert np.allclose(ours[0], mean * scale + centre, rtol=1e-8)
    assert np.allclose(ours[1], deviation * scale, rtol=1e-8)
    assert np.allclose(process.mean(at), ours[0])
    observed = process.predict(at, noise=True)
    assert np.array_equal(observed[0], ours[0])
    assert np.allclose(observed[1] ** 2 - ours[1] ** 2, np.exp(-4.0) * scale**2)


def test_the_fit_starts_at_the_prior_and_its_gradient_is_that_of_differences(monkeypatch):
    """L-BFGS receives the loss and its exact gradient."""
    seen = {}
    monkeypatch.setattr(
        gaussian_process,
        "minimize",
        lambda loss, start, **_: (
            seen.update(loss=loss, start=start) or type("Found", (), {"x": start})
        ),
    )
    fit(*data(), COLUMNS)
    at = seen["start"] + 0.3
    value, gradient = seen["loss"](at)
    assert np.isfinite(value)
    assert np.allclose(
        gradient, approx_fprime(at, lambda x: seen["loss"](x)[0], 1e-6), rtol=1e-3, atol=1e-3
    )


def test_noise_is_learned_and_an_input_without_effect_gets_the_longest_scale():
    """The outputs have noise of 0.05, and their third input has no effect."""
    rng = np.random.default_rng(3)
    inputs = rng.random((150, 3))
    outputs = np.sin(6 * inputs[:, 0]) + np.cos(5 * inputs[:, 1]) + 0.05 * rng.normal(size=150)
    parameters = fit(inputs, outputs, Columns(np.arange(3), np.full(3, -1)))
    assert np.sqrt(np.exp(parameters.noise)) * outputs.std() == pytest.approx(0.05, rel=0.3)
    assert parameters.lengths.argmax() == 2


def test_matern_has_its_closed_form():
    """The kernel at d = 1 is (1 + r + r^2 / 3) exp(-r) with r = sqrt(5) d."""
    root = np.sqrt(5)
    assert matern(np.array([1.0]))[0] == pytest.approx((1 + root + 5 / 3) * np.exp(-root))


@pytest.mark.parametrize("costs", [1, 2, 3, 4])
def test_expected_improvement_equals_the_mean_of_many_draws(costs):
    """A Monte Carlo estimate with moocore's hypervolume agrees within five standard errors."""
    rng = np.random.default_rng(costs)
    front = rng.random((10, 1 + costs))
    reference = np.full(1 + costs, 0.95)
    at, mean, deviation = (
        rng.random((4, costs)) * 0.8,
        np.log(rng.random(4) * 0.5),
        np.array([0.05, 0.3, 0.6, 1.0]),
    )
    exact = expected_improvement(
        mean=mean, deviation=deviation, costs=at, front=front, reference=reference
    )
    before = hypervolume(front, reference.tolist())
    for i in range(4):
        errors = rng.lognormal(mean[i], deviation[i], 1500)
        gains = [
            hypervolume(np.vstack([front, [error, *at[i]]]), reference.tolist()) - before
            for error in errors
        ]
        assert exact[i] == pytest.approx(
            np.mean(gains), abs=5 * np.std(gains) / np.sqrt(1500) + 1e-9
        )


def test_a_certain_error_improves_by_the_difference_of_hypervolumes():
    """The deviation is next to 0. A candidate beyond the reference improves nothing."""
    front = np.array([[0.2, 0.8, 0.6], [0.5, 0.3, 0.7], [0.6, 0.6, 0.2]])
    at = np.array([[0.4, 0.4], [0.1, 0.9], [1.2, 0.1]])
    exact = expected_improvement(
        mean=np.log(np.full(3, 0.4)),
        deviation=np.full(3, 1e-9),
        costs=at,
        front=front,
        reference=np.ones(3),
    )
    whole = [
        hypervolume(np.vstack([front, [0.4, *c]]), [1.0] * 3) - hypervolume(front, [1.0] * 3)
        for c in at
    ]
    assert exact == pytest.approx(whole, abs=1e-8)


@pytest.mark.parametrize("costs", [1, 2, 3, 4])
def test_boxes_make_up_the_region_that_the_front_dominates(costs):
    """Volume times (reference - error) sums to moocore's hypervolume, with ties in every
    coordinate. With two costs there are at most two boxes for each member.
    """
    rng = np.random.default_rng(costs)
    front = rng.integers(0, 20, (80, 1 + costs)) / 20
    members = [tuple(member) for member in front[np.argsort(front[:, 0], kind="stable")].tolist()]
    parts = list(boxes(members, (1.0,) * costs))
    whole = sum(np.prod(np.subtract(high, low)) * (1.0 - level) for low, high, level in parts)
    assert whole == pytest.approx(hypervolume(front, [1.0] * (1 + costs)))
    assert costs > 2 or len(parts) <= 2 * len(front)


def test_without_a_front_the_improvement_is_the_box_times_the_shortfall():
    """E[max(r - e, 0)] equals the integral over the density of a log-normal error."""
    at = np.array([[0.25, 0.5]])
    exact = expected_improvement(
        mean=np.full(1, -0.1),
        deviation=np.full(1, 0.2),
        costs=at,
        front=np.zeros((0, 3)),
        reference=np.ones(3),
    )
    shortfall = quad(lambda error: (1 - error) * lognorm.pdf(error, 0.2, scale=np.exp(-0.1)), 0, 1)[
        0
    ]
    assert exact == pytest.approx(0.75 * 0.5 * shortfall)
    assert expected_shortfall(np.ones(1), np.full(1, -0.1), np.full(1, 0.2)) == pytest.approx(
        shortfall
    )
