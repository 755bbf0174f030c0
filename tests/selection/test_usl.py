import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from oracles import PAPER, blobs, paper_usl

from usl_backend.errors import CancelledError, SelectionError, SettingsError
from usl_backend.selection import USL, nearest_neighbors
from usl_backend.selection.rows.centrality import cluster_means, distance_to_mean, smooth


def paper_start(n, m, seed):
    return np.random.default_rng(seed).permutation(n)[:m]


@pytest.mark.parametrize("preset", sorted(PAPER))
@pytest.mark.parametrize(("n", "m", "d"), [(120, 5, 6), (500, 20, 16), (700, 60, 32)])
def test_select__presets_pick_what_the_literal_algorithm_picks(preset, n, m, d):
    rows, _ = blobs(n, d, seed=n + m)
    expected, labels, score = paper_usl(rows, paper_start(n, m, 3), **PAPER[preset])
    assert len(expected) == m, "this pool is meant to leave no cluster empty"
    selection = USL(preset=preset).select(rows, m, rng=3)
    assert sorted(selection.indices) == sorted(expected)
    assert selection.diagnostics["filled"] == 0
    np.testing.assert_allclose(selection.score, score, rtol=1e-5)
    # Same partition, whatever the clusters are called.
    assert len(set(zip(labels, selection.cluster, strict=True))) == m


@pytest.mark.parametrize("preset", sorted(PAPER))
def test_select__presets_with_duplicates_and_empty_clusters(preset):
    base, _ = blobs(150, 8, seed=5)
    rows = np.concatenate([base, base[:40], base[:40], base[:40]])
    m = 50
    start = paper_start(len(rows), m, 1)
    assert len(np.unique(rows[start], axis=0)) < m, "two centers start at the same point, one of them empties"
    expected, _, _ = paper_usl(rows, start, **PAPER[preset])
    assert len(expected) < m
    selection = USL(preset=preset).select(rows, m, rng=1)
    # Every pick of the official algorithm is there; what its empty clusters lack is filled.
    assert set(expected) <= set(selection.indices)
    assert selection.diagnostics["filled"] == m - len(expected)
    assert len(set(selection.indices)) == m
    assert len(np.unique(rows[selection.indices], axis=0)) == m, "no copy while something else is left"


def test_select__repulsion_of_the_cifar_preset_moves_picks():
    rows, _ = blobs(500, 16, seed=520)
    without = USL(preset="paper-cifar10", repulsion_weight=0.0).select(rows, 20, rng=3)
    assert set(without.indices) != set(USL(preset="paper-cifar10").select(rows, 20, rng=3).indices)


@pytest.mark.parametrize("options", [{}, {"preset": "paper-cifar10"}, {"preset": "paper-imagenet-moco"}])
def test_select__score_is_higher_in_the_dense_middle(options):
    rng = np.random.default_rng(0)
    dense = rng.normal(size=(300, 8)) * 0.1 + 1.0
    sparse = rng.normal(size=(100, 8))
    selection = USL(neighbors=20, **options).select(
        np.concatenate([dense, sparse]).astype(np.float32), 5, rng=0
    )
    assert np.median(selection.score[:300]) > 2 * np.median(selection.score[300:])


@pytest.mark.parametrize("m", [1, 2, 9, 60, 119, 120])
@pytest.mark.parametrize("options", [{}, {"preset": "paper-cifar10"}, {"preset": "paper-imagenet-clip"}])
def test_select__invariants(options, m):
    rows, _ = blobs(120, 10, seed=2, dtype=np.float32)
    selection = USL(**options).select(rows, m, rng=4)
    assert selection.indices.dtype == np.int64
    assert len(set(selection.indices.tolist())) == m
    assert np.array_equal(selection.cluster[selection.indices], np.arange(m))
    assert selection.cluster.min() >= 0
    assert (selection.gain >= 0).all()
    assert selection.gain[0] == selection.gain.max()
    assert np.isfinite(selection.score).all()
    json.dumps([dict(selection.parameters), dict(selection.diagnostics)], allow_nan=False)


def test_select__same_seed_same_bits_for_any_number_of_workers():
    rows, _ = blobs(3000, 48, seed=7, dtype=np.float32)
    options = {"density_weight": 0.3, "repulsion_weight": 0.2}
    first = USL(**options).select(rows, 40, rng=5)
    for workers in (1, 2, 3):
        again = USL(workers=workers, **options).select(rows, 40, rng=np.random.default_rng(5))
        assert np.array_equal(first.indices, again.indices)
        assert np.array_equal(first.gain, again.gain)
        assert np.array_equal(first.score, again.score)
        assert np.array_equal(first.cluster, again.cluster)
    assert not np.array_equal(first.indices, USL(**options).select(rows, 40, rng=6).indices)


