import json

import numpy as np
import pytest
import torch
from checkpoint_memory import Memory
from oracles import blobs

from usl_backend.errors import CancelledError, SelectionError, SettingsError
from usl_backend.selection import USLT, nearest_neighbors

SHORT = {"epochs": 3, "batch": 64, "workers": 1}


def check(selection, n, m):
    assert len(set(selection.indices.tolist())) == m
    assert np.array_equal(selection.cluster[selection.indices], np.arange(m))
    assert np.isin(selection.cluster, np.arange(m)).all()
    assert len(selection.cluster) == n
    assert (selection.gain >= 0).all()
    assert np.isfinite(selection.score).all()
    json.dumps(dict(selection.diagnostics), allow_nan=False)


def test_select__finds_the_groups_and_tells_of_its_training():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(5), 60)
    rows = (np.eye(5, 16)[truth] * 3 + rng.normal(size=(300, 16)) * 0.3).astype(np.float32)
    selection = USLT(**SHORT).select(rows, 5, rng=0)
    check(selection, 300, 5)
    assert sorted(truth[selection.indices]) == [0, 1, 2, 3, 4]
    for rank, row in enumerate(selection.indices):
        assert (truth[selection.cluster == rank] == truth[row]).all()
    told = selection.diagnostics["training"]
    assert told["clusters_in_use"] == told["clusters"] == 5
    assert told["largest_over_mean"] == pytest.approx(1.0)
    assert told["agreement"] == pytest.approx(1.0)
    assert len(told["local_loss"]) == len(told["global_loss"]) == 3
    assert told["local_loss"][-1] < told["local_loss"][0]
    assert sum(told["confidence_histogram"]) == 300
    assert told["warnings"] == []


@pytest.mark.parametrize(("clusters", "kept"), [(3, False), (4, True)])
def test_select__the_local_loss_counts_from_four_clusters_on(clusters, kept):
    rows, _ = blobs(400, 16, seed=1, dtype=np.float32)
    options = {**SHORT, "epochs": 10, "learning_rate": 0.01}
    default = USLT(**options).select(rows, clusters, rng=0)
    always = USLT(**options, local_clusters=0).select(rows, clusters, rng=0)
    never = USLT(**options, local_weight=0.0).select(rows, clusters, rng=0)
    assert not np.array_equal(always.cluster, never.cluster)
    same = always if kept else never
    assert np.array_equal(default.cluster, same.cluster)
    assert np.array_equal(default.indices, same.indices)
    told = [one.diagnostics["training"]["warnings"] for one in (default, always, never)]
    assert [any("the local loss was left out" in line for line in lines) for lines in told] == [
        not kept, False, False,
    ]  # fmt: skip


def test_select__training_moves_features_and_heads():
    rows, _ = blobs(400, 16, seed=1, dtype=np.float32)
    untrained, trained = (USLT(**SHORT | {"epochs": e}).select(rows, 20, rng=0) for e in (0, 6))
    assert set(untrained.indices) != set(trained.indices)
    frozen = USLT(**SHORT | {"epochs": 6, "hidden": 0}).select(rows, 20, rng=0)
    assert not np.array_equal(frozen.indices, trained.indices)


@pytest.mark.parametrize("start", ["k-means", "instances", "random"])
@pytest.mark.parametrize("kind", ["normed", "linear"])
def test_select__same_seed_same_picks_whatever_ran_before(start, kind):
    rows, _ = blobs(200, 12, seed=2, dtype=np.float32)
    selector = USLT(**SHORT, head_start=start, head_kind=kind)
    first = selector.select(rows, 12, rng=3)
    torch.manual_seed(99)
    torch.rand(7)
    again = selector.select(rows, 12, rng=np.random.default_rng(3))
    assert np.array_equal(first.indices, again.indices)
    assert first.diagnostics == again.diagnostics
    assert not np.array_equal(first.indices, selector.select(rows, 12, rng=4).indices)


def test_select__leaves_torch_s_threads_alone():
    before = torch.get_num_threads()
    USLT(**SHORT).select(blobs(60, 4, seed=0, dtype=np.float32)[0], 4, rng=0)
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("stopped_after", [1, 2])
def test_select__resumed_training_ends_where_an_unbroken_one_does(stopped_after):
    rows, _ = blobs(200, 12, seed=3, dtype=np.float32)
    selector = USLT(**SHORT, reseed_floor=0.9, reseed_ceiling=1.0, reseed_after=0)
    whole = selector.select(rows, 12, rng=0)
    kept = Memory()

    def stop(step, done, total):
        if step == "training" and kept.writes == stopped_after:
            raise CancelledError("enough")

    with pytest.raises(CancelledError):
        selector.with_training(checkpoint=kept).select(rows, 12, rng=0, progress=stop)
    resumed = selector.with_training(checkpoint=kept).select(rows, 12, rng=0)
    assert resumed.diagnostics["training"]["resumed_from"] == stopped_after
    assert kept.writes == 3
    assert np.array_equal(whole.indices, resumed.indices)
    told = [one.diagnostics["training"] | {"resumed_from": 0} for one in (whole, resumed)]
    assert told[0] == told[1]
    assert told[0]["reseeded"] > 0


