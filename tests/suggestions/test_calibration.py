import numpy as np
import pytest
from made import as_suggestions, simulated
from scipy.optimize import minimize

from usl_backend.errors import InputError
from usl_backend.suggestions import Control, calibrate
from usl_backend.suggestions.calibration import _fit


def test_fit__is_the_minimum_that_another_solver_finds():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(60, 3))
    right = features[:, 0] + rng.normal(size=60) > 0

    def loss(weights):
        scores = features @ weights[1:] + weights[0]
        return (
            (np.logaddexp(0, scores) - right * scores).sum()
            + np.logaddexp(0, weights[0]) - weights[0] / 2
            + (weights[1:] ** 2).sum() / 2
        )  # fmt: skip

    expected = minimize(loss, np.zeros(4), tol=1e-12).x
    np.testing.assert_allclose(_fit(features, right), expected, atol=1e-4)


@pytest.mark.parametrize("size", [50, 200])
def test_calibrate__chances_come_near_the_true_ones(size):
    rng = np.random.default_rng(size)
    off, raw = [], []
    for _ in range(40):
        suggestions, truth, chance = simulated(2000, rng=rng, steepness=8)
        rows = rng.choice(2000, size, replace=False)
        found = calibrate(suggestions, control=Control(rows, truth[rows]))
        assert found.controls == size
        off.append(np.abs(found.confidence - chance).mean())
        raw.append(np.abs(suggestions.confidence - chance).mean())
    assert np.mean(off) < (0.075 if size == 50 else 0.045)
    assert np.mean(off) < np.mean(raw) / 1.5


def test_calibrate__keeps_direction_and_given_labels():
    rng = np.random.default_rng(0)
    simulation, truth, _ = simulated(500, rng=rng)
    given = np.arange(500) < 10
    suggestions = as_suggestions(simulation.label, np.where(given, 1.0, simulation.confidence), given)
    found = calibrate(suggestions, control=Control(np.arange(100), truth[:100]))
    assert found.controls == 90
    assert (found.confidence[given] == 1).all()
    free = np.flatnonzero(~given)
    by_confidence = free[np.argsort(suggestions.confidence[free])]
    assert (np.diff(found.confidence[by_confidence]) >= 0).all()


def test_calibrate__labels_that_are_all_right_do_not_mean_certainty():
    labels = np.arange(200) % 2
    found = calibrate(
        as_suggestions(labels, np.linspace(0.2, 0.9, 200)), control=Control(np.arange(0, 200, 9), labels[::9])
    )
    assert 0.9 < found.confidence.min() < found.confidence.max() < 0.999 or found.confidence.max() < 0.999


def test_calibrate__equal_confidences_have_the_share_right():
    labels = np.arange(200) % 2
    truth = labels.copy()
    truth[:30] ^= 1
    found = calibrate(as_suggestions(labels, np.full(200, 0.5)), control=Control(np.arange(100), truth[:100]))
    np.testing.assert_allclose(found.confidence, (70 + 0.5) / 101, atol=1e-6)


def test_calibrate__too_few_labels_are_counted():
    with pytest.raises(InputError, match="12 control labels on suggestions; a calibration needs 20, 8 more"):
        calibrate(
            as_suggestions(np.arange(50) % 2, np.full(50, 0.5)),
            control=Control(np.arange(12), np.arange(12) % 2),
        )
