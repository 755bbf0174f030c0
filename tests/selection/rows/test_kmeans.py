import tracemalloc

import numpy as np
import pytest
from oracles import blobs, squared

from usl_backend.selection.rows import kmeans as kmeans_module
from usl_backend.selection.rows.assignment import assign, assign_coarse, assign_near, cluster_sums
from usl_backend.selection.rows.centrality import Smoothed, smooth
from usl_backend.selection.rows.kmeans import (
    descend,
    kmeans,
    paper_kmeans,
    quick_centers,
)
from usl_backend.selection.rows.kmeans_start import _apportion, greedy_starts, local_start


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_assign__gives_the_nearest_center(dtype):
    rows, _ = blobs(500, 10, seed=0, dtype=dtype)
    centers = rows[::25].copy()
    distances = squared(rows.astype(np.float64), centers.astype(np.float64))
    found = assign(rows, centers)
    assert np.array_equal(found.labels, distances.argmin(1))
    np.testing.assert_allclose(found.distances, distances.min(1), atol=1e-6)
    two = assign(rows, centers, workers=2)
    assert np.array_equal(found.labels, two.labels)
    assert np.array_equal(found.distances, two.distances)


def test_assign__ties_go_to_the_first_center_and_nan_attracts_nothing():
    rows, _ = blobs(200, 7, seed=1)
    centers = np.concatenate([np.full((1, 7), np.nan), rows[:5], rows[:5]])
    labels = assign(rows, centers, settle_ties=True).labels
    assert set(labels) == {1, 2, 3, 4, 5}


@pytest.mark.parametrize("weighted", [False, True])
def test_cluster_sums__adds_up(weighted):
    rows, labels = blobs(300, 4, seed=2)
    weights = np.random.default_rng(0).random(300) if weighted else None
    sums, mass = cluster_sums(rows, labels, clusters=9, weights=weights)
    each = np.ones(300) if weights is None else weights
    for label in range(9):
        inside = labels == label
        np.testing.assert_allclose(sums[label], (rows[inside] * each[inside, None]).sum(0), atol=1e-12)
        np.testing.assert_allclose(mass[label], each[inside].sum())


def test_paper_kmeans__fixed_centers_stay():
    rows, _ = blobs(200, 5, seed=3)
    fixed = rows[:2] + 0.01
    found = paper_kmeans(rows, start=np.array([50, 60, 70]), iterations=10, fixed=fixed)
    assert np.array_equal(found.centers[:2], fixed)
    assert set(found.labels) <= set(range(5))


def test_greedy_starts__covers_separate_groups():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(12), 20)
    rows = np.eye(12)[truth] * 10 + rng.normal(size=(240, 12)) * 0.1
    assert len(set(truth[greedy_starts(rows, clusters=12, rng=rng)[0]])) == 12


def test_greedy_starts__only_copies_left_still_gives_distinct_rows():
    rows = np.repeat(np.eye(2, 3), 5, axis=0)
    for start in greedy_starts(rows, clusters=7, starts=3, rng=np.random.default_rng(0)):
        assert len(set(start)) == 7


def test_greedy_starts__avoids_fixed_centers_and_light_rows():
    truth = np.repeat(np.arange(3), 30)
    rows = np.eye(3)[truth] * 10 + np.random.default_rng(0).normal(size=(90, 3)) * 0.1
    fixed = np.eye(3)[:1] * 10
    for seed in range(5):
        start = greedy_starts(rows, clusters=2, rng=np.random.default_rng(seed), fixed=fixed)[0]
        assert sorted(truth[start]) == [1, 2]
    weights = np.where(truth == 1, 1e-9, 1.0)
    start = greedy_starts(rows, clusters=1, rng=np.random.default_rng(0), weights=weights)[0]
    assert truth[start[0]] != 1


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("fixed", [None, np.full((1, 6), 3.0)])
def test_greedy_starts__together_are_those_of_one_after_the_other(weighted, fixed):
    rows, _ = blobs(150, 6, seed=4, groups=9)
    weights = np.random.default_rng(1).random(150) if weighted else None
    one, many = np.random.default_rng(2), np.random.default_rng(2)
    each = [
        greedy_starts(rows, clusters=40, rng=one, weights=weights, fixed=fixed)[0].tolist() for _ in range(5)
    ]
    together = greedy_starts(rows, clusters=40, rng=many, starts=5, weights=weights, fixed=fixed)
    assert together.tolist() == each
    assert one.random() == many.random()


