import numpy as np
import pytest
from scipy.optimize import curve_fit
from sklearn.datasets import load_digits

from usl_backend.report import forces
from usl_backend.report.forces import fuzzy_graph, settle
from usl_backend.selection import nearest_neighbors
from usl_backend.selection.base import Neighbors


@pytest.fixture(scope="module")
def neighbors() -> Neighbors:
    return nearest_neighbors(load_digits().data[:200].astype(np.float32), k=9)


def test_curve__is_that_of_umap_for_its_distance() -> None:
    # as umap-learn fits it: 1 up to the distance, then falling exponentially, over three times the spread
    across = np.linspace(0, 3, 300)
    wanted = np.where(across < 0.5, 1.0, np.exp(-(across - 0.5)))
    (a, b), _ = curve_fit(lambda x, a, b: 1.0 / (1.0 + a * x ** (2 * b)), across, wanted)
    assert (float(forces._A), float(forces._B)) == pytest.approx((a, b), rel=1e-4)


def test_fuzzy_graph__unites_what_both_ends_say(neighbors: Neighbors) -> None:
    found = fuzzy_graph(neighbors, k=7)
    apart = np.sqrt(neighbors.distances[:, :7].astype(np.float64))
    directed = np.zeros((200, 200))
    for row in range(200):
        beyond = apart[row] - apart[row].min()
        scales = np.geomspace(1e-3, 1e3, 200_001)
        sums = np.exp(-beyond[:, None] / scales).sum(axis=0)
        scale = scales[np.abs(sums - np.log2(8)).argmin()]
        directed[row, neighbors.indices[row, :7]] = np.exp(-beyond / scale)
    union = directed + directed.T - directed * directed.T
    got = np.zeros((200, 200))
    got[found.first, found.second] = found.weight
    assert (found.first < found.second).all()
    assert got + got.T == pytest.approx(union, abs=1e-3)


def test_fuzzy_graph__copies_belong_wholly() -> None:
    copies = Neighbors(np.array([[1, 2], [0, 2], [0, 1]], np.int32), np.zeros((3, 2), np.float32), exact=True)
    assert fuzzy_graph(copies, k=2).weight.tolist() == [1.0, 1.0, 1.0]


def test_forces__are_the_slopes_of_umaps_loss() -> None:
    a, b = float(forces._A), float(forces._B)
    x, y, h = 0.7, -1.1, 1e-5

    def likeness(x: float, y: float) -> float:
        return 1.0 / (1.0 + a * (x * x + y * y) ** b)

    for repel, loss in (
        (False, lambda x, y: -np.log(likeness(x, y))),
        (True, lambda x, y: -0.3 * np.log(1.0 - likeness(x, y))),
    ):
        slope = (loss(x + h, y) - loss(x - h, y)) / (2 * h), (loss(x, y + h) - loss(x, y - h)) / (2 * h)
        step = forces._forces(np.float32([x]), np.float32([y]), np.float32(0.5), repel=repel)
        assert [float(part[0]) for part in step] == pytest.approx([-0.5 * part for part in slope], rel=2e-3)


def test_settle__repeats_and_keeps_neighbors(neighbors: Neighbors) -> None:
    start = np.random.default_rng(0).normal(size=(200, 2))
    graph = fuzzy_graph(neighbors, k=9)
    found = settle(start, graph, seed=1)
    assert found.dtype == np.float32
    assert np.array_equal(settle(start, graph, seed=1), found)
    points = ((found[:, None] - found[None]) ** 2).sum(axis=2)
    np.fill_diagonal(points, np.inf)
    near = np.argsort(points, axis=1)[:, :9]
    kept = [len(np.intersect1d(*both)) / 9 for both in zip(near, neighbors.indices, strict=True)]
    assert np.mean(kept) > 0.5
