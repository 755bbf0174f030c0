import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from usl_backend.errors import InputError, SettingsError
from usl_backend.instances import Pool
from usl_backend.pipeline.select import (
    Readable,
    choose_next,
    final_budget,
    fit,
    measure_budgets,
    search,
    select,
)
from usl_backend.runs import RunFiles
from usl_backend.runs.budget_curves import load_budgets
from usl_backend.settings import RunSettings
from usl_backend.sources.wishes import Steered

NOTHING = np.array([], np.int64)


def settings(**explicit: object) -> RunSettings:
    return RunSettings.resolve(explicit=explicit, environ={})


def pool(n: int = 60, seed: int = 0) -> Pool:
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(n, 6)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return Pool(np.arange(n, dtype=np.int64) * 3 + 5, rows)


def test_final_budget__too_few_readable_names_both_numbers_and_the_way_out() -> None:
    readable = Readable(rows=312, listed=340, skipped=dict.fromkeys(range(28), "the file is empty (0 bytes)"))
    expected = (
        "budget is 500 but only 312 of 340 tasks could be read; lower the budget or see /usl/runs/12-7 "
        "or `usl-backend status 12-7` for the 28 unreadable"
    )
    with pytest.raises(InputError, match=re.escape(expected)):
        final_budget(settings(budget=500), readable, classes=10, run_id="12-7")
    with pytest.raises(InputError, match="budget is 320 but only 312 of 340"):
        final_budget(settings(budget="32/class"), readable, classes=10, run_id="12-7")


@pytest.mark.parametrize(
    ("budget", "expected"), [(None, 31), (312, 312), ("50%", 156), ("4/class", 40)], ids=str
)
def test_final_budget__resolved_against_what_could_be_read(budget: object, expected: int) -> None:
    readable = Readable(rows=312, listed=340, skipped=dict.fromkeys(range(28), "empty"))
    assert final_budget(settings(budget=budget), readable, classes=10, run_id="1-1") == expected


def test_final_budget__too_large_although_all_could_be_read() -> None:
    with pytest.raises(SettingsError, match="budget is 11 but only 10 tasks can be chosen"):
        final_budget(settings(budget=11), Readable(10, 10, {}), classes=0, run_id="1-1")


def test_final_budget__nothing_readable_names_the_first_reason() -> None:
    readable = Readable(rows=0, listed=2, skipped={9: "the file is empty (0 bytes)", 7: "404 Not Found"})
    with pytest.raises(InputError, match=r"none of the 2 tasks could be read \(task 7: 404 Not Found\)"):
        final_budget(settings(), readable, classes=0, run_id="1-1")


def test_final_budget__outliers_kept_out_are_no_picks_but_may_be_drawn() -> None:
    readable = Readable(rows=30, listed=40, skipped={}, outliers=10)
    assert final_budget(settings(budget="50%", control=35), readable, classes=0, run_id="1-1") == 15
    with pytest.raises(InputError, match="control is 41 but only 40 tasks can be drawn"):
        final_budget(settings(control=41), readable, classes=0, run_id="1-1")
    with pytest.raises(InputError, match="all 3 tasks that could be picked are outliers"):
        final_budget(settings(), Readable(0, 3, {}, outliers=3), classes=0, run_id="1-1")


def test_select__outliers_are_no_rows_for_the_method() -> None:
    whole, outliers = pool(), np.arange(1, 60, 4)
    rest = np.setdiff1d(np.arange(60), outliers)
    part = Pool(whole.ids[rest], whole.embeddings[rest])
    labeled, pinned, excluded = rest[[3, 9]], rest[[20, 5]], rest[[0, 30]]
    neighbors = search(whole, settings())

    def steer(place: NDArray[np.int64], **more: NDArray[np.int64]) -> Steered:
        return Steered(np.searchsorted(place, pinned), np.searchsorted(place, excluded), **more)

    found = select(
        whole,
        settings(),
        9,
        labeled=labeled,
        steered=steer(np.arange(60), outliers=outliers),
        neighbors=neighbors,
    )
    alone = select(part, settings(), 9, labeled=np.searchsorted(rest, labeled), steered=steer(rest))
    assert found.indices.tolist() == rest[alone.indices].tolist()
    assert found.diagnostics["kept_out"] == outliers.tolist()
    assert found.diagnostics["excluded"] == excluded.tolist()
    assert found.diagnostics["neighbors"] == alone.diagnostics["neighbors"]


def test_choose_next__outliers_are_no_rows_for_the_rule() -> None:
    whole, outliers = pool(), np.arange(1, 60, 4)
    rest = np.setdiff1d(np.arange(60), outliers)
    part = Pool(whole.ids[rest], whole.embeddings[rest])
    labeled = rest[:24]
    labels = {int(whole.ids[row]): "ab"[number % 2] for number, row in enumerate(labeled)}
    given = {"labels": labels, "withheld": (), "classes": ("a", "b"), "neighbors": None, "progress": None}
    steered = Steered(NOTHING, NOTHING, outliers=outliers)
    found = choose_next(whole, settings(next=True), 5, labeled=labeled, steered=steered, **given)
    alone = choose_next(part, settings(next=True), 5, labeled=np.arange(24), **given)
    assert found.indices.tolist() == rest[alone.indices].tolist()
    assert found.diagnostics["next"] == alone.diagnostics["next"]