def test_greedy_starts__hold_the_times_of_one_step():
    rows, _ = blobs(2_000, 4, seed=5, dtype=np.float32)
    tracemalloc.start()
    greedy_starts(rows, clusters=300, rng=np.random.default_rng(0))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 300 * rows[:, 0].nbytes / 2


def test_local_start__distinct_rows_with_a_share_for_each_cell():
    rows, labels = blobs(2000, 6, seed=4)
    means = np.array([rows[labels == label].mean(0) for label in range(8)])
    distances = ((rows - means[labels]) ** 2).sum(1)
    start = local_start(rows, cells=labels, distances=distances, clusters=300, rng=np.random.default_rng(0))
    assert len(set(start)) == 300
    assert set(labels[start]) == set(range(8))


def test_local_start__a_row_that_moves_to_another_cell_leaves_the_starts_of_the_others():
    rows, labels = blobs(2000, 6, seed=4)
    flat = np.ones(len(rows))
    first = local_start(rows, cells=labels, distances=flat, clusters=100, rng=np.random.default_rng(0))
    moved = labels.copy()
    moved[np.flatnonzero(labels == 0)[0]] = 1
    second = local_start(rows, cells=moved, distances=flat, clusters=100, rng=np.random.default_rng(0))
    for cell in range(2, 8):
        assert np.array_equal(first[labels[first] == cell], second[labels[second] == cell])


@pytest.mark.parametrize("total", [1, 7, 15, 20])
def test_apportion__sums_to_the_total_within_limits(total):
    quota = _apportion(np.array([5.0, 1.0, 0.2, 3.0]), np.array([4, 10, 3, 3]), total)
    assert quota.sum() == total
    assert (quota <= [4, 10, 3, 3]).all()


def test_descend__labels_are_nearest_to_the_final_centers_and_inertia_adds_up():
    rows, _ = blobs(3000, 8, seed=5)
    found = descend(rows, rows[:100].copy(), iterations=20)
    distances = squared(rows, found.centers)
    assert np.array_equal(found.labels, distances.argmin(1))
    np.testing.assert_allclose(found.inertia, distances.min(1).sum(), rtol=1e-9)
    start = squared(rows, rows[:100]).min(1).sum()
    assert found.inertia < 0.9 * start


def test_descend__matches_literal_lloyd_steps():
    rows, _ = blobs(400, 6, seed=6)
    centers = rows[:12].copy()
    for _ in range(3):
        labels = squared(rows, centers).argmin(1)
        centers = np.array([rows[labels == c].mean(0) for c in range(12)])
    np.testing.assert_allclose(descend(rows, rows[:12].copy(), iterations=3).centers, centers, atol=1e-9)


def test_descend__sums_kept_by_changes_equal_sums_made_anew():
    rows, _ = blobs(4000, 8, seed=7)
    weights = np.random.default_rng(1).random(4000) + 0.5
    found = descend(rows, rows[:80].copy(), iterations=4, weights=weights)
    centers = rows[:80].copy()
    labels = squared(rows, centers).argmin(1)
    for step in range(4):
        if step:
            labels = assign_near(rows, centers, labels.astype(np.int32)).labels
        for c in range(80):
            inside = labels == c
            if inside.any():
                centers[c] = (rows[inside] * weights[inside, None]).sum(0) / weights[inside].sum()
    np.testing.assert_allclose(found.centers, centers, atol=1e-9)


def test_descend__empty_clusters_start_again():
    rows, _ = blobs(500, 6, seed=8)
    centers = np.concatenate([rows[:5], np.full((3, 6), 100.0)])
    found = descend(rows, centers, iterations=10)
    assert len(set(found.labels)) == 8


