import json

import numpy as np
import pytest
from oracles import blobs, squared
from rivals import RDSS, RIVALS, KCenter, ProbCover

from usl_backend.selection import METHODS
from usl_backend.selection.rows.preparation import fit_projection


def test_rivals__are_no_methods_of_the_product():
    assert not set(RIVALS) & set(METHODS)
    assert all(method.name == name for name, method in RIVALS.items())


@pytest.mark.parametrize("name", sorted(RIVALS))
@pytest.mark.parametrize("m", [1, 5, 40, 200])
def test_select__every_rival_keeps_the_contract(name, m):
    rows, _ = blobs(200, 10, seed=0, dtype=np.float32)
    selection = RIVALS[name]().select(rows, m, rng=1)
    assert len(set(selection.indices.tolist())) == m
    assert selection.gain.shape == (m,)
    assert (selection.gain >= 0).all()
    assert np.array_equal(selection.cluster[selection.indices], np.arange(m))
    json.dumps(dict(selection.parameters), allow_nan=False)
    assert np.array_equal(selection.indices, RIVALS[name]().select(rows, m, rng=1).indices)


@pytest.mark.parametrize("name", sorted(RIVALS))
def test_select__every_rival_leaves_labeled_rows_alone(name):
    rows, _ = blobs(60, 6, seed=1, dtype=np.float32)
    selection = RIVALS[name]().select(rows, 30, rng=0, labeled=np.arange(0, 60, 2))
    assert sorted(selection.indices) == list(range(1, 60, 2))


@pytest.mark.parametrize("rival", [RDSS(), ProbCover(radius=0.6)])
def test_select__score_and_picks_favor_the_groups_over_lone_rows(rival):
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 60)
    groups = np.eye(4, 12)[truth] * 3 + rng.normal(size=(240, 12)) * 0.2
    rows = np.concatenate([groups, rng.normal(size=(6, 12)) * 3])
    selection = rival.select(rows.astype(np.float32), 4, rng=0)
    assert sorted(truth[selection.indices[selection.indices < 240]]) == [0, 1, 2, 3]
    if selection.score is not None:
        assert np.median(selection.score[:240]) > np.median(selection.score[240:])


def test_k_center__follows_the_farthest_row():
    rows, _ = blobs(80, 5, seed=2, dtype=np.float32)
    selection = KCenter().select(rows, 10, rng=0)
    seen = fit_projection(rows, dimensions=128).apply(rows).astype(np.float64)
    distances = squared(seen, seen)
    for step in range(1, 10):
        to_picks = distances[:, selection.indices[:step]].min(1)
        assert np.isclose(to_picks[selection.indices[step]], to_picks.max(), rtol=1e-5)
        assert np.isclose(selection.gain[step], to_picks.max(), rtol=1e-5)


def test_prob_cover__radius_given_is_used():
    rows, _ = blobs(300, 6, seed=4, dtype=np.float32)
    selection = ProbCover(radius=0.7).select(rows, 5, rng=0)
    seen = fit_projection(rows, dimensions=128).apply(rows).astype(np.float64)
    inside = squared(seen, seen) <= 0.49
    assert selection.gain[0] == inside.sum(1).max()
    covered = inside[selection.indices[:4]].any(0)
    assert selection.gain[4] == (inside & ~covered).sum(1).max()


def test_rdss__matches_the_herding_formula():
    rows, _ = blobs(120, 6, seed=5, dtype=np.float32)
    selection = RDSS(width=0.8).select(rows, 12, rng=0)
    seen = fit_projection(rows, dimensions=128).apply(rows).astype(np.float64)
    kernel = np.exp(-squared(seen, seen) / 0.64)
    alpha = 1 - 1 / np.sqrt(12)
    picks = []
    for step in range(12):
        cost = kernel[:, picks].sum(1) - alpha * (step + 1) * kernel.mean(1)
        cost[picks] = np.inf
        picks.append(int(cost.argmin()))
    assert selection.indices.tolist() == picks
