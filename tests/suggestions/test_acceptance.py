import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import as_suggestions, simulated
from scipy.stats import beta

from usl_backend.errors import InputError
from usl_backend.suggestions import Control, accept, clopper_pearson, controls_needed


@given(st.integers(1, 400), st.floats(0, 1), st.sampled_from([0.05, 0.1, 0.3]))
def test_clopper_pearson__is_the_quantile_of_the_beta(count, share, delta):
    right = round(share * count)
    expected = beta.ppf(delta, right, count - right + 1) if right else 0.0
    assert clopper_pearson(right, count, delta=delta) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("target", "delta", "mistakes", "needed"),
    [
        (0.95, 0.1, 0, 45),
        (0.95, 0.05, 0, 59),
        (0.9, 0.1, 0, 22),
        (0.99, 0.1, 0, 230),
        (0.95, 0.1, 1, 77),
        (0.95, 0.95**14, 0, 14),
    ],
)
def test_controls_needed__is_the_least_that_passes(target, delta, mistakes, needed):
    assert controls_needed(target, delta=delta, mistakes=mistakes) == needed
    assert clopper_pearson(needed - mistakes, needed, delta=delta) >= target - 1e-9
    assert clopper_pearson(needed - 1 - mistakes, needed - 1, delta=delta) < target


def literal(suggestions, control, target, delta):
    """Longest prefix before the first that fails, by scipy; number of control rows in it."""
    rows = sorted(control.rows, key=lambda row: (-suggestions.confidence[row], row))
    truth = dict(zip(control.rows, control.labels, strict=True))
    least = int(np.ceil(np.log(delta) / np.log(target) - 1e-9))
    right, reached = 0, 0
    for n, row in enumerate(rows, 1):
        right += suggestions.label[row] == truth[row]
        if n >= least:
            if right == 0 or beta.ppf(delta, right, n - right + 1) < target - 1e-12:
                break
            reached = n
    return rows[:reached]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 250), st.sampled_from([0.7, 0.9, 0.95]), st.integers(0, 10_000))
def test_accept__is_the_literal_rule(size, target, seed):
    rng = np.random.default_rng(seed)
    suggestions, truth, _ = simulated(1000, rng=rng, steepness=12, middle=0.2)
    rows = rng.choice(1000, size, replace=False)
    control = Control(rows, truth[rows])
    found = accept(suggestions, control=control, target=target)
    prefix = literal(suggestions, control, target, 0.1)
    assert found.controls == size
    if not prefix:
        assert (found.threshold, found.count, found.lower) == (None, 0, None)
        assert not found.accepted.any()
        assert found.missing > 0
        return
    assert found.threshold == suggestions.confidence[prefix[-1]]
    expected = suggestions.confidence >= found.threshold
    expected[rows] = False
    assert np.array_equal(found.accepted, expected)
    assert found.count == expected.sum()
    assert found.lower >= target - 1e-9
    assert found.missing == 0


@pytest.mark.parametrize(("target", "delta"), [(0.95, 0.1), (0.9, 0.1), (0.9, 0.05)])
def test_accept__runs_below_the_promise_are_rarer_than_delta(target, delta):
    rng = np.random.default_rng(1)
    below = accepting = 0
    for _ in range(400):
        suggestions, truth, _ = simulated(4000, rng=rng, steepness=9, middle=0.35)
        rows = rng.choice(4000, 100, replace=False)
        found = accept(suggestions, control=Control(rows, truth[rows]), target=target, delta=delta)
        accepting += found.count > 0
        below += found.count > 0 and (suggestions.label == truth)[found.accepted].mean() < target
    assert accepting > 40
    assert below / 400 <= delta


def test_accept__rows_of_equal_confidence_go_together():
    # 60 of one confidence, one of them wrong: no prefix of 45 may be cut out of them.
    confidence = np.full(200, 0.8)
    labels = np.arange(200) % 2
    control = np.arange(60)
    truth = labels.copy()
    truth[59] ^= 1
    found = accept(as_suggestions(labels, confidence), control=Control(control, truth[control]))
    assert found.count == 0
    truth[59] ^= 1
    found = accept(as_suggestions(labels, confidence), control=Control(control, truth[control]))
    assert found.count == 140


def test_accept__says_what_is_missing():
    # The 34th surest of 60 is wrong.
    labels = np.arange(300) % 3
    suggestions = as_suggestions(labels, np.linspace(0.99, 0.3, 300))
    rows = np.arange(0, 300, 5)
    truth = labels.copy()
    truth[rows[33]] += 1
    found = accept(suggestions, control=Control(rows, truth[rows]))
    assert str(found) == "none can be accepted at 95 %: 60 control labels, 12 more needed at least"
    # Twelve right ones before it, and it passes; eleven are not enough.
    for more, count in ((11, 0), (12, 1)):
        surer = np.concatenate([rows, np.setdiff1d(np.arange(0, 160), rows)[:more]])
        assert (accept(suggestions, control=Control(surer, truth[surer])).count > 0) == count


def test_accept__ninety_nine_percent_says_what_it_would_take():
    labels = np.arange(300) % 3
    rows = np.arange(100)
    found = accept(
        as_suggestions(labels, np.linspace(0.99, 0.3, 300)), control=Control(rows, labels[rows]), target=0.99
    )
    assert (found.count, found.needed, found.missing) == (0, 230, 130)
    assert str(found) == (
        "none can be accepted at 99 %: 100 control labels, 130 more needed at least "
        "(99 % takes 230 without a mistake)"
    )


def test_accept__nothing_without_a_control_set():
    found = accept(as_suggestions([0, 1] * 50, np.full(100, 0.999)))
    assert str(found) == (
        "none can be accepted at 95 %: 0 control labels, 45 more needed at least (95 % takes 45 without a mistake)"
    )
    assert not found.accepted.any()


def test_accept__never_given_or_control_rows():
    labels = np.arange(300) % 3
    given = np.arange(300) < 20
    suggestions = as_suggestions(labels, np.where(given, 1.0, np.linspace(0.99, 0.3, 300)), given)
    rows = np.arange(0, 300, 2)
    found = accept(suggestions, control=Control(rows, labels[rows]))
    assert found.controls == 140
    assert not found.accepted[:20].any()
    assert not found.accepted[rows].any()
    assert found.accepted[21::2][:130].all()
    assert str(found).startswith(f"{found.count} accepted at 95 %: 140 control labels; about 10 % of such")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": 1.0}, "target is 1.0; give a share"),
        ({"target": 0.0}, "target is 0.0; give a share"),
        ({"target": float("nan")}, "target is nan; give a share"),
        ({"delta": 0.0}, "delta is 0.0; give a chance"),
        ({"delta": 0.6}, "delta is 0.6; give a chance"),
    ],
)
def test_accept__target_or_delta_out_of_range(options, message):
    with pytest.raises(InputError, match=message):
        accept(as_suggestions([0, 1], [0.5, 0.5]), **options)
