import numpy as np
import pytest
from made import picked, pool

from usl_backend import USL, suggest
from usl_backend.errors import InputError, SelectionError
from usl_backend.suggestions import next_round, next_rule, rounds


@pytest.mark.parametrize(
    ("labels", "rule"),
    [
        (0, "keep-labels"),
        (39, "keep-labels"),
        (40, "least-sure-half"),
        (99, "least-sure-half"),
        (100, "smallest-margin"),
    ],
)
def test_next_rule__goes_by_labels_per_class(labels, rule):
    found = next_rule(labels, classes=10)
    assert found.rule == rule
    assert f"{labels} labels of 10 classes are {labels / 10:.1f} per class" in str(found)


def test_next_round__below_four_per_class_is_the_method_with_labels_held():
    rows, truth = pool()
    labels = picked(truth, each=3)
    found = next_round(rows, labels, 6, rng=5)
    assert found.diagnostics["next"]["rule"] == "keep-labels"
    held = np.flatnonzero(labels >= 0)
    assert np.array_equal(found.indices, USL().select(rows, 6, rng=5, labeled=held).indices)


def test_next_round__from_four_per_class_among_the_least_sure_half():
    rows, truth = pool(noise=2.0)
    labels = picked(truth, each=4)
    found = next_round(rows, labels, 9, rng=5)
    assert found.diagnostics["next"] == {
        "rule": "least-sure-half",
        "labels": 12,
        "classes": 3,
        "why": str(next_rule(12, classes=3)),
    }
    free = np.flatnonzero(labels < 0)
    surety = suggest(rows, labels).confidence
    least = sorted(free.tolist(), key=lambda row: (float(surety[row]), row))[:114]
    inside = np.sort([*least, *np.flatnonzero(labels >= 0)])
    alone = USL().select(rows[inside], 9, rng=5, labeled=np.searchsorted(inside, np.flatnonzero(labels >= 0)))
    assert found.indices.tolist() == inside[alone.indices].tolist()
    assert found.cluster[found.indices].tolist() == list(range(9))
    assert set(found.cluster.tolist()) <= set(range(9))
    assert found.score is not None
    assert np.array_equal(found.score[inside], alone.score)
    assert found.score.shape == (240,)


def test_next_round__half_of_the_pool_may_be_too_small_for_the_budget():
    rows, truth = pool(n=40, classes=2)
    labels = picked(truth, each=5)
    found = next_round(rows, labels, 25, rng=0)
    assert len(set(found.indices.tolist())) == 25
    assert not set(found.indices.tolist()) & set(np.flatnonzero(labels >= 0).tolist())


def test_next_round__from_ten_per_class_the_rows_between_two_classes():
    rows, truth = pool(noise=2.0)
    labels = picked(truth, each=10)
    neighbors = USL().search(rows)
    found = next_round(rows, labels, 12, rng=5, neighbors=neighbors)
    assert found.diagnostics["next"]["rule"] == "smallest-margin"
    margin = suggest(rows, labels, neighbors=neighbors).margin
    free = np.flatnonzero(labels < 0).tolist()
    assert found.indices.tolist() == sorted(free, key=lambda row: (float(margin[row]), row))[:12]
    assert found.gain.tolist() == pytest.approx([1.0 - float(margin[row]) for row in found.indices])
    assert found.score is not None
    assert found.cluster[found.indices].tolist() == list(range(12))


def test_suggest__margin_is_the_gap_of_the_best_two():
    rows, truth = pool(classes=2, noise=2.0)
    labels = picked(truth, each=4)
    found = suggest(rows, labels)
    free = ~found.given
    # two shares that sum to one
    assert found.margin[free] == pytest.approx(2.0 * found.confidence[free] - 1.0, abs=1e-6)
    assert (found.margin[~free] == 1.0).all()


def test_next_round__rows_that_are_held_without_a_class_are_never_chosen():
    rows, truth = pool(noise=2.0)
    for each in (1, 4, 10):
        labels = picked(truth, each=each)
        held = np.union1d(np.flatnonzero(labels >= 0), np.arange(200, 230))
        found = next_round(rows, labels, 15, rng=0, held=held)
        assert len(set(found.indices.tolist()) - set(held.tolist())) == 15


def test_next_round__labels_of_one_class_say_nothing_about_the_margin():
    rows, truth = pool()
    labels = np.where(truth == 1, np.where(np.arange(len(truth)) < 60, 1, -1), -1)
    found = next_round(rows, labels, 5, rng=0)
    assert found.diagnostics["next"]["rule"] == "keep-labels"
    assert len(next_round(rows, np.full(240, -1), 5, rng=0).indices) == 5


def test_next_round__classes_of_the_label_config_count_before_they_have_a_label():
    rows, truth = pool()
    labels = picked(truth, each=10)
    assert next_round(rows, labels, 3, rng=0, classes=6).diagnostics["next"]["rule"] == "least-sure-half"


def test_next_round__repeats_for_a_seed():
    rows, truth = pool(noise=2.0)
    for each in (1, 4, 10):
        labels = picked(truth, each=each)
        again = [next_round(rows, labels, 9, rng=3).indices.tolist() for _ in range(2)]
        assert again[0] == again[1]


def test_next_round__searches_neighbors_by_its_seed_and_workers(monkeypatch):
    """Above 5,000 rows the search is drawn by the seed."""
    given = []

    def watched(*args, **options):
        given.append((options["seed"], options["workers"]))
        return suggest(*args, **options)

    monkeypatch.setattr(rounds, "suggest", watched)
    rows, truth = pool(noise=2.0)
    next_round(rows, picked(truth, each=10), 5, rng=3, workers=2)
    assert given == [(3, 2)]


def test_next_round__bad_input():
    rows, truth = pool()
    labels = picked(truth, each=70)
    with pytest.raises(SelectionError, match="budget is 31 but only 30 rows have no label"):
        next_round(rows, labels, 31, rng=0)
    with pytest.raises(InputError, match="labels are"):
        next_round(rows, labels[:-1], 3, rng=0)
