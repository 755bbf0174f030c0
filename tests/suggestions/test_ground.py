import numpy as np
import pytest
from made import picked, pool

from usl_backend.errors import InputError
from usl_backend.selection import USL
from usl_backend.suggestions.graph import NEIGHBORS, spread, symmetric_graph
from usl_backend.suggestions.ground import check_labels, prepare
from usl_backend.suggestions.probe import fit_probe


def test_shares__are_the_mean_of_two_softmaxes_after_division_by_the_mean_gap():
    rows, truth = pool(150, noise=1.2)
    labels = picked(truth, each=2)
    placed = USL().prepare(rows)
    graph = symmetric_graph(USL().search(rows).indices[:, :NEIGHBORS])
    step = (np.eye(150) + graph.average(np.eye(150, dtype=np.float32)).astype(np.float64)) / 2
    smoothed = step @ step @ placed
    smoothed /= np.linalg.norm(smoothed, axis=1, keepdims=True)
    labeled = np.flatnonzero(labels >= 0)
    probe = fit_probe(smoothed[labeled], classes=labels[labeled], count=3)
    expected = []
    for scores in (
        smoothed @ probe.weights + probe.bias,
        spread(graph, labeled, classes=labels[labeled], count=3).astype(np.float64),
    ):
        best = np.sort(scores, axis=1)
        scaled = scores / (best[:, -1] - best[:, -2]).mean()
        expected.append(np.exp(scaled) / np.exp(scaled).sum(axis=1, keepdims=True))
    ground = prepare(rows, neighbors=None, class_rows=None, seed=0, workers=1)
    found = ground.shares(labels)
    np.testing.assert_allclose(found.probe, expected[0], atol=2e-3)
    np.testing.assert_allclose(found.mean, (expected[0] + expected[1]) / 2, atol=2e-3)
    np.testing.assert_allclose(ground.agreement(truth), graph.agreement(truth), atol=1e-6)


def test_shares__classes_without_labels_take_no_part():
    rows, truth = pool(90)
    labels = picked(truth)
    labels[labels >= 0] *= 7
    found = prepare(rows, neighbors=None, class_rows=None, seed=0, workers=1).shares(labels)
    assert found.classes.tolist() == [0, 7, 14]
    np.testing.assert_allclose(found.mean.sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize(
    ("labels", "classes", "names", "message"),
    [
        ([-1] * 6, None, None, "there are no labels; label at least one row of each of two classes"),
        (
            [3, -1, 3, -1, -1, -1],
            None,
            None,
            "all 2 labels are of class 3; label at least one row of another",
        ),
        ([3, -1, 3, -1, -1, -1], 3, None, "label of row 0 is 3 but classes is 3; labels go from 0 to 2"),
        ([1, -1, 0, -1, -1, 4], None, 4, "label of row 5 is 4 but class_rows name 4; labels go from 0 to 3"),
        ([1, -1, 0, -2, -1, 4], None, None, "label of row 3 is -2; give 0 or more, -1 for none"),
        ([1, 0], None, None, r"labels are int64 of shape \(2,\); give 6 integers"),
        ([0.0, 1, 1, 1, 1, 1], None, None, "labels are float64 of shape"),
        ([-1] * 6, None, 1, "class_rows name 1 class and there are no labels"),
        ([-1, 0, -1, -1, -1, -1], None, 1, "all 1 labels are of class 0"),
    ],
)
def test_check_labels__names_what_cannot_be(labels, classes, names, message):
    with pytest.raises(InputError, match=message):
        check_labels(np.array(labels), n=6, classes=classes, names=names)


def test_check_labels__leaves_the_array_given_alone():
    labels = np.array([0, 1, -1])
    found = check_labels(labels, n=3, classes=2, names=None)
    found[:] = 5
    assert labels.tolist() == [0, 1, -1]
