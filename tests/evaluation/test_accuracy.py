import numpy as np
import pytest

from usl_backend.errors import InputError
from usl_backend.evaluation import (
    class_spread,
    linear_accuracy,
    nearest_neighbor_accuracy,
    propagation_accuracy,
)
from usl_backend.selection import nearest_neighbors


def digits(seed=0, labeled=40):
    from sklearn.datasets import load_digits

    held = load_digits()
    rows = held.data - held.data.mean(0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    order = np.random.default_rng(seed).permutation(len(rows))
    return rows, held.target, order[:labeled], order[labeled:]


def test_nearest_neighbor_accuracy__is_that_of_scikit_learn():
    from sklearn.neighbors import KNeighborsClassifier

    rows, truth, picks, rest = digits()
    peer = KNeighborsClassifier(1).fit(rows[picks], truth[picks]).score(rows[rest], truth[rest])
    ours = nearest_neighbor_accuracy(
        rows[picks], classes=truth[picks], test_rows=rows[rest], test_classes=truth[rest]
    )
    assert ours == pytest.approx(peer)
    assert 0.5 < ours < 1


@pytest.mark.parametrize("labeled", [15, 60, 400])
def test_linear_accuracy__is_that_of_scikit_learn(labeled):
    from sklearn.linear_model import LogisticRegression

    rows, truth, picks, rest = digits(labeled=labeled)
    # mean loss + decay / 2 |w|^2 is scikit-learn's with C = 1 / (decay n).
    peer = LogisticRegression(C=1 / (1e-2 * labeled), max_iter=5000).fit(rows[picks], truth[picks])
    ours = linear_accuracy(
        rows[picks], classes=truth[picks], test_rows=rows[rest], test_classes=truth[rest], decay=1e-2
    )
    assert ours == pytest.approx(peer.score(rows[rest], truth[rest]), abs=0.01)


def test_linear_accuracy__one_class_only_predicts_it():
    rows, truth, _, rest = digits()
    threes = np.flatnonzero(truth == 3)[:5]
    ours = linear_accuracy(
        rows[threes], classes=truth[threes], test_rows=rows[rest], test_classes=truth[rest]
    )
    assert ours == pytest.approx((truth[rest] == 3).mean())


def test_propagation_accuracy__matches_dense_iteration():
    rows, truth, picks, rest = digits()
    near = nearest_neighbors(rows.astype(np.float32), k=10)
    n = len(rows)
    graph = np.zeros((n, n))
    graph[np.repeat(np.arange(n), 10), near.indices.ravel()] = 1
    graph = np.maximum(graph, graph.T)
    degree = graph.sum(1)
    graph /= np.sqrt(degree[:, None] * degree[None])
    start = np.zeros((n, 10))
    start[picks, truth[picks]] = 1
    belief = start
    for _ in range(30):
        belief = 0.9 * graph @ belief + 0.1 * start
    expected = (belief.argmax(1) == truth)[rest].mean()
    ours = propagation_accuracy(near, picks=picks, classes=truth[picks], truth=truth)
    assert ours == pytest.approx(expected)
    assert ours > 0.8


def test_propagation_accuracy__unreached_rows_are_wrong():
    rows = np.repeat(np.eye(2, 2) * 100, 10, axis=0) + np.random.default_rng(0).normal(size=(20, 2)) * 0.1
    near = nearest_neighbors(rows, k=3)
    truth = np.zeros(20, dtype=int)
    ours = propagation_accuracy(near, picks=np.array([0]), classes=np.array([0]), truth=truth)
    assert ours == pytest.approx(9 / 19)


def test_accuracy__nothing_labeled_is_refused():
    rows = np.eye(3)
    with pytest.raises(InputError, match="0 labeled and 3 test rows"):
        nearest_neighbor_accuracy(
            rows[:0], classes=np.empty(0, int), test_rows=rows, test_classes=np.zeros(3, int)
        )


def test_class_spread__counts_and_direction():
    even = class_spread(np.array([0, 1, 2, 0, 1, 2]), classes=3)
    skewed = class_spread(np.array([0, 0, 0, 0, 1, 1]), classes=3)
    assert even.counts.tolist() == [2, 2, 2]
    assert (even.covered, even.deviation) == (3, 0.0)
    assert even.evenness == pytest.approx(1.0)
    assert skewed.counts.tolist() == [4, 2, 0]
    assert skewed.covered == 2
    assert skewed.deviation == pytest.approx(np.std([4, 2, 0]))
    assert skewed.evenness == pytest.approx(-(2 / 3 * np.log(2 / 3) + 1 / 3 * np.log(1 / 3)) / np.log(3))
    assert class_spread(np.zeros(4, int), classes=1).evenness == 1.0


def test_class_spread__bad_input_is_named():
    with pytest.raises(InputError, match="0 picks"):
        class_spread(np.empty(0, int), classes=3)
    with pytest.raises(InputError, match="class 3 but classes is 3; classes go from 0 to 2"):
        class_spread(np.array([3]), classes=3)
    with pytest.raises(InputError, match="class -1 but classes is 3"):
        class_spread(np.array([2, -1]), classes=3)