def test_select__checkpoint_of_another_training_is_not_gone_on_from(caplog):
    rows, _ = blobs(200, 12, seed=3, dtype=np.float32)
    kept = Memory()
    USLT(**SHORT, checkpoint=kept).select(rows, 12, rng=0)
    for selector, pool, seed in (
        (USLT(**SHORT | {"epochs": 4}), rows, 0),
        (USLT(**SHORT), rows, 1),
        (USLT(**SHORT), rows[::-1].copy(), 0),
    ):
        found = selector.with_training(checkpoint=kept).select(pool, 12, rng=seed)
        assert found.diagnostics["training"]["resumed_from"] == 0
    kept.content = kept.content[: len(kept.content) // 2]
    found = selector.with_training(checkpoint=kept).select(rows, 12, rng=0)
    assert "damaged" in caplog.text
    assert np.array_equal(found.indices, selector.select(rows, 12, rng=0).indices)


def test_select__progress_counts_the_steps_of_training():
    rows, _ = blobs(200, 12, seed=3, dtype=np.float32)
    seen = []
    USLT(**SHORT).select(rows, 5, rng=0, progress=lambda *told: seen.append(told))
    steps = [told[1:] for told in seen if told[0] == "training"]
    assert steps == [(done, 9) for done in range(1, 10)]


def test_select__collapse_is_told_and_repaired():
    rows, truth = blobs(300, 12, seed=4, dtype=np.float32)
    # The global loss alone, unbalanced, from random linear heads: everything runs into one cluster.
    selector = USLT(
        epochs=30, batch=64, head_kind="linear", head_start="random", local_weight=0.0, balance="none",
        learning_rate=0.05, reseed_floor=0.0,
    )  # fmt: skip
    selection = selector.select(rows, 20, rng=0)
    check(selection, 300, 20)
    told = selection.diagnostics["training"]
    assert told["clusters_in_use"] < 10
    assert told["split"] == 20 - told["clusters_in_use"]
    assert "use" in told["warnings"][0]
    assert len(np.unique(truth[selection.indices])) >= 6
    sizes = np.bincount(selection.cluster)
    assert sizes.max() < 90


def test_select__collapse_into_a_labeled_cluster_still_spreads_the_picks():
    rows, truth = blobs(300, 12, seed=4, dtype=np.float32)
    selector = USLT(
        epochs=30, batch=64, head_kind="linear", head_start="random", local_weight=0.0, balance="none",
        learning_rate=0.05, reseed_floor=0.0, clusters=20,
    )  # fmt: skip
    # Whatever cluster everything ran into has a labeled row.
    selection = selector.select(rows, 20, rng=0, labeled=np.arange(0, 300, 25))
    check(selection, 300, 20)
    assert len(np.unique(truth[selection.indices])) >= 6
    assert np.bincount(selection.cluster).max() < 90


def test_select__losses_that_are_no_numbers_end_the_run():
    rows, _ = blobs(200, 12, seed=5, dtype=np.float32)
    with pytest.raises(SelectionError, match=r"epoch \d+.*learning_rate 1e\+30"):
        USLT(**SHORT, learning_rate=1e30).select(rows, 5, rng=0)


@pytest.mark.parametrize("m", [1, 2, 30, 59, 60])
@pytest.mark.parametrize("kind", ["normal", "identical", "zeros", "copies", "outlier"])
@pytest.mark.parametrize("options", [{}, {"preset": "paper-imagenet100", "epochs": 2}])
def test_select__hard_pools(kind, m, options):
    rng = np.random.default_rng(0)
    rows = {
        "normal": rng.normal(size=(60, 4)),
        "identical": np.ones((60, 4)),
        "zeros": np.concatenate([np.zeros((20, 4)), rng.normal(size=(40, 4))]),
        "copies": np.repeat(rng.normal(size=(3, 4)), 20, axis=0),
        "outlier": np.concatenate([rng.normal(size=(59, 4)), np.full((1, 4), 1e6)]),
    }[kind].astype(np.float32)
    check(USLT(**SHORT | options).select(rows, m, rng=0), 60, m)


def test_select__fewer_neighbors_than_asked_are_told():
    rows, _ = blobs(9, 4, seed=6, dtype=np.float32)
    selection = USLT(**SHORT, neighbors=20).select(rows, 3, rng=0)
    check(selection, 9, 3)
    assert "8 others" in " ".join(selection.diagnostics["training"]["warnings"])
    auto = USLT(**SHORT).select(rows, 4, rng=0)
    assert auto.diagnostics["training"]["warnings"] == []


def test_select__auto_looks_at_half_the_rows_per_cluster():
    rows, _ = blobs(200, 10, seed=4, dtype=np.float32)
    for options, count in (({}, 5), ({"clusters": 10}, 10)):
        auto = USLT(**SHORT, **options).select(rows, 20, rng=0)
        exact = USLT(**SHORT, **options, neighbors=count).select(rows, 20, rng=0)
        assert auto.diagnostics["neighbors"] == exact.diagnostics["neighbors"] == count
        assert np.array_equal(auto.indices, exact.indices)


def test_select__two_rows_and_one():
    for n in (1, 2):
        check(USLT(**SHORT).select(np.eye(2, 3, dtype=np.float32)[:n], n, rng=0), n, n)


@pytest.mark.parametrize("clusters", [4, 40])
def test_select__clusters_and_budget_may_differ(clusters):
    rows, _ = blobs(200, 12, seed=7, dtype=np.float32)
    selection = USLT(**SHORT, clusters=clusters).select(rows, 12, rng=0)
    check(selection, 200, 12)
    assert selection.diagnostics["training"]["clusters"] == clusters
    assert selection.diagnostics["training"]["split"] == max(0, 12 - clusters)


@pytest.mark.parametrize("start", ["k-means", "instances"])
def test_select__labeled_rows_hold_their_clusters(start):
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(5), 60)
    rows = (np.eye(5, 16)[truth] * 3 + rng.normal(size=(300, 16)) * 0.3).astype(np.float32)
    selection = USLT(**SHORT | {"epochs": 8}, head_start=start).select(
        rows, 3, rng=0, labeled=np.array([3, 70])
    )
    check(selection, 300, 3)
    if start == "k-means":
        assert sorted(truth[selection.indices]) == [2, 3, 4]
    every = np.arange(0, 300, 2)
    selection = USLT(**SHORT).select(rows, 150, rng=0, labeled=every)
    check(selection, 300, 150)
    assert not set(selection.indices) & set(every)


