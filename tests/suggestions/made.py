"""Pools with classes, and suggestions as if made from them."""

import numpy as np

from usl_backend.suggestions import Suggestions


def pool(n=240, *, classes=3, dimensions=16, noise=0.6, seed=0):
    """Rows (n, d) float32 around a center per class, and the classes."""
    rng = np.random.default_rng(seed)
    truth = np.arange(n) % classes
    centers = rng.normal(size=(classes, dimensions))
    return (centers[truth] + noise * rng.normal(size=(n, dimensions))).astype(np.float32), truth


def picked(truth, *, each=1):
    """Labels of the first rows of each class, -1 elsewhere."""
    labels = np.full(len(truth), -1)
    for kind in np.unique(truth):
        rows = np.flatnonzero(truth == kind)[:each]
        labels[rows] = kind
    return labels


def simulated(n, *, rng, steepness=6.0, middle=0.4):
    """Suggestions of which surer ones are right more often, and the truth: chance = logistic in the confidence."""
    confidence = rng.random(n).astype(np.float32)
    chance = 1 / (1 + np.exp(-steepness * (confidence - middle)))
    truth = rng.integers(0, 4, n)
    label = np.where(rng.random(n) < chance, truth, (truth + 1) % 4)
    made = as_suggestions(label, confidence)
    return made, truth, chance


def as_suggestions(label, confidence, given=None):
    """Suggestions with these labels and confidences."""
    confidence = np.asarray(confidence, dtype=np.float32)
    given = np.zeros(len(label), dtype=bool) if given is None else given
    return Suggestions(
        label=np.asarray(label, dtype=np.int64),
        confidence=confidence,
        order=np.lexsort((np.arange(len(label)), -confidence, ~given)),
        given=given,
        margin=confidence,
        probe=confidence,
        agreement=confidence,
        classes=np.unique(label),
    )
