"""Coverage over budgets against brute force."""

import numpy as np
import pytest

from usl_backend.evaluation import budgets
from usl_backend.evaluation.budgets import budget_curve


@pytest.mark.parametrize("labeled", [0, 5])
def test_budget_curve__is_that_of_brute_force(labeled, monkeypatch):
    rng = np.random.default_rng(3)
    rows = rng.normal(size=(150, 4)).astype(np.float32)
    held = np.arange(labeled)
    order = labeled + rng.permutation(150 - labeled)[:60]
    drawn = []
    choice = np.random.Generator.choice

    class Draws:
        """The generator, remembering what it drew."""

        def __init__(self):
            self.rng = np.random.default_rng(7)

        def choice(self, *given, **more):
            drawn.append(choice(self.rng, *given, **more))
            return drawn[-1]

    found = budget_curve(rows, order, default=12, rng=Draws(), held=held)

    def nearest(picks):
        chosen = np.concatenate([held, picks]).astype(int)
        if not len(chosen):
            return np.full(150, np.inf)
        return ((rows[:, None, :].astype(float) - rows[chosen].astype(float)) ** 2).sum(axis=2).min(axis=1)

    short, long = drawn[: budgets.DRAWS], drawn[budgets.DRAWS :]
    assert {len(one) for one in short} == {12}
    assert {len(one) for one in long} == {60}
    assert not any(np.isin(one, held).any() for one in drawn)
    radius = np.median([nearest(one) for one in short])
    assert found.default == 12
    assert {1, 12, 60} <= set(found.budgets)
    assert list(found.budgets) == sorted(set(found.budgets))
    for budget, ours, random in zip(found.budgets, found.picks, found.random, strict=True):
        assert ours == pytest.approx((nearest(order[:budget]) <= radius).mean(), abs=0.008)
        mean = np.mean([(nearest(one[:budget]) <= radius).mean() for one in long])
        assert random == pytest.approx(mean, abs=0.008)
    assert found.before == pytest.approx((nearest(order[:0]) <= radius).mean(), abs=0.008)