def test_descend__a_moved_center_keeps_its_row_however_far_away_it_lies():
    rows, _ = blobs(2000, 8, seed=8)
    crowd = np.random.default_rng(0).normal(10.0, 0.1, (2000, 8))
    # The last row is the worst served of the heaviest cluster, the crowd, and lies farther from it than 32 others do.
    rows = np.concatenate([rows, crowd, np.full((1, 8), 50.0)])
    centers = np.concatenate([rows[:98], np.full((1, 8), 10.0), np.full((1, 8), 1e6)])
    found = descend(rows, centers, iterations=100)
    assert (found.labels == found.labels[-1]).sum() == 1
    np.testing.assert_allclose(
        found.centers[98], crowd.mean(0), err_msg="the row was drawn back into the crowd"
    )
    np.testing.assert_allclose(found.centers[found.labels[-1]], rows[-1])
    distances = squared(rows, found.centers)
    assert np.array_equal(found.labels, distances.argmin(1))
    np.testing.assert_allclose(found.inertia, distances.min(1).sum(), rtol=1e-9)


def test_assign_near__with_all_centers_is_exact():
    rows, _ = blobs(600, 6, seed=9)
    centers = rows[:40].copy()
    labels = np.random.default_rng(0).integers(40, size=600).astype(np.int32)
    assert np.array_equal(
        assign_near(rows, centers, labels, near=40).labels, squared(rows, centers).argmin(1)
    )


def test_assign_coarse__guesses_most_rows_right_and_never_better_than_exact():
    rows, _ = blobs(5000, 8, seed=13, groups=30)
    centers = rows[:1500].copy()
    exact, guess = assign(rows, centers), assign_coarse(rows, centers)
    assert (exact.labels == guess.labels).mean() > 0.9
    assert (guess.distances >= exact.distances - 1e-12).all()
    np.testing.assert_allclose(guess.distances, ((rows - centers[guess.labels]) ** 2).sum(1), atol=1e-9)
    few = assign_coarse(rows, centers[:300])
    assert np.array_equal(few.labels, assign(rows, centers[:300]).labels)


def test_assign_coarse__finds_the_nearest_of_thousands_of_centers_in_many_dimensions():
    # An eighth of the coarse centers finds .84 of them.
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(12_000, 24)) @ rng.normal(size=(24, 64)) / 5 + 0.35 * rng.normal(
        size=(12_000, 64)
    )
    rows = rows.astype(np.float32)
    centers, others = rows[:4000], rows[4000:6000]
    nearest = squared(others, centers).argmin(1)
    assert (assign_coarse(others, centers).labels == nearest).mean() > 0.9


@pytest.mark.parametrize("seed", range(3))
def test_assign_coarse__leaves_hardly_a_cluster_empty_that_is_not(seed):
    # Noise in 16 dimensions: a guess among the centers of a coarse cell alone loses 169 to 235 of these clusters.
    rows = np.random.default_rng(seed).standard_normal((6000, 16))
    centers = rows[:1500].copy()
    filled = {int(label) for label in squared(rows, centers).argmin(1)}
    guessed = {int(label) for label in assign_coarse(rows, centers).labels}
    assert len(filled - guessed) <= 0.03 * len(filled)


@pytest.mark.parametrize("clusters", [1, 3, 70, 1200])
def test_kmeans__fills_every_cluster_and_repeats(clusters):
    rows, _ = blobs(4000, 8, seed=10, dtype=np.float32)
    found = kmeans(rows, clusters=clusters, rng=np.random.default_rng(0))
    assert len(set(found.labels)) == clusters
    again = kmeans(rows, clusters=clusters, rng=np.random.default_rng(0), workers=2)
    assert np.array_equal(found.labels, again.labels)


