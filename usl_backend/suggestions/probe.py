"""Train a softmax regression in which every class weighs the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.selection.rows.threads import row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

DECAY: Final = 1e-4
"""Weight of half the squared norm of the weights beside the mean cross entropy."""
STEPS: Final = 1000
"""Steps at most."""
TOLERANCE: Final = 1e-6
"""Largest part of the gradient at which training is over."""


@dataclass(frozen=True)
class Probe:
    """A trained softmax regression.

    Attributes
    ----------
    weights : (d, c) float64
    bias : (c,) float64
    """

    weights: NDArray[np.float64]
    bias: NDArray[np.float64]

    def logits(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits (n, c) float32 of rows (n, d)."""
        result = np.empty((len(rows), len(self.bias)), dtype=np.float32)
        weights, bias = self.weights.astype(np.float32), self.bias.astype(np.float32)
        for block in row_blocks(len(rows), size=4096):
            np.matmul(rows[block], weights, out=result[block])
            result[block] += bias
        return result


def fit_probe(
    rows: NDArray[np.floating[Any]],
    *,
    classes: NDArray[np.integer[Any]],
    count: int,
    decay: float = DECAY,
    steps: int = STEPS,
) -> Probe:
    """Train a softmax regression by Nesterov's method.

    Parameters
    ----------
    rows : (l, d) float
        Labeled rows, of about unit length.
    classes : (l,) integers
        Their classes, 0 <= class < count, each with a row at least.
    count
        Number of classes.
    decay
        Weight of half the squared norm of the weights (not of the bias).
    steps
        At most.

    Returns
    -------
    Probe
        Minimum of sum_i w_i * cross entropy_i + decay / 2 * |W|^2 with w_i = 1 / (count * rows of i's class), to a
        gradient of 1e-6 unless the steps run out. Without randomness.
    """
    inputs = np.concatenate([rows.astype(np.float64), np.ones((len(rows), 1))], axis=1)
    share = 1.0 / (count * np.bincount(classes, minlength=count)[classes])
    truth = np.zeros((len(rows), count))
    truth[np.arange(len(rows)), classes] = 1.0
    shrink = np.full((inputs.shape[1], 1), decay)
    shrink[-1] = 0.0
    scaled = inputs * np.sqrt(share)[:, None]
    gram = scaled @ scaled.T if len(inputs) < inputs.shape[1] else scaled.T @ scaled
    step = 1.0 / (0.5 * float(np.linalg.eigvalsh(gram)[-1]) + decay)
    weights = ahead = np.zeros((inputs.shape[1], count))
    momentum = 1.0
    for _ in range(steps):
        given = softmax(inputs @ ahead)
        given -= truth
        given *= share[:, None]
        gradient = inputs.T @ given + shrink * ahead
        if float(np.abs(gradient).max()) < TOLERANCE:
            weights = ahead
            break
        moved = ahead - step * gradient
        following = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        if float(np.vdot(gradient, moved - weights)) > 0.0:
            # Uphill: the momentum has carried too far (O'Donoghue and Candes 2015).
            momentum = following = 1.0
        ahead = moved + (momentum - 1.0) / following * (moved - weights)
        weights, momentum = moved, following
    return Probe(weights[:-1], weights[-1])


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Shares of each row of logits; they sum to 1."""
    shares: NDArray[Any] = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    return shares