def test_select__neighbors_given_are_those_it_would_search():
    rows, _ = blobs(300, 12, seed=8, dtype=np.float32)
    selector = USLT(**SHORT)
    near = nearest_neighbors(selector.prepare(rows), k=32)
    found = selector.select(rows, 10, rng=0, neighbors=near)
    assert np.array_equal(found.indices, selector.select(rows, 10, rng=0).indices)


def test_select__finetuning_trains_on_images():
    rows, _ = blobs(50, 4, seed=9, dtype=np.float32)
    with pytest.raises(SelectionError, match="pictures"):
        USLT(preset="paper-cifar10").select(rows, 5, rng=0)
    check(USLT(preset="paper-cifar10", mode="heads", epochs=2).select(rows, 5, rng=0), 50, 5)


def test_presets__are_the_paper_s():
    presets = {name: USLT(preset=name) for name in USLT.presets}
    c10, c100, i100, i1000 = (
        presets[f"paper-{name}"] for name in ("cifar10", "cifar100", "imagenet100", "imagenet")
    )
    for one in (c10, c100):
        assert (one.epochs, one.learning_rate, one.weight_decay, one.batch) == (200, 1e-4, 1e-4, 1024)
        assert (one.threshold, one.temperature, one.adjustment, one.local_weight) == (0.95, 0.25, 5.0, 5.0)
        assert (one.mode, one.head_kind, one.head_start, one.balance) == (
            "finetune", "linear", "random", "reweight",
        )  # fmt: skip
        assert (one.clusters, one.reseed_floor) == (0, 0.0)
    assert (c10.mean_outside_mask, c100.mean_outside_mask) == (False, True)
    assert (c10.confidence, c100.confidence) == ("mean", "first")
    for one in (i100, i1000):
        assert (one.learning_rate, one.batch, one.hidden, one.mode) == (1e-4, 2048, 0, "heads")
        assert (one.threshold, one.temperature, one.adjustment, one.local_weight) == (0.0, 0.5, 2.5, 0.5)
        assert (one.head_kind, one.head_start, one.mean_outside_mask) == ("normed", "instances", True)
        assert one.reseed_after == 2
    assert (i100.epochs, i100.clusters, i100.balance) == (100, 400, "renormalised")
    assert (i1000.epochs, i1000.clusters, i1000.balance) == (10, 3000, "none")
    assert i100.reseed_floor * 126_689 / 400 == pytest.approx(50)
    assert i100.reseed_ceiling * 126_689 / 400 == pytest.approx(500)
    assert i1000.reseed_floor * 1_281_167 / 3000 == pytest.approx(100)
    assert i1000.reseed_ceiling * 1_281_167 / 3000 == pytest.approx(1000)
    assert all(one.heads == 3 and one.neighbors == 20 for one in presets.values())
    assert all(one.local_clusters == 0 for one in presets.values())


def test_options__bounds_are_named():
    with pytest.raises(SettingsError, match="temperature"):
        USLT(temperature=0.0)
