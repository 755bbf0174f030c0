"""Clusters that can be picked from, made of the heads' answers: how sure, how many, repaired where too few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.selection.rows.kmeans import kmeans

if TYPE_CHECKING:
    from numpy.typing import NDArray

BINS = 10
"""Of the histogram of confidence."""


@dataclass(frozen=True)
class Answers:
    """Answers of the heads for every row.

    Attributes
    ----------
    clusters : (heads, n) int32
        Cluster of the largest probability.
    odds : (heads, n) float64
        log(p / (1 - p)) of that probability.
    """

    clusters: NDArray[np.int32]
    odds: NDArray[np.float64]

    def confidence(self, *, heads: int) -> NDArray[np.float64]:
        """Return the largest probability, 0 to 1, as the mean over the first `heads` heads: (n,)."""
        return np.asarray(1.0 - self._doubt(heads))

    def sureness(self, *, heads: int) -> NDArray[np.float64]:
        """Return -log(1 - confidence), (n,): the same order without ties where confidence rounds to 1."""
        return np.asarray(-np.log(np.maximum(self._doubt(heads), np.finfo(np.float64).tiny)))

    def _doubt(self, heads: int) -> NDArray[np.float64]:
        """Compute 1 - confidence."""
        return np.asarray((1.0 / (1.0 + np.exp(np.minimum(self.odds[:heads], 700.0)))).mean(axis=0))


def agreement(clusters: NDArray[np.integer[Any]]) -> float | None:
    """Compute the normalised mutual information between heads, (heads, n) clusters, as the mean over their pairs.

    Heads number their clusters each in its own way. 0 = one head says nothing about another, 1 = the same clusters;
    None for one head, or where all rows are in one cluster.
    """
    heads = len(clusters)
    found = []
    for first in range(heads):
        for second in range(first + 1, heads):
            a, b = clusters[first].astype(np.int64), clusters[second].astype(np.int64)
            apart = _entropy(a) + _entropy(b)
            if apart > 0.0:
                found.append(2.0 * (apart - _entropy(a * (int(b.max()) + 1) + b)) / apart)
    return float(np.clip(np.mean(found), 0.0, 1.0)) if found else None


def _entropy(labels: NDArray[np.int64]) -> float:
    """Compute the entropy of the shares of the labels, in nats."""
    _, counts = np.unique(labels, return_counts=True)
    share = counts / counts.sum()
    return float(-(share * np.log(share)).sum())


def without_held(
    labels: NDArray[np.int32], *, held: NDArray[np.int64], clusters: int
) -> tuple[NDArray[np.int32], int]:
    """Renumber the clusters that can be picked from without gaps; those of labeled rows become one, the last.

    `labels` (n,) are 0 to `clusters` - 1, some perhaps empty; `held` (l,) are the labeled rows. Returns labels (n,),
    0 to used - 1, or `used` for rows of held clusters, and `used`: the clusters that have rows, none of them labeled.
    """
    open_ = np.bincount(labels, minlength=clusters) > 0
    open_[labels[held]] = False
    used = int(open_.sum())
    names = np.full(clusters, used, dtype=np.int32)
    names[open_] = np.arange(used, dtype=np.int32)
    return names[labels], used


def split_largest(
    labels: NDArray[np.int32],
    points: NDArray[np.floating[Any]],
    *,
    empty: NDArray[np.integer[Any]],
    splittable: NDArray[np.bool_],
    rng: np.random.Generator,
) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Fill empty clusters by halving the largest ones, again and again, with k-means.

    Parameters
    ----------
    labels : (n,) int32
        Cluster of each row.
    points : (n, d) float
        Positions of the rows.
    empty : (e,) integers
        Clusters to fill.
    splittable : (k,) bool
        Clusters that may be halved.
    rng
        Source of the k-means starts.

    Returns
    -------
    labels : (n,) int32
        Fewer than e clusters are filled where the others hold a single row, or nothing but copies.
    changed : (k,) bool
        Clusters that were halved or filled.
    """
    labels, able = labels.copy(), splittable.copy()
    sizes = np.bincount(labels, minlength=len(able))
    changed = np.zeros(len(able), dtype=bool)
    for cluster in empty:
        while True:
            largest = int(np.where(able, sizes, 0).argmax())
            if not able[largest] or sizes[largest] < 2:
                return labels, changed
            members = np.flatnonzero(labels == largest)
            second = members[kmeans(points[members], clusters=2, rng=rng, restarts=5).labels == 1]
            if 0 < len(second) < len(members):
                break
            able[largest] = False
        labels[second] = cluster
        sizes[cluster], sizes[largest] = len(second), len(members) - len(second)
        able[cluster] = changed[cluster] = changed[largest] = True
    return labels, changed
