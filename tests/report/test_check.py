from collections.abc import Callable

import numpy as np
import pytest
from digit_run import Made
from sklearn.datasets import load_digits

from usl_backend.instances import FEWEST_CONTROLS
from usl_backend.report.check import ControlCheck, TooFew, check, load_check, save_check
from usl_backend.selection import USL
from usl_backend.selection.rows.preparation import fit_projection


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, dict[int, str]]:
    data = load_digits()
    pixels = data.data.astype(np.float32)
    return fit_projection(pixels, dimensions=64).apply(pixels), dict(
        enumerate(str(label) for label in data.target)
    )


def checked(
    rows: np.ndarray, labels: dict[int, str], picks: np.ndarray, controls: np.ndarray
) -> ControlCheck | TooFew:
    rng = np.random.default_rng(0)
    return check(rows, picks=picks, controls=controls, labels=labels, rng=rng, read_at=5.0)


def brute(rows: np.ndarray, labels: dict[int, str], teachers: list[int], pupils: list[int]) -> float:
    """1-NN accuracy, one difference at a time; a task does not teach itself."""
    right = 0
    for pupil in pupils:
        others = [teacher for teacher in teachers if teacher != pupil]
        apart = [float(((rows[pupil] - rows[teacher]) ** 2).sum()) for teacher in others]
        right += labels[others[int(np.argmin(apart))]] == labels[pupil]
    return right / len(pupils)


def test_check__accuracy_is_that_of_the_picks_on_the_controls_a_pick_tested_without_its_own_label(
    digits: tuple[np.ndarray, dict[int, str]],
) -> None:
    rows, labels = digits
    picks, controls = np.arange(30), np.arange(20, 90)
    found = checked(rows, labels, picks, controls)
    assert isinstance(found, ControlCheck)
    assert (found.picks, found.controls, found.size) == (30, 70, 30)
    assert found.accuracy == pytest.approx(brute(rows, labels, list(range(30)), list(range(20, 90))))
    assert found.low < found.accuracy < found.high


def test_check__only_labeled_tasks_count(digits: tuple[np.ndarray, dict[int, str]]) -> None:
    rows, labels = digits
    known = {row: name for row, name in labels.items() if row % 2 == 0}
    found = checked(rows, known, np.arange(40), np.arange(100, 200))
    assert isinstance(found, ControlCheck)
    assert (found.picks, found.controls) == (20, 50)
    assert found.accuracy == pytest.approx(
        brute(rows, labels, list(range(0, 40, 2)), list(range(100, 200, 2)))
    )


def test_check__real_picks_beat_random_ones_of_the_same_number(
    digits: tuple[np.ndarray, dict[int, str]],
) -> None:
    rows, labels = digits
    picks = USL().select(rows, 20, rng=0).indices
    controls = np.random.default_rng(1).choice(len(rows), 300, replace=False)
    found = checked(rows, labels, picks, controls)
    assert isinstance(found, ControlCheck)
    assert found.size == 20
    assert found.picks_accuracy > found.random_accuracy
    assert found.better > 0.9


def test_check__picks_of_one_class_are_not_praised(digits: tuple[np.ndarray, dict[int, str]]) -> None:
    rows, labels = digits
    zeros = np.array([row for row, name in labels.items() if name == "0"])[:20]
    found = checked(rows, labels, zeros, np.arange(500, 700))
    assert isinstance(found, ControlCheck)
    assert found.better == 0.0


def test_check__a_control_set_of_twenty_is_enough_also_when_some_are_picks(
    digits: tuple[np.ndarray, dict[int, str]],
) -> None:
    rows, labels = digits
    found = checked(rows, labels, np.arange(30), np.arange(25, 25 + FEWEST_CONTROLS))
    assert isinstance(found, ControlCheck)
    assert found.controls == FEWEST_CONTROLS


def test_check__comparison_is_that_of_a_split_by_hand(digits: tuple[np.ndarray, dict[int, str]]) -> None:
    rows, labels = digits
    picks, controls = list(range(8)), list(range(5, 30))
    found = checked(rows, labels, np.array(picks), np.array(controls))
    assert isinstance(found, ControlCheck)
    rng, ours, theirs = np.random.default_rng(0), [], []
    for _ in range(50):
        order = rng.permutation(np.array(controls)).tolist()
        ours.append(brute(rows, labels, picks, order[8:]))
        theirs.append(brute(rows, labels, order[:8], order[8:]))
    assert found.picks_accuracy == pytest.approx(np.mean(ours))
    assert found.random_accuracy == pytest.approx(np.mean(theirs))


def test_check__too_few_labels_say_how_many_are_missing(digits: tuple[np.ndarray, dict[int, str]]) -> None:
    rows, labels = digits
    known = {row: name for row, name in labels.items() if row < 112}
    found = checked(rows, known, np.arange(30), np.arange(100, 130))
    assert found == TooFew(30, 12, 30)
    assert (found.missing_controls, found.missing_picks) == (8, 0)
    assert str(found) == (
        "too few labels for a check: 12 of the 30 tasks in the control set count as labeled, 8 more needed"
    )
    one = checked(rows, labels, np.arange(1), np.arange(100, 200))
    assert str(one) == "too few labels for a check: 1 picks are labeled, 1 more needed"
    none = checked(rows, {}, np.arange(30), np.arange(100, 200))
    assert "0 of the 100 tasks in the control set count as labeled, 20 more needed; 0 picks" in str(none)
    never = checked(rows, labels, np.arange(30), np.arange(100, 112))
    assert str(never) == (
        "the control set has 12 tasks, and a check takes 20 with a label: draw more with `usl-backend control`"
    )


def test_save_check__comes_back_and_damage_counts_as_none(make_run: Callable[..., Made]) -> None:
    made = make_run(40, budget=3)
    assert load_check(made.files) is None
    kept = ControlCheck(3, 30, 0.5, 0.4, 0.6, 3, 0.5, 0.4, 0.75, 1.0)
    save_check(made.files, kept)
    assert load_check(made.files) == kept
    (made.files.directory / "report" / "labels.json").write_text("{}")
    assert load_check(made.files) is None
