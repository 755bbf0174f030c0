import math

import numpy as np
import pytest
import torch
from oracles import blobs

from usl_backend.selection.uslt.clusters import Answers, agreement, split_largest, without_held
from usl_backend.selection.uslt.heads import log_odds


def test_log_odds__are_those_of_the_largest_probability():
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(20, 5)) * 3)
    odds, clusters = log_odds(logits)
    for row in range(20):
        powers = [math.exp(value) for value in logits[row].tolist()]
        p = max(powers) / sum(powers)
        assert float(odds[row]) == pytest.approx(math.log(p / (1 - p)), rel=1e-9)
        assert int(clusters[row]) == powers.index(max(powers))


def test_answers__sureness_orders_where_confidence_rounds_to_one():
    odds = np.array([[0.0, 1.0, 60.0, 70.0]])
    answers = Answers(np.zeros((1, 4), np.int32), odds)
    np.testing.assert_allclose(answers.confidence(heads=1)[:2], [0.5, 1 / (1 + math.exp(-1))])
    assert answers.confidence(heads=1)[2] == answers.confidence(heads=1)[3] == 1.0
    sure = answers.sureness(heads=1)
    assert (np.diff(sure) > 0).all()
    assert sure[1] == pytest.approx(math.log(1 + math.e), rel=1e-12)


def test_answers__confidence_of_several_heads_is_the_mean_probability():
    odds = np.array([[0.0, 2.0], [3.0, -1.0]])
    answers = Answers(np.zeros((2, 2), np.int32), odds)
    expected = (1 / (1 + np.exp(-odds))).mean(axis=0)
    np.testing.assert_allclose(answers.confidence(heads=2), expected)
    np.testing.assert_allclose(answers.sureness(heads=2), -np.log(1 - expected))


def test_agreement__names_do_not_matter_and_chance_counts_as_nothing():
    rng = np.random.default_rng(0)
    first = rng.integers(0, 4, 4000)
    assert agreement(np.stack([first, 3 - first])) == pytest.approx(1.0)
    assert agreement(np.stack([first, rng.integers(0, 4, 4000)])) < 0.01
    assert agreement(first[None]) is None
    assert agreement(np.zeros((2, 10), np.int64)) is None


def test_agreement__is_the_formula():
    a, b = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 0, 1, 1, 1])
    shared = 0.0
    for i in range(3):
        for j in range(2):
            both = ((a == i) & (b == j)).mean()
            if both:
                shared += both * math.log(both / ((a == i).mean() * (b == j).mean()))
    expected = 2 * shared / (math.log(3) + math.log(2))
    assert agreement(np.stack([a, b])) == pytest.approx(expected, rel=1e-12)


def test_without_held__open_clusters_are_numbered_and_held_ones_become_the_last():
    labels = np.array([4, 4, 0, 2, 2, 2], np.int32)
    named, used = without_held(labels, held=np.array([3]), clusters=6)
    assert used == 2
    assert named.tolist() == [1, 1, 0, 2, 2, 2]
    named, used = without_held(labels, held=np.array([0, 2, 3]), clusters=6)
    assert (used, named.tolist()) == (0, [0] * 6)


def test_split_largest__halves_until_all_are_filled():
    rows, truth = blobs(400, 8, seed=0, groups=4)
    labels, changed = split_largest(
        np.zeros(400, np.int32), rows, empty=np.arange(1, 4), splittable=np.array([True, False, False, False]),
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert np.bincount(labels).min() > 0
    assert changed.all()
    purity = sum(np.bincount(truth[labels == k]).max() for k in range(4)) / 400
    assert purity > np.bincount(truth).max() / 400 + 0.2


def test_split_largest__copies_cannot_be_halved_and_others_are():
    rows = np.concatenate([np.ones((50, 3)), np.random.default_rng(0).normal(size=(10, 3))])
    labels = np.repeat([0, 1], [50, 10]).astype(np.int32)
    found, changed = split_largest(
        labels, rows, empty=np.array([2]), splittable=np.array([True, True, False]),
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert (found[:50] == 0).all()
    assert set(found[50:]) == {1, 2}
    assert changed.tolist() == [False, True, True]
    same, changed = split_largest(
        np.zeros(50, np.int32), rows[:50], empty=np.array([1]), splittable=np.array([True, False]),
        rng=np.random.default_rng(0),
    )  # fmt: skip
    assert (same == 0).all()
    assert not changed.any()