def test_select__layout_and_precision_of_the_input_do_not_matter():
    rows, _ = blobs(400, 12, seed=1, dtype=np.float16)
    expected = USL().select(rows.astype(np.float32), 12, rng=0).indices
    wide = np.zeros((400, 24), dtype=np.float32)
    wide[:, ::2] = rows
    for variant in (rows, rows.astype(np.float64), np.asfortranarray(rows.astype(np.float32)), wide[:, ::2]):
        assert np.array_equal(USL().select(variant, 12, rng=0).indices, expected)


def test_select__rounding_the_rows_keeps_nearly_all_picks():
    rows, _ = blobs(2000, 32, seed=9, groups=30, dtype=np.float32)
    for budget in (20, 100):
        picks = set(USL().select(rows, budget, rng=0).indices)
        rounded = set(USL().select(rows.astype(np.float16), budget, rng=0).indices)
        other = set(USL().select(rows, budget, rng=1).indices)
        assert len(picks & rounded) >= 0.85 * budget
        assert len(picks & other) < 0.85 * budget


def test_select__a_memory_map_is_as_good_as_an_array(tmp_path):
    rows, _ = blobs(500, 12, seed=1, dtype=np.float32)
    np.save(tmp_path / "rows.npy", rows)
    mapped = np.load(tmp_path / "rows.npy", mmap_mode="r")
    assert np.array_equal(USL().select(mapped, 9, rng=0).indices, USL().select(rows, 9, rng=0).indices)


def test_select__copies_draw_one_pick():
    rng = np.random.default_rng(0)
    rows, _ = blobs(400, 16, seed=3, dtype=np.float32)
    copies = np.repeat(rows[:5], 60, axis=0) + rng.normal(size=(300, 16)).astype(np.float32) * 1e-4
    pool = np.concatenate([rows, copies])
    selection = USL().select(pool, 40, rng=0)
    origin = np.concatenate([np.arange(400), np.repeat(np.arange(5), 60)])
    assert len(set(origin[selection.indices])) == 40
    listed = selection.diagnostics["near_duplicates"]
    assert sorted(map(len, listed))[-5:] == [61] * 5
    assert all(len(set(origin[group])) == 1 for group in listed)
    assert selection.diagnostics["near_duplicate_rows"] == sum(len(group) - 1 for group in listed)


def test_select__leaves_the_rows_given_as_they_were():
    rows, _ = blobs(300, 8, seed=3, dtype=np.float32)
    pool = np.concatenate([rows, rows[:100], rows[:50]])
    before = pool.copy()
    for options in ({}, {"projection": 0, "normalize": False}, {"preset": "paper-cifar10"}):
        USL(**options).select(pool, 20, rng=0)
        assert np.array_equal(pool, before)


def test_select__labeled_rows_hold_their_clusters():
    rng = np.random.default_rng(0)
    centers = np.eye(6, 12) * 4
    truth = np.repeat(np.arange(6), 50)
    rows = (centers[truth] + rng.normal(size=(300, 12)) * 0.3).astype(np.float32)
    labeled = np.flatnonzero(truth < 4)[::10]
    for options in ({}, {"preset": "paper-imagenet-moco"}):
        selection = USL(**options).select(rows, 2, rng=0, labeled=labeled)
        assert not set(selection.indices) & set(labeled)
        assert selection.cluster.min() >= 0
    assert sorted(truth[USL().select(rows, 2, rng=0, labeled=labeled).indices]) == [4, 5]


def test_select__neighbors_given_are_used():
    rows, _ = blobs(300, 10, seed=4, dtype=np.float32)
    usl = USL(near_duplicates=-1)
    prepared = usl.prepare(rows)
    near = nearest_neighbors(prepared, k=25)
    assert np.array_equal(
        usl.select(rows, 10, rng=0, neighbors=near).indices, usl.select(rows, 10, rng=0).indices
    )
    shuffled = dataclasses.replace(near, distances=near.distances[::-1].copy())
    given = usl.select(rows, 10, rng=0, neighbors=shuffled)
    assert not np.array_equal(given.score, usl.select(rows, 10, rng=0).score)


@pytest.mark.parametrize(
    ("budget", "labeled", "count"), [(2, 0, 20), (10, 0, 10), (10, 10, 5), (14, 1, 7), (80, 0, 2)]
)
def test_select__auto_looks_at_half_the_rows_per_pick(budget, labeled, count):
    rows, _ = blobs(200, 10, seed=4, dtype=np.float32)
    held = np.arange(labeled)
    auto = USL().select(rows, budget, rng=0, labeled=held)
    exact = USL(neighbors=count).select(rows, budget, rng=0, labeled=held)
    assert auto.diagnostics["neighbors"] == exact.diagnostics["neighbors"] == count
    assert np.array_equal(auto.indices, exact.indices)
    assert np.array_equal(auto.score, exact.score)
    assert (auto.parameters["neighbors"], exact.parameters["neighbors"]) == ("auto", count)


def test_select__auto_counts_rows_without_their_copies():
    rows, _ = blobs(100, 10, seed=4, dtype=np.float32)
    copied = np.concatenate([rows, rows])
    assert USL().select(copied, 10, rng=0).diagnostics["neighbors"] == 5
    assert USL().select(rows[:3], 3, rng=0).diagnostics["neighbors"] == 2
    assert USL().select(rows[:1], 1, rng=0).diagnostics["neighbors"] == 0


