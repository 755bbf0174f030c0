from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made import picked, pool
from sklearn.datasets import load_digits

from usl_backend.errors import InputError, SelectionError
from usl_backend.selection import USL, Neighbors
from usl_backend.suggestions import suggest


@pytest.mark.parametrize(("each", "least"), [(1, 0.80), (4, 0.93)])
def test_suggest__digits_are_mostly_right(each, least):
    rows, truth = load_digits(return_X_y=True)
    picks = USL().select(rows, 10 * each, rng=0).indices
    labels = np.full(len(rows), -1)
    labels[picks] = truth[picks]
    found = suggest(rows, labels)
    assert (found.label[~found.given] == truth[~found.given]).mean() > least
    # Surer ones are right more often.
    free = found.order[~found.given[found.order]]
    right = found.label[free] == truth[free]
    assert right[: len(free) // 2].mean() > right[len(free) // 2 :].mean() + 0.03


@settings(max_examples=25, deadline=None)
@given(st.integers(6, 80), st.integers(2, 5), st.integers(0, 1000))
def test_suggest__keeps_what_it_promises(n, classes, seed):
    rows, truth = pool(n, classes=classes, noise=1.0, seed=seed)
    labels = picked(truth)
    found = suggest(rows, labels)
    assert np.array_equal(found.given, labels >= 0)
    assert np.array_equal(found.label[found.given], labels[found.given])
    assert set(found.label) <= set(found.classes) == set(labels[labels >= 0])
    assert (found.confidence[found.given] == 1).all()
    assert ((found.confidence > 0) & (found.confidence <= 1)).all()
    # Of the largest of `classes` shares.
    assert (found.confidence >= 1 / classes - 1e-5).all()
    assert ((found.agreement >= 0) & (found.agreement <= 1)).all()
    assert np.array_equal(np.sort(found.order), np.arange(n))
    assert found.given[found.order[: found.given.sum()]].all()
    assert (np.diff(found.confidence[found.order]) <= 0).all()


def test_suggest__renaming_classes_renames_suggestions():
    rows, truth = pool(120, noise=1.0)
    labels = picked(truth, each=2)
    names = np.array([4, 0, 9, -1])
    found, renamed = suggest(rows, labels), suggest(rows, names[labels])
    assert np.array_equal(names[found.label], renamed.label)
    np.testing.assert_allclose(found.confidence, renamed.confidence, atol=1e-4)


def test_suggest__shuffling_rows_shuffles_suggestions():
    rows, truth = pool(120, noise=0.8)
    labels = picked(truth, each=2)
    order = np.random.default_rng(1).permutation(120)
    found, moved = suggest(rows, labels), suggest(rows[order], labels[order])
    np.testing.assert_allclose(found.confidence[order], moved.confidence, atol=1e-3)
    assert (found.label[order] == moved.label).mean() > 0.99


def test_suggest__neighbors_given_are_those_that_would_be_searched():
    rows, truth = pool(200, noise=1.0)
    labels = picked(truth)
    first, second = suggest(rows, labels), suggest(rows, labels, neighbors=USL().search(rows))
    for field in fields(first):
        assert np.array_equal(getattr(first, field.name), getattr(second, field.name)), field.name


def test_suggest__class_names_stand_in_for_labels_and_beside_them():
    rows, truth = pool(200, classes=4, noise=0.5)
    names = np.stack([rows[truth == kind].mean(axis=0) for kind in range(4)])
    none = np.full(200, -1)
    found = suggest(rows, none, class_rows=names)
    assert (found.label == truth).mean() > 0.95
    assert len(found.label) == len(found.agreement) == 200
    # A class that only its name stands for is suggested too.
    labels = np.where(truth == 3, -1, picked(truth))
    assert 3 not in suggest(rows, labels).label
    assert (suggest(rows, labels, class_rows=names).label == 3).sum() > 40


def test_suggest__agreement_is_lower_between_the_classes():
    rows, truth = pool(300, noise=1.2)
    found = suggest(rows, picked(truth, each=4))
    right = found.label == truth
    assert found.agreement[right].mean() > found.agreement[~right].mean() + 0.05


def test_suggest__half_precision_and_copies_do():
    rows, truth = pool(60)
    rows = np.repeat(rows[:20], 3, axis=0).astype(np.float16)
    truth = np.repeat(truth[:20], 3)
    assert (suggest(rows, picked(truth)).label == truth).mean() > 0.9


def test_suggest__same_inputs_same_bits():
    rows, truth = pool(200, noise=1.0)
    first, second = (suggest(rows, picked(truth), workers=workers) for workers in (1, 2))
    assert np.array_equal(first.confidence, second.confidence)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (
            {"class_rows": np.ones((3, 5), np.float32)},
            InputError,
            "class_rows have 5 dimensions but rows have 16",
        ),
        ({"class_rows": np.full((3, 16), np.nan, np.float32)}, SelectionError, "NaN"),
        ({"seed": -1}, SelectionError, "rng is -1"),
        (
            {"neighbors": Neighbors(np.zeros((7, 2), np.int32), np.zeros((7, 2), np.float32), True)},
            InputError,
            "neighbors are of 7 rows but there are 60",
        ),
        (
            {"neighbors": Neighbors(np.full((60, 2), 60, np.int32), np.zeros((60, 2), np.float32), True)},
            InputError,
            "neighbors name row 60 but there are rows 0 to 59",
        ),
        ({"classes": 2}, InputError, "label of row 2 is 2 but classes is 2"),
    ],
)
def test_suggest__names_what_does_not_fit(options, error, message):
    rows, truth = pool(60)
    with pytest.raises(error, match=message):
        suggest(rows, picked(truth), **options)


def test_suggest__one_row_has_no_others():
    with pytest.raises(InputError, match="there is 1 row"):
        suggest(np.ones((1, 3), np.float32), np.array([-1]), class_rows=np.eye(2, 3, dtype=np.float32))


def test_suggest__a_given_label_stays_also_where_the_others_speak_against_it():
    rows, truth = pool(120, noise=0.3)
    labels = picked(truth, each=8)
    labels[0] = 1
    found = suggest(rows, labels)
    assert (found.label[0], found.confidence[0], found.probe[0]) == (1, 1, 1)
    assert found.agreement[0] < 0.5
