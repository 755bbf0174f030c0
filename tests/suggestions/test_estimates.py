import numpy as np
import pytest
from made import as_suggestions, simulated

from usl_backend.errors import InputError
from usl_backend.suggestions import Control, accuracy, unseen_share, wilson


@pytest.mark.parametrize(
    ("share", "count", "low", "high"),
    # figures of Newcombe 1998, table I
    [
        (81 / 263, 263, 0.2553, 0.3662),
        (15 / 148, 148, 0.0624, 0.1605),
        (0.0, 20, 0.0, 0.1611),
        (1.0, 29, 0.8830, 1.0),
    ],
)
def test_wilson__published_figures(share, count, low, high):
    assert wilson(share, count) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize("size", [50, 100])
@pytest.mark.parametrize("steepness", [0.0, 6.0, 12.0])
def test_accuracy__interval_holds_the_truth(size, steepness):
    rng = np.random.default_rng(size)
    held, strata, widths = 0, 0, []
    for _ in range(300):
        suggestions, truth, _ = simulated(3000, rng=rng, steepness=steepness)
        rows = rng.choice(3000, size, replace=False)
        found = accuracy(suggestions, control=Control(rows, truth[rows]))
        held += found.low <= (suggestions.label == truth).mean() <= found.high
        strata += found.strata > 1
        widths.append((found.high - found.low) / np.subtract(*wilson(found.share, size)[::-1]))
    assert held / 300 >= 0.94 - 2 * np.sqrt(0.05 * 0.95 / 300)
    # Strata are used where confidence tells right from wrong, and narrow the interval there.
    assert strata > 250 if steepness else strata < 250
    if steepness:
        assert np.mean(widths) < 0.95


def test_accuracy__counts_suggestions_alone():
    suggestions = as_suggestions([0, 1, 0, 1], [0.9, 1.0, 0.8, 0.7], np.arange(4) == 1)
    found = accuracy(suggestions, control=Control(np.arange(4), np.array([0, 1, 1, 1])))
    assert found.share == pytest.approx(2 / 3)
    assert (found.count, found.strata) == (3, 1)
    assert (found.low, found.high) == wilson(2 / 3, 3)
    assert found.reached(found.low)
    assert not found.reached(found.low + 1e-9)


def test_accuracy__a_share_of_one_stays_within_bounds():
    suggestions = as_suggestions(np.arange(500) % 2, np.linspace(0.1, 0.9, 500))
    found = accuracy(suggestions, control=Control(np.arange(0, 500, 3), np.arange(0, 500, 3) % 2))
    assert found.share == pytest.approx(1.0)
    assert 0.95 < found.low < 1.0
    assert found.high <= 1.0


def test_accuracy__strata_weigh_as_much_as_they_hold_of_the_pool():
    # Of the surest 600 rows all are right, of the others, which have more than their share of labels, a half.
    suggestions = as_suggestions(np.zeros(1000, dtype=int), np.linspace(0.99, 0.1, 1000))
    rows = np.concatenate([np.arange(0, 600, 12), np.arange(600, 1000, 10)])
    labels = np.where(rows < 600, 0, rows // 10 % 2)
    found = accuracy(suggestions, control=Control(rows, labels))
    assert found.strata == 5
    assert found.share == pytest.approx(0.6 + 0.4 * 0.5)


def test_accuracy__a_stratum_without_labels_leaves_the_plain_interval():
    suggestions = as_suggestions(np.zeros(1000, dtype=int), np.linspace(0.99, 0.1, 1000))
    found = accuracy(suggestions, control=Control(np.arange(0, 800, 10), np.arange(80) % 7 // 6))
    assert (found.strata, found.count) == (1, 80)


def test_accuracy__no_control_labels_no_figure():
    suggestions = as_suggestions([0, 1, 0], [1.0, 1.0, 0.5], np.arange(3) < 2)
    with pytest.raises(InputError, match="2 control labels, and none on a row without a given label"):
        accuracy(suggestions, control=Control(np.array([0, 1]), np.array([0, 1])))


def test_unseen_share__is_unbiased_and_counts_labeled_rows():
    rng = np.random.default_rng(0)
    truth = rng.choice(6, 2000, p=[0.4, 0.3, 0.1, 0.1, 0.05, 0.05])
    labels = np.full(2000, -1)
    for kind in range(4):
        labels[np.flatnonzero(truth == kind)[0]] = kind
    shares, held = [], 0
    for _ in range(200):
        rows = rng.choice(2000, 100, replace=False)
        found = unseen_share(labels, control=Control(rows, truth[rows]))
        shares.append(found.share)
        held += found.low <= (truth > 3).mean() <= found.high
    assert np.mean(shares) == pytest.approx((truth > 3).mean(), abs=0.01)
    assert held >= 180


def test_unseen_share__without_control_labels():
    with pytest.raises(InputError, match="there are no control labels"):
        unseen_share(np.array([0, -1]), control=Control(np.array([]), np.array([])))