def test_search__keeps_as_many_whatever_the_budget():
    rows, _ = blobs(200, 10, seed=4, dtype=np.float32)
    near = USL().search(rows)
    assert near.indices.shape == (200, 20)
    for usl in (USL(), USL(workers=2)):
        given = usl.select(rows, 40, rng=0, neighbors=near)
        assert np.array_equal(given.indices, USL().select(rows, 40, rng=0).indices)
        assert np.array_equal(given.score, USL().select(rows, 40, rng=0).score)


def test_select__first_half_of_the_order_covers_the_groups():
    rng = np.random.default_rng(1)
    truth = np.repeat(np.arange(10), 40)
    rows = (np.eye(10, 20)[truth] * 3 + rng.normal(size=(400, 20)) * 0.3).astype(np.float32)
    selection = USL().select(rows, 20, rng=0)
    assert len(set(truth[selection.indices[:10]])) == 10


def test_select__progress_is_called_and_may_cancel():
    rows, _ = blobs(300, 8, seed=4, dtype=np.float32)
    seen = []
    USL().select(rows, 6, rng=0, progress=lambda *call: seen.append(call))
    assert {"projecting rows", "finding neighbors", "clustering", "picking", "ordering picks"} <= {
        step for step, _, _ in seen
    }
    assert all(0 <= done <= total for _, done, total in seen)

    def cancel(step, done, total):
        raise CancelledError("stop")

    with pytest.raises(CancelledError, match="stop"):
        USL().select(rows, 6, rng=0, progress=cancel)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda rows: np.where(np.arange(50)[:, None] == 7, np.nan, rows), "row 7 of"),
        (lambda rows: np.where(np.arange(50)[:, None] == 9, np.inf, rows), "row 9 of"),
        (lambda rows: rows[0], r"\(4,\)"),
        (lambda rows: rows[:0], r"\(0, 4\)"),
        (lambda rows: rows.astype(int), "int64"),
    ],
)
def test_select__bad_embeddings_are_named(spoil, message):
    rows = np.random.default_rng(0).normal(size=(50, 4))
    with pytest.raises(SelectionError, match=message):
        USL().select(spoil(rows), 3, rng=0)


@pytest.mark.parametrize(
    ("budget", "message"),
    [(0, "budget is 0"), (-3, "-3"), (51, "budget is 51 but the pool has 50"), (2.5, "2.5")],
)
def test_select__bad_budget_is_named(budget, message):
    rows = np.random.default_rng(0).normal(size=(50, 4))
    with pytest.raises(SelectionError, match=message):
        USL().select(rows, budget, rng=0)


def test_select__bad_labeled_is_named():
    rows = np.random.default_rng(0).normal(size=(50, 4))
    with pytest.raises(SelectionError, match="row 50"):
        USL().select(rows, 3, rng=0, labeled=np.array([1, 50]))
    with pytest.raises(SelectionError, match="49 unlabeled of 50"):
        USL().select(rows, 50, rng=0, labeled=np.array([1]))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"preset": "paper-cifar11"}, 'did you mean "paper-cifar10"'),
        ({"neighbors": 0}, "neighbors is 0"),
        ({"neighbors": 2.5}, "whole number"),
        ({"neighbors": "five"}, "'five'; give a whole number or \"auto\""),
        ({"smoothing": 2}, "smoothing is 2"),
        ({"start": "row"}, 'did you mean "rows"'),
        ({"momentum": 1.5}, "at most 1"),
        ({"alpha": float("nan")}, "nan"),
    ],
)
def test_usl__bad_options_are_named(options, message):
    with pytest.raises(SettingsError, match=message):
        USL(**options)


def test_usl__presets_are_the_paper_s():
    assert set(USL.presets) == set(PAPER)


def test_import__loads_nothing_heavy():
    code = (
        "import sys, usl_backend.selection;"
        "print([m for m in ('torch', 'flask', 'sklearn', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_smooth__averages_each_row_with_its_neighbors_once():
    rows, _ = blobs(30, 5, seed=0)
    indices = np.argsort(((rows[:, None] - rows[None]) ** 2).sum(-1), axis=1, kind="stable")[:, :4]
    expected = rows[indices].sum(1)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(smooth(rows, indices.astype(np.int32)), expected, rtol=1e-12)
    np.testing.assert_allclose(smooth(rows, indices[:, 1:].astype(np.int32)), expected, rtol=1e-12)


def test_distance_to_mean__matches_the_formula():
    rows, labels = blobs(80, 5, seed=0)
    expected = [
        ((row - rows[labels == label].mean(0)) ** 2).sum() for row, label in zip(rows, labels, strict=True)
    ]
    means, mass = cluster_means(rows, labels.astype(np.int32), clusters=9)
    assert mass.tolist() == [*np.bincount(labels).astype(float), 1.0]
    assert not means[8].any()
    found = distance_to_mean(rows, labels.astype(np.int32), means=means)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
