"""What the scale benchmark compares with: a scikit-learn pipeline and the official algorithm, step by step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 4096


@dataclass(frozen=True)
class Choice:
    """Picks and the cluster of every row."""

    picks: NDArray[np.int64]
    clusters: NDArray[np.integer[Any]]


def sklearn_pipeline(rows: NDArray[np.float32], budget: int, *, k: int, seed: int) -> Choice:
    """NearestNeighbors, KMeans, one round of repulsion from the 64 nearest picks."""
    from sklearn.cluster import KMeans
    from sklearn.neighbors import NearestNeighbors

    distances, _ = NearestNeighbors(n_neighbors=k + 1, algorithm="brute").fit(rows).kneighbors(rows)
    score = 1.0 / (distances[:, 1:] ** 2).mean(axis=1)
    labels = KMeans(budget, n_init=1, random_state=seed).fit(rows).labels_
    picks = _argmax(score, labels, budget)
    force = np.empty(len(rows), dtype=np.float32)
    near = min(64, budget)
    for begin in range(0, len(rows), BLOCK):
        apart = _squared(rows[begin : begin + BLOCK], rows[picks])
        apart = np.partition(apart, near - 1, axis=1)[:, :near]
        force[begin : begin + BLOCK] = (1.0 / np.sqrt(np.maximum(apart, 1e-6))).sum(axis=1)
    score, force = score / np.median(score), force / np.median(force)
    return Choice(_argmax(score - 0.5 * force, labels, budget), labels)


def official_port(rows: NDArray[np.float32], budget: int, *, k: int, seed: int) -> Choice:
    """The official CIFAR-10 settings with K = k: 200 Lloyd steps, 10 rounds, everything computed anew each time.

    Neighbors come from faiss and distances from matrix products: it is not slow on purpose.
    """
    import faiss

    distances, _ = faiss.knn(rows, rows, k)
    score = 1.0 / np.maximum(distances, 0).mean(axis=1)
    centers = rows[np.random.default_rng(seed).permutation(len(rows))[:budget]]
    labels = np.zeros(len(rows), dtype=np.int64)
    for _ in range(200):
        half = (centers**2).sum(axis=1) / 2
        for begin in range(0, len(rows), BLOCK):
            product = rows[begin : begin + BLOCK] @ centers.T
            labels[begin : begin + BLOCK] = (product - half).argmax(axis=1)
        sums = np.zeros((budget, rows.shape[1]), dtype=np.float64)
        order = np.argsort(labels, kind="stable")
        present, first = np.unique(labels[order], return_index=True)
        for label, part in zip(present, np.split(order, first[1:]), strict=True):
            sums[label] = rows[part].sum(axis=0, dtype=np.float64)
        counts = np.maximum(np.bincount(labels, minlength=budget), 1)
        centers = (sums / counts[:, None]).astype(np.float32)
    force = np.zeros(len(rows), dtype=np.float32)
    picks: NDArray[np.int64] = np.empty(0, dtype=np.int64)
    for _ in range(10):
        picks = _argmax(score - 0.5 * force, labels, budget)
        new = np.empty_like(force)
        for begin in range(0, len(rows), BLOCK):
            block = slice(begin, begin + BLOCK)
            apart = np.maximum(_squared(rows[block], rows[picks]), 1e-12)
            pull = np.where(apart < 4.0, 1.0 / np.sqrt(apart), 0.0)
            pull[labels[block, None] == labels[picks][None, :]] = 0.0
            new[block] = pull.sum(axis=1)
        force = 0.9 * force + 0.1 * new
    return Choice(picks, labels)


def _argmax(utility: NDArray[Any], labels: NDArray[Any], clusters: int) -> NDArray[np.int64]:
    """Best row of each cluster that has one."""
    order = np.lexsort((-utility, labels))
    present, first = np.unique(labels[order], return_index=True)
    return np.asarray(order[first][present < clusters], dtype=np.int64)


def _squared(rows: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Squared distances by matrix product."""
    return np.asarray((rows**2).sum(axis=1)[:, None] + (others**2).sum(axis=1) - 2.0 * rows @ others.T)
