import numpy as np
import pytest
import torch
from uslt_oracles import global_loss, local_loss, sharpened

from usl_backend.selection.uslt.losses import GlobalLoss, LocalLoss, sharpen


def logits(b, c, *, seed, scale=2.0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(b, c)) * scale)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 0.25])
def test_sharpen__is_a_renormalised_power(temperature):
    rows = torch.softmax(logits(6, 5, seed=0), dim=1)
    expected = [sharpened(row, temperature) for row in rows.tolist()]
    np.testing.assert_allclose(sharpen(rows, temperature=temperature), expected, rtol=1e-12)


@pytest.mark.parametrize(("adjustment", "temperature"), [(5.0, 0.25), (2.5, 0.5), (0.0, 1.0)])
def test_local_loss__is_the_formula_over_several_batches(adjustment, temperature):
    c = 7
    loss = LocalLoss(adjustment, temperature, torch.full((c,), 1 / c, dtype=torch.float64))
    ema = [1 / c] * c
    for step in range(4):
        anchor, neighbor = logits(9, c, seed=step), logits(9, c, seed=100 + step)
        expected, after = local_loss(
            anchor.tolist(), neighbor.tolist(), ema, adjustment=adjustment, temperature=temperature
        )
        assert float(loss(anchor, neighbor)) == pytest.approx(expected, rel=1e-10)
        np.testing.assert_allclose(loss.ema, after, rtol=1e-12)
        assert float(loss.ema.sum()) == pytest.approx(1.0, rel=1e-12)
        ema = after


def test_local_loss__gradient_reaches_the_anchor_only_and_is_the_formula_s():
    c = 5
    anchor = logits(4, c, seed=0).requires_grad_()
    neighbor = logits(4, c, seed=1).requires_grad_()
    LocalLoss(2.5, 0.5, torch.full((c,), 1 / c, dtype=torch.float64))(anchor, neighbor).backward()
    assert neighbor.grad is None
    step = 1e-6
    for row, column in [(0, 0), (1, 3), (3, 4)]:
        ends = []
        for sign in (1, -1):
            moved = anchor.detach().clone()
            moved[row, column] += sign * step
            value, _ = local_loss(
                moved.tolist(), neighbor.tolist(), [1 / c] * c, adjustment=2.5, temperature=0.5
            )
            ends.append(value)
        assert float(anchor.grad[row, column]) == pytest.approx((ends[0] - ends[1]) / 2 / step, abs=1e-7)


def test_local_loss__adjustment_talks_large_clusters_down():
    ema = torch.tensor([0.9, 0.1], dtype=torch.float64)
    undecided = torch.zeros(1, 2, dtype=torch.float64)
    anchor = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    LocalLoss(2.5, 0.5, ema)(anchor, undecided).backward()
    # descent raises the logit of the small cluster
    assert anchor.grad[0, 1] < 0 < anchor.grad[0, 0]


def test_local_loss__cluster_that_nobody_meets_stays_finite():
    loss = LocalLoss(5.0, 0.25, torch.tensor([0.5, 0.5]))
    far = torch.tensor([[80.0, -80.0]])
    for _ in range(300):
        assert torch.isfinite(loss(far, far))
    assert (loss.ema > 0).all()


@pytest.mark.parametrize("balance", ["reweight", "renormalised", "none"])
@pytest.mark.parametrize("mean_outside_mask", [True, False])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.95])
def test_global_loss__is_the_formula(balance, mean_outside_mask, threshold):
    weak, strong = logits(40, 6, seed=2, scale=3.0), logits(40, 6, seed=3)
    options = {"threshold": threshold, "balance": balance, "mean_outside_mask": mean_outside_mask}
    expected, counts = global_loss(weak.tolist(), strong.tolist(), **options)
    assert sum(counts) > 0
    assert (sum(counts) < 40) == (threshold > 0)
    found, seen = GlobalLoss(**options)(weak, strong)
    assert float(found) == pytest.approx(expected, rel=1e-10)
    assert seen.tolist() == counts


def test_global_loss__nobody_sure_costs_nothing_and_has_a_gradient_of_zero():
    strong = logits(8, 4, seed=4).requires_grad_()
    loss, counts = GlobalLoss(0.99, "reweight", True)(torch.zeros(8, 4, dtype=torch.float64), strong)
    loss.backward()
    assert loss.item() == 0.0
    assert counts.sum() == 0
    assert (strong.grad == 0).all()


def test_global_loss__weak_view_carries_no_gradient():
    weak, strong = logits(8, 4, seed=5).requires_grad_(), logits(8, 4, seed=6).requires_grad_()
    GlobalLoss(0.0, "none", True)(weak, strong)[0].backward()
    assert weak.grad is None
    assert (strong.grad != 0).any()
