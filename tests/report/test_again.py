import numpy as np
import pytest
from sklearn.datasets import load_digits

from usl_backend.report import again as module
from usl_backend.report.again import again
from usl_backend.selection.base import Selection
from usl_backend.selection.steering import EXCLUDED, PINNED
from usl_backend.settings import RunSettings

SETTINGS = RunSettings.resolve(explicit={"budget": 5, "seed": 3}, environ={})
NONE = np.empty(0, dtype=np.int64)


@pytest.fixture
def digits() -> np.ndarray:
    return load_digits().data[:300].astype(np.float32)


def chosen(digits: np.ndarray, *, count: int = 5, **wishes: list[int]) -> Selection:
    return Selection(
        indices=np.arange(count),
        gain=np.ones(count),
        score=None,
        cluster=np.zeros(len(digits), np.int32),
        diagnostics=wishes,
    )


def test_again__a_small_pool_is_chosen_from_as_the_run_does(digits: np.ndarray) -> None:
    found = again(digits, chosen(digits, count=30), SETTINGS, held=NONE)
    assert found.rows.tolist() == list(range(300))
    assert found.own is not None
    made = [found.choose(number).indices.tolist() for number in (1, 2)]
    expected = [SETTINGS.selector().select(digits, 30, rng=3 + number) for number in (1, 2)]
    assert made == [one.indices.tolist() for one in expected]
    assert made[0] != made[1]


def test_again__a_part_has_pins_and_labels_and_leaves_out_what_is_excluded(
    digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS", 60)
    pinned, held, barred = [7, 41], np.arange(100, 112), np.arange(0, 300, 3)
    wishes = {PINNED: pinned, EXCLUDED: np.setdiff1d(barred, [*pinned, *held]).tolist()}
    found = again(digits, chosen(digits, **wishes), SETTINGS, held=held)
    assert (len(found.rows), found.own) == (60, None)
    assert {*pinned, *held.tolist()} <= set(found.rows.tolist())
    picks = found.rows[found.choose(0).indices].tolist()
    assert (picks[:2], len(set(picks))) == (pinned, 5)
    assert not set(picks) & {*wishes[EXCLUDED], *held.tolist()}


def test_again__more_labels_than_half_of_a_part_are_not_all_in_it(
    digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS", 60)
    found = again(digits, chosen(digits), SETTINGS, held=np.arange(100))
    assert len(found.rows) == 60
    assert found.rows[found.held].tolist() == [row for row in found.rows.tolist() if row < 100]


def test_again__a_part_with_too_few_rows_to_pick_is_left_for_the_pool(
    digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS", 60)
    found = again(digits, chosen(digits, excluded=list(range(290))), SETTINGS, held=NONE)
    assert len(found.rows) == 300
    assert set(found.choose(1).indices.tolist()) <= set(range(290, 300))


@pytest.mark.parametrize("most", [60, 10_000])
def test_again__other_seeds_do_not_see_outliers_either(
    digits: np.ndarray, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(module, "ROWS", most)
    outliers = np.arange(0, 300, 4)
    found = again(digits, chosen(digits, kept_out=outliers.tolist()), SETTINGS, held=NONE)
    rest = np.setdiff1d(found.rows, outliers)
    alone = SETTINGS.selector().select(digits[rest], 5, rng=4)
    assert found.rows[found.choose(1).indices].tolist() == rest[alone.indices].tolist()