def test_select__labeled_rows_are_never_picked_and_the_seed_decides() -> None:
    labeled = np.array([0, 1, 2, 3], np.int64)
    first = select(pool(), settings(seed=1), 12, labeled=labeled)
    again = select(pool(), settings(seed=1), 12, labeled=labeled)
    assert first.indices.tolist() == again.indices.tolist()
    assert len(set(first.indices.tolist())) == 12
    assert not set(first.indices.tolist()) & set(labeled.tolist())


@pytest.mark.parametrize(
    "options", [{}, {"preset": "paper-cifar10"}, {"method": "usl-t", "epochs": 2}], ids=str
)
def test_search__neighbors_change_nothing_but_the_time(options: dict[str, object]) -> None:
    chosen = settings(**options)
    neighbors = search(pool(), chosen)
    assert neighbors is not None
    with_neighbors = select(pool(), chosen, 9, labeled=NOTHING, neighbors=neighbors)
    without = select(pool(), chosen, 9, labeled=NOTHING)
    assert with_neighbors.indices.tolist() == without.indices.tolist()
    assert with_neighbors.score is not None
    assert without.score is not None
    np.testing.assert_array_equal(with_neighbors.score, without.score)


@pytest.mark.parametrize(
    "options",
    [
        {"projection": 3},
        {"preset": "paper-cifar10"},
        {"method": "usl-t", "epochs": 2, "projection": 3},
        {"method": "random"},
    ],
    ids=str,
)
def test_fit__shared_projection_changes_nothing_but_the_time(
    options: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = settings(**options)
    alone = select(pool(), chosen, 9, labeled=NOTHING, neighbors=search(pool(), chosen))
    found = fit(pool(), chosen)
    if found is not None:
        for module in ("usl", "uslt.method"):
            monkeypatch.setattr(f"usl_backend.selection.{module}.fit_projection", None)
    near = search(pool(), chosen, projection=found)
    shared = select(pool(), chosen, 9, labeled=NOTHING, projection=found, neighbors=near)
    assert shared.indices.tolist() == alone.indices.tolist()
    for one, other in ((shared.gain, alone.gain), (shared.score, alone.score)):
        assert one is not None or other is None
        np.testing.assert_array_equal(one, other)


def test_fit__outliers_are_no_part_of_the_projection() -> None:
    chosen = settings(projection=3)
    steered = Steered(NOTHING, NOTHING, outliers=np.arange(0, 60, 7))
    alone = select(pool(), chosen, 9, labeled=NOTHING, steered=steered)
    given = select(pool(), chosen, 9, labeled=NOTHING, steered=steered, projection=fit(pool(), chosen))
    assert given.gain.tolist() == alone.gain.tolist()


def brute_force(rows: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    distances = ((rows[:, None] - rows[None]) ** 2).sum(-1)
    return np.argsort(distances, axis=1, kind="stable")[:, :k]


def test_search__are_the_nearest_rows_of_the_paper() -> None:
    neighbors = search(pool(), settings(preset="paper-cifar10", neighbors=5))
    assert neighbors is not None
    np.testing.assert_array_equal(neighbors.indices, brute_force(pool().embeddings.astype(np.float64), 5))


def test_search__method_without_neighbors_and_single_row_have_none() -> None:
    assert search(pool(), settings(method="random")) is None
    assert search(pool(1), settings()) is None


def test_choose_next__labels_of_the_control_set_teach_nothing() -> None:
    made = pool()
    digits = {int(one): str(number % 2) for number, one in enumerate(made.ids.tolist()[:40])}

    def told(withheld: set[int], classes: tuple[str, ...]) -> dict[str, object]:
        found = choose_next(
            made,
            settings(next=True),
            5,
            labels=digits,
            withheld=withheld,
            classes=classes,
            labeled=np.arange(40),
            neighbors=None,
            progress=None,
        )
        assert min(found.indices) >= 40, "control tasks are not chosen either"
        return dict(found.diagnostics["next"])

    assert told(set(), ())["labels"] == 40
    assert told(set(made.ids.tolist()[:30]), ("0", "1", "2"))["labels"] == 10
    # a class that the label config no longer has still counts
    assert told(set(), ("1", "2"))["classes"] == 3


def test_measure_budgets__stored_up_to_ten_times_the_default_and_only_where_nothing_trains(
    tmp_path: Path,
) -> None:
    files, made = RunFiles(tmp_path), pool(400)
    labeled = np.arange(40)
    curve = measure_budgets(files, made, settings(budget=3), classes=2, labeled=labeled)
    assert curve is not None
    assert (curve.default, curve.budgets[0], curve.budgets[-1]) == (20, 1, 200)
    assert 0.4 < curve.random[curve.budgets.index(20)] < 0.6, "as many random rows cover half"
    assert curve.before > 0.0
    assert list(curve.picks) == sorted(curve.picks)
    assert load_budgets(files) == curve
    assert measure_budgets(files, made, settings(method="usl-t"), classes=2, labeled=labeled) is None
    assert measure_budgets(files, pool(40), settings(), classes=2, labeled=labeled) is None
    (tmp_path / "budgets.json").write_text("{")
    assert load_budgets(files) is None
