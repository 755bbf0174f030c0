import xml.etree.ElementTree as ET
from typing import Any

import numpy as np
import pytest

from usl_backend.errors import InputError
from usl_backend.evaluation.curve import draw
from usl_backend.evaluation.efficiency import Efficiency, replay
from usl_backend.selection import METHODS, Selection


def blobs(n: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Well-parted blobs of very unequal size."""
    rng = np.random.default_rng(seed)
    share = np.geomspace(8, 1, classes)
    labels = rng.choice(classes, n, p=share / share.sum())
    return (rng.normal(size=(classes, 16)) * 3)[labels] + 0.3 * rng.normal(size=(n, 16)), labels


class Oracle:
    """Knows where each row came from only through what it is handed: returns the first rows."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, Any]] = []

    def select(self, embeddings: np.ndarray, budget: int, *, rng: Any, **_: Any) -> Selection:
        self.seen.append((len(embeddings), budget, rng))
        n = len(embeddings)
        return Selection(np.arange(budget), np.zeros(budget), None, np.zeros(n, np.int32))


def test_replay__chosen_labels_beat_random_ones_on_unequal_blobs() -> None:
    rows, labels = blobs(400, 8)
    found = replay(rows, labels, budgets=[8, 16], methods={"usl": METHODS["usl"]()}, seeds=3)
    assert found.accuracy["usl"].shape == (2, 3)
    assert found.covered["usl"][0].mean() >= 0.875
    assert found.covered["random"][0].mean() < 0.85
    assert found.accuracy["usl"][0].mean() > found.accuracy["random"][0].mean() + 0.1
    worth = found.random_equivalent("usl", 0)
    assert worth is None or worth > 12


def test_replay__pool_and_test_rows_are_apart_and_every_seed_differs() -> None:
    rows, labels = blobs(100, 3)
    oracle = Oracle()
    found = replay(rows, labels, budgets=[70, 7], methods={"first": oracle}, seeds=2)
    assert oracle.seen == [(70, 7, 0), (70, 70, 0), (70, 7, 1), (70, 70, 1)]
    assert found.budgets == (7, 70)
    # The whole pool is one and the same for every way of choosing.
    assert np.allclose(found.accuracy["first"][1], found.accuracy["random"][1])


def test_replay__pure_noise_is_guessing() -> None:
    rng = np.random.default_rng(0)
    rows, labels = rng.normal(size=(300, 8)), rng.integers(4, size=300)
    found = replay(rows, labels, budgets=[40], methods={}, seeds=4)
    assert abs(found.accuracy["random"].mean() - 0.25) < 0.08


def test_replay__progress_counts_to_the_end() -> None:
    rows, labels = blobs(60, 2)
    told: list[tuple[int, int]] = []
    replay(rows, labels, budgets=[4, 8], methods={}, seeds=2, progress=lambda _, *at: told.append(at))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("n", "classes", "budgets", "match"),
    [
        (39, 2, [4], "evaluate needs 40 labeled rows in 2 classes, found 39 in 2"),
        (100, 1, [4], "evaluate needs 40 labeled rows in 2 classes, found 100 in 1"),
        (100, 2, [71], r"budgets \(71,\) must lie between 1 and the pool of 70 of 100"),
        (100, 2, [0, 4], r"budgets \(0, 4\)"),
        (100, 2, [], r"budgets \(\)"),
    ],
)
def test_replay__refuses(n: int, classes: int, budgets: list[int], match: str) -> None:
    rows = np.ones((n, 3))
    with pytest.raises(InputError, match=match):
        replay(rows, np.arange(n) % classes, budgets=budgets, methods={})


def made(accuracy: float, ladder: list[float]) -> Efficiency:
    values = np.full((1, 2), accuracy)
    return Efficiency(
        (10,), {"a": values, "random": values}, {"a": values, "random": values},
        np.array([10, 20, 40]), np.array(ladder), 100, 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [
        (0.5, 10.0),
        (0.4, 10.0),
        (0.6, 20.0),
        (0.55, 10 * 2**0.5),
        (0.7, 20 * 2**0.5),
        (0.8, 40.0),
        (0.81, None),
    ],
)
def test_random_equivalent__between_the_steps_in_logarithms(accuracy: float, expected: float | None) -> None:
    worth = made(accuracy, [0.5, 0.6, 0.8]).random_equivalent("a", 0)
    assert worth == (None if expected is None else pytest.approx(expected))


def test_random_equivalent__flat_curve_gives_the_fewest() -> None:
    assert made(0.6, [0.5, 0.6, 0.6]).random_equivalent("a", 0) == pytest.approx(20.0)


def test_draw__points_lie_where_the_figures_are() -> None:
    values = np.array([[0.2, 0.2], [0.6, 0.6]])
    found = Efficiency(
        (10, 40), {"a<b": values, "random": values / 2}, {}, np.array([10]), np.array([0.1]), 100, 2
    )
    root = ET.fromstring(draw(found))
    lines = [
        [tuple(map(float, pair.split(","))) for pair in element.attrib["points"].split()]
        for element in root.iter("{http://www.w3.org/2000/svg}polyline")
    ]
    # The axis goes from 10 % (y = 352) to 60 % (y = 16).
    assert lines[0] == [(56.0, pytest.approx(284.8)), (570.0, 16.0)]
    assert lines[1] == [(56.0, 352.0), (570.0, pytest.approx(217.6))]
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "a<b" in texts
    assert "60 %" in texts


def test_draw__one_budget_and_equal_figures() -> None:
    values = np.full((1, 2), 0.5)
    found = Efficiency((10,), {"random": values}, {}, np.array([10]), np.array([0.5]), 100, 2)
    assert "nan" not in draw(found)
    ET.fromstring(draw(found))


@pytest.mark.parametrize(("share", "ticks"), [(1.0, ["90 %", "100 %"]), (0.0, ["0 %", "10 %"])])
def test_draw__no_tick_beyond_what_a_share_can_be(share: float, ticks: list[str]) -> None:
    values = np.full((1, 2), share)
    drawn = draw(Efficiency((10,), {"random": values}, {}, np.array([10]), np.array([share]), 100, 2))
    texts = [element.text or "" for element in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}text")]
    assert [text for text in texts if text.endswith("%")] == ticks


def test_replay__the_curve_of_random_ends_at_the_pool() -> None:
    rows, labels = blobs(120, 2)
    found = replay(rows, labels, budgets=[84], methods={}, seeds=2)
    assert found.random_budgets.tolist() == [84]
