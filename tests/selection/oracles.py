"""Slow, literal float64 versions of the formulas that the selection room is held to."""

import numpy as np


def squared(a, b):
    return ((a[:, None, :] - b[None, :, :]) ** 2).sum(-1)


def nearest(rows, k, *, include_self):
    distances = squared(rows, rows)
    indices, values = [], []
    for i in range(len(rows)):
        order = [j for j in np.argsort(distances[i], kind="stable") if include_self or j != i]
        if include_self:
            order.remove(i)
            order.insert(0, i)
        indices.append(order[:k])
        values.append(distances[i][order[:k]])
    return np.array(indices), np.array(values)


def paper_usl(
    rows, start, *, k, weight, rounds, momentum, alpha, horizon_distance=None, horizon_num=None,
    exclude_same_cluster=False, iterations,
):  # fmt: skip
    """The official algorithm step by step: one pick per cluster that has rows, in cluster order.

    Horizon by distance skips the own cluster's pick; by number it skips picks at distance 0, or the own cluster's
    when `exclude_same_cluster`. Empty clusters yield no pick.
    """
    rows = np.asarray(rows, dtype=np.float64)
    n, m = len(rows), len(start)
    distances = squared(rows, rows)
    score = np.empty(n)
    with np.errstate(divide="ignore"):
        for i in range(n):
            score[i] = 1.0 / np.sort(distances[i])[:k].mean()
    centers = rows[start].copy()
    labels = np.zeros(n, dtype=int)
    for _ in range(iterations):
        labels = np.nanargmin(squared(rows, centers), axis=1)
        before = centers.copy()
        for c in range(m):
            members = rows[labels == c]
            centers[c] = members.mean(0) if len(members) else np.nan
        if np.array_equal(before, centers, equal_nan=True):
            break  # every further step would repeat this one
    force = np.zeros(n)
    picks = {}
    for _ in range(rounds):
        picks = {}
        for c in range(m):
            members = np.flatnonzero(labels == c)
            if len(members):
                picks[c] = members[np.argmax(score[members] - weight * force[members])]
        new = np.zeros(n)
        for i in range(n):
            pairs = [(distances[i, p], c) for c, p in picks.items()]
            if horizon_distance is not None:
                kept = [d for d, c in pairs if d < horizon_distance and c != labels[i]]
            else:
                near = sorted(pairs, key=lambda pair: pair[0])[:horizon_num]
                kept = [d for d, c in near if (c != labels[i] if exclude_same_cluster else d > 0)]
            new[i] = sum(1.0 / d**alpha for d in kept)
        force = momentum * force + (1 - momentum) * new
    return np.array(list(picks.values()), dtype=int), labels, score


PAPER = {
    "paper-cifar10": {
        "k": 400, "weight": 0.5, "rounds": 10, "momentum": 0.9, "alpha": 0.5, "horizon_distance": 4.0,
        "iterations": 200,
    },
    "paper-cifar100": {
        "k": 400, "weight": 1.0, "rounds": 10, "momentum": 0.9, "alpha": 1.0, "horizon_distance": 1.0,
        "iterations": 200,
    },
    "paper-imagenet-moco": {
        "k": 20, "weight": 1.5, "rounds": 2, "momentum": 0.0, "alpha": 0.5, "horizon_num": 128, "iterations": 100,
    },
    "paper-imagenet-clip": {
        "k": 20, "weight": 0.05, "rounds": 2, "momentum": 0.0, "alpha": 1.0, "horizon_num": 32,
        "exclude_same_cluster": True, "iterations": 100,
    },
}  # fmt: skip


def blobs(n, d, *, seed, groups=8, unit=True, dtype=np.float64):
    """Unit rows around a few centers of unequal size."""
    rng = np.random.default_rng(seed)
    share = rng.random(groups) + 0.2
    labels = rng.choice(groups, n, p=share / share.sum())
    rows = rng.normal(size=(groups, d))[labels] * 1.5 + rng.normal(size=(n, d)) * rng.uniform(
        0.4, 1.2, (n, 1)
    )
    if unit:
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows.astype(dtype), labels
