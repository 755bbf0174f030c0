import numpy as np
from made import pool
from sklearn.linear_model import LogisticRegression

from usl_backend.suggestions.probe import fit_probe, softmax


def unit_rows(n, **options):
    rows, truth = pool(n, **options)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True), truth


def test_fit_probe__is_the_minimum_that_another_solver_finds():
    rows, truth = unit_rows(60, noise=1.0)
    kept = np.concatenate([np.flatnonzero(truth == 0), np.flatnonzero(truth)[:12]])
    rows, truth = rows[kept].astype(np.float64), truth[kept]
    decay = 1e-2
    found = fit_probe(rows, classes=truth, count=3, decay=decay)
    # scikit-learn sums the weighted losses: C = 1 / decay where the weights sum to 1.
    weights = 1 / (3 * np.bincount(truth)[truth])
    other = LogisticRegression(C=1 / decay, tol=1e-10, max_iter=5000).fit(rows, truth, sample_weight=weights)
    np.testing.assert_allclose(found.weights, other.coef_.T, atol=2e-3)
    np.testing.assert_allclose(
        softmax(found.logits(rows.astype(np.float32))), other.predict_proba(rows), atol=1e-3
    )


def test_fit_probe__classes_weigh_the_same_however_many_labels_they_have():
    rows, truth = unit_rows(80, classes=2, noise=2.5)
    many = np.concatenate([np.flatnonzero(truth == 0), np.flatnonzero(truth == 1)[:4]])
    repeated = np.concatenate([np.flatnonzero(truth == 0), np.repeat(np.flatnonzero(truth == 1)[:4], 10)])
    found = [fit_probe(rows[kept], classes=truth[kept], count=2).logits(rows) for kept in (many, repeated)]
    np.testing.assert_allclose(softmax(found[0]), softmax(found[1]), atol=1e-3)


def test_fit_probe__default_decay_reaches_a_gradient_near_zero():
    rows, truth = unit_rows(40, classes=4)
    found = fit_probe(rows, classes=truth, count=4)
    given = softmax(rows @ found.weights + found.bias)
    given[np.arange(40), truth] -= 1
    gradient = rows.T @ given / 40 + 1e-4 * found.weights
    assert np.abs(gradient).max() < 1e-5
