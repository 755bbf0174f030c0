import numpy as np
import pytest
from made import picked, pool

from usl_backend.errors import InputError
from usl_backend.suggestions import Control, label_check
from usl_backend.suggestions.checking import FOLDS, _folds


def spoiled(*, each=8, wrong=3, seed=0):
    rows, truth = pool(300, noise=0.5, seed=seed)
    labels = picked(truth, each=each)
    bad = np.random.default_rng(seed).choice(np.flatnonzero(labels >= 0), wrong, replace=False)
    labels[bad] = (labels[bad] + 1) % 3
    return rows, truth, labels, bad


def test_label_check__wrong_labels_come_first_with_the_right_class():
    rows, truth, labels, bad = spoiled()
    found = label_check(rows, labels)
    assert set(found.rows[:3]) == set(bad)
    assert np.array_equal(found.likely[:3], truth[found.rows[:3]])
    assert np.array_equal(found.label, labels[found.rows])
    assert (np.diff(found.doubt) <= 0).all()
    assert ((found.doubt >= 0) & (found.doubt <= 1)).all()
    assert sorted(found.rows) == np.flatnonzero(labels >= 0).tolist()
    assert len(found.unjudged) == 0


def test_label_check__a_label_does_not_vouch_for_itself():
    # Its own class has one other label only, far away: judged by itself it would be sure.
    rows, _truth, labels, _ = spoiled(each=3, wrong=0)
    found = label_check(rows, labels)
    odd = np.flatnonzero(labels == 0)[0]
    labels[odd] = 1
    spoilt = label_check(rows, labels)
    assert spoilt.rows[0] == odd
    assert found.doubt.max() < spoilt.doubt[0]


def test_label_check__the_only_label_of_a_class_is_not_judged():
    rows, _truth, labels, _ = spoiled(each=4, wrong=0)
    only = np.flatnonzero(labels == 2)
    labels[only[1:]] = -1
    found = label_check(rows, labels)
    assert found.unjudged.tolist() == [only[0]]
    assert only[0] not in found.rows


@pytest.mark.parametrize(
    ("each", "control", "enough"), [(3, False, False), (4, False, True), (3, True, True)]
)
def test_label_check__enough_from_four_per_class_or_with_control_labels(each, control, enough):
    rows, truth, labels, _ = spoiled(each=each, wrong=0)
    drawn = np.arange(200, 230)
    found = label_check(rows, labels, control=Control(drawn, truth[drawn]) if control else None)
    assert found.enough is enough
    assert (len(found.rows) == 3 * each + 30) is control


def test_label_check__a_pick_in_the_control_set_keeps_its_label_and_the_array_given_is_left_alone():
    rows, truth, labels, bad = spoiled()
    before = labels.copy()
    found = label_check(rows, labels, control=Control(bad, truth[bad]))
    assert np.array_equal(labels, before)
    assert np.array_equal(found.label, labels[found.rows])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2], "3 labels, and no class has two of them"),
        ([], "there are no labels"),
        ([1, 1, 1], "all 3 labels are of class 1"),
    ],
)
def test_label_check__names_what_cannot_be_judged(labels, message):
    rows, _ = pool(60)
    given = np.full(60, -1)
    given[: len(labels)] = labels
    with pytest.raises(InputError, match=message):
        label_check(rows, given)


def test_label_check__control_of_a_class_outside_the_range():
    rows, _, labels, _ = spoiled()
    with pytest.raises(InputError, match="label of row 290 is 7 but classes is 3"):
        label_check(rows, labels, control=Control(np.array([290]), np.array([7])), classes=3)


@pytest.mark.parametrize("sizes", [[2, 1], [30, 2, 2, 9], [1] * 25 + [2]])
def test_folds__no_class_of_two_loses_all_its_labels(sizes):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    folds = _folds(labels, np.random.default_rng(0))
    assert set(folds) == set(range(min(FOLDS, len(labels))))
    for kind, size in enumerate(sizes):
        if size > 1:
            assert len(set(folds[labels == kind])) > 1