def test_kmeans__a_sample_finds_the_centers_of_a_large_pool(monkeypatch):
    rows, _ = blobs(12_000, 8, seed=14, groups=30, dtype=np.float32)
    near = np.random.default_rng(0).integers(12_000, size=(12_000, 3)).astype(np.int32)
    weights = np.random.default_rng(1).random(12_000) + 0.5
    points = smooth(rows, near)
    found = kmeans(points, clusters=30, rng=np.random.default_rng(0), weights=weights)
    distances = squared(points.astype(np.float64), found.centers)
    assert np.array_equal(found.labels, distances.argmin(1))
    np.testing.assert_allclose(found.inertia, (distances.min(1) * weights).sum(), rtol=1e-5)
    monkeypatch.setattr(kmeans_module, "ASSIGNED_ROWS", 5000)
    for workers in (1, 2):
        again = kmeans(
            Smoothed(rows, near, workers=workers), clusters=30, rng=np.random.default_rng(0), weights=weights,
            workers=workers,
        )  # fmt: skip
        assert np.array_equal(again.labels, found.labels)
        assert np.array_equal(again.centers, found.centers)
    monkeypatch.setattr(kmeans_module, "SAMPLES", 1000)
    full = kmeans(points, clusters=30, rng=np.random.default_rng(0), weights=weights)
    assert found.inertia < 1.02 * full.inertia


def test_kmeans__starts_in_a_large_pool_are_of_one_sample(monkeypatch):
    rows, _ = blobs(12_000, 8, seed=14, groups=30, dtype=np.float32)
    samples = []
    descend = kmeans_module.descend
    monkeypatch.setattr(
        kmeans_module,
        "descend",
        lambda part, *given, **named: samples.append(part) or descend(part, *given, **named),
    )
    kmeans(rows, clusters=40, rng=np.random.default_rng(0))
    assert len(samples) == 5 + 1, "200 / 40 starts, and the best of them"
    assert all(part is samples[0] for part in samples)
    assert len(samples[0]) == 5000


def test_kmeans__fixed_centers_of_a_large_pool_stay():
    rows, _ = blobs(12_000, 8, seed=15, groups=30, dtype=np.float32)
    fixed = rows[:3]
    found = kmeans(rows, clusters=20, rng=np.random.default_rng(0), fixed=fixed)
    assert np.array_equal(found.centers[:3], fixed.astype(np.float64))
    assert (found.labels[:3] == [0, 1, 2]).all()
    assert set(found.labels) == set(range(23))


def test_descend__of_very_many_clusters_ends_with_the_nearest_of_those_around(monkeypatch):
    rows = np.random.default_rng(16).standard_normal((4000, 24))
    exact = descend(rows, rows[:1200].copy(), iterations=3)
    assert np.array_equal(exact.labels, squared(rows, exact.centers).argmin(1)), (
        "few rows are compared with all"
    )
    monkeypatch.setattr(kmeans_module, "ALL_CENTERS_ROWS", 1000)
    found = descend(rows, rows[:1200].copy(), iterations=3)
    distances = squared(rows, found.centers)
    assert (found.labels == distances.argmin(1)).mean() > 0.9
    np.testing.assert_allclose(found.inertia, distances[np.arange(4000), found.labels].sum(), rtol=1e-9)
    assert found.inertia <= 1.01 * distances.min(1).sum()


def test_kmeans__objective_is_that_of_scikit_learn():
    from sklearn.cluster import KMeans

    rows, _ = blobs(6000, 16, seed=11, groups=40, dtype=np.float32)
    ours = np.mean([kmeans(rows, clusters=100, rng=np.random.default_rng(s)).inertia for s in range(3)])
    peer = np.mean([KMeans(100, n_init=1, random_state=s).fit(rows).inertia_ for s in range(3)])
    assert ours <= 1.005 * peer


def test_kmeans__fixed_clusters_come_first_and_stay():
    truth = np.repeat(np.arange(4), 50)
    rows = np.eye(4, 6)[truth] * 5 + np.random.default_rng(0).normal(size=(200, 6)) * 0.2
    fixed = np.eye(4, 6)[:2] * 5
    found = kmeans(rows, clusters=2, rng=np.random.default_rng(0), fixed=fixed)
    assert np.array_equal(found.centers[:2], fixed)
    assert (found.labels[truth == 0] == 0).all()
    assert (found.labels[truth == 1] == 1).all()
    assert set(found.labels[truth > 1]) == {2, 3}


def test_quick_centers__are_as_many_as_asked():
    rows, _ = blobs(900, 5, seed=12)
    assert quick_centers(rows, clusters=30, rng=np.random.default_rng(0)).shape == (30, 5)
