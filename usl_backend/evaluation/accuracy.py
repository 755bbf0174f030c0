"""Accuracy of classifiers trained on few labels: 1-NN, linear and label propagation. Rows are not normalized.

All three return the share of correct classes, 0 to 1; higher = better.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.selection import Neighbors

LINEAR_STEPS = 300
"""Accelerated gradient steps of the linear classifier."""
SPREAD_STEPS = 30
"""Steps of label propagation, after which the influence of the start is below .9^30 = 4 %."""


def nearest_neighbor_accuracy(
    rows: NDArray[np.floating[Any]],
    *,
    classes: NDArray[np.integer[Any]],
    test_rows: NDArray[np.floating[Any]],
    test_classes: NDArray[np.integer[Any]],
) -> float:
    """Return the accuracy of giving each test row the class of its nearest labeled row.

    Parameters
    ----------
    rows : (m, d) float
        Labeled rows.
    classes : (m,) integers
        Their classes.
    test_rows : (t, d) float
    test_classes : (t,) integers
        The truth.

    Returns
    -------
    float
        Accuracy, 0 to 1.

    Raises
    ------
    InputError
        There are no labeled rows or no test rows.
    """
    _check(rows, test_rows)
    half = np.einsum("ij,ij->i", rows, rows) / 2
    nearest = (test_rows @ rows.T - half).argmax(axis=1)
    return float((classes[nearest] == test_classes).mean())


def linear_accuracy(
    rows: NDArray[np.floating[Any]],
    *,
    classes: NDArray[np.integer[Any]],
    test_rows: NDArray[np.floating[Any]],
    test_classes: NDArray[np.integer[Any]],
    decay: float = 1e-3,
) -> float:
    """Return the accuracy of a softmax regression trained on the labeled rows.

    Parameters
    ----------
    rows : (m, d) float
        Labeled rows, of about unit length.
    classes : (m,) integers
        Their classes, 0 or more.
    test_rows : (t, d) float
    test_classes : (t,) integers
        The truth.
    decay
        Factor of the squared norm of the weights (without the bias), added to the mean cross entropy.

    Returns
    -------
    float
        Accuracy, 0 to 1.

    Raises
    ------
    InputError
        There are no labeled rows or no test rows.

    Notes
    -----
    Training is deterministic: 300 steps of Nesterov's method from zero with step size 1 / L.
    """
    _check(rows, test_rows)
    count = int(classes.max()) + 1
    # A constant column acts as the bias.
    inputs = np.concatenate([rows.astype(np.float64), np.ones((len(rows), 1))], axis=1)
    truth = np.eye(count)[classes]
    shrink = np.full((inputs.shape[1], 1), decay)
    shrink[-1] = 0.0
    gram = inputs @ inputs.T if len(inputs) < inputs.shape[1] else inputs.T @ inputs
    step = 1.0 / (0.5 * float(np.linalg.eigvalsh(gram)[-1]) / len(rows) + decay)
    weights = ahead = np.zeros((inputs.shape[1], count))
    momentum = 1.0
    for _ in range(LINEAR_STEPS):
        logits = inputs @ ahead
        logits -= logits.max(axis=1, keepdims=True)
        share = np.exp(logits)
        share /= share.sum(axis=1, keepdims=True)
        gradient = inputs.T @ (share - truth) / len(rows) + shrink * ahead
        moved = ahead - step * gradient
        following = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        ahead = moved + (momentum - 1.0) / following * (moved - weights)
        weights, momentum = moved, following
    predicted = (test_rows @ weights[:-1] + weights[-1]).argmax(axis=1)
    return float((predicted == test_classes).mean())


def propagation_accuracy(
    neighbors: Neighbors,
    *,
    picks: NDArray[np.integer[Any]],
    classes: NDArray[np.integer[Any]],
    truth: NDArray[np.integer[Any]],
    alpha: float = 0.9,
) -> float:
    """Return the accuracy of propagating labels over the nearest-neighbor graph (Zhou et al., NeurIPS 2003).

    Parameters
    ----------
    neighbors
        Neighbors of all rows of the pool, self excluded.
    picks : (m,) integers
        Labeled rows.
    classes : (m,) integers
        Their classes, 0 or more.
    truth : (n,) integers
        Class of every row of the pool.
    alpha
        Share of a row's belief that comes from its neighbors.

    Returns
    -------
    float
        Accuracy over the unlabeled rows, 0 to 1; a row that no label reaches counts as wrong.

    Raises
    ------
    InputError
        There are no labeled rows or no test rows.
    """
    n, k = neighbors.indices.shape
    rest = np.ones(n, dtype=bool)
    rest[picks] = False
    _check(picks, truth[rest])
    # Symmetrize the graph: an edge exists if either end lists the other.
    left = np.repeat(np.arange(n), k)
    right = neighbors.indices.ravel().astype(np.int64)
    edges = np.unique(np.concatenate([left * n + right, right * n + left]))
    left, right = edges // n, edges % n
    degree = np.bincount(left, minlength=n).astype(np.float64)
    weight = 1.0 / np.sqrt(degree[left] * degree[right])
    begin = np.concatenate([[0], np.cumsum(np.bincount(left, minlength=n))[:-1]])
    start = np.zeros((n, int(classes.max()) + 1))
    start[picks, classes] = 1.0
    belief: NDArray[Any] = start
    for _ in range(SPREAD_STEPS):
        spread = np.add.reduceat(belief[right] * weight[:, None], begin, axis=0)
        belief = alpha * spread + (1.0 - alpha) * start
    predicted = np.where(belief.max(axis=1) > 0.0, belief.argmax(axis=1), -1)
    return float((predicted[rest] == truth[rest]).mean())


def _check(labeled: NDArray[Any], test: NDArray[Any]) -> None:
    """Refuse an empty labeled or test set."""
    if len(labeled) == 0 or len(test) == 0:
        raise InputError(f"{len(labeled)} labeled and {len(test)} test rows; give at least 1 of each")
