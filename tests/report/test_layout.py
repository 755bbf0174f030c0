import importlib.util

import numpy as np
import pytest
from sklearn.datasets import load_digits

from usl_backend.report import layout
from usl_backend.report.layout import FEWEST, lay_out, shown_rows
from usl_backend.selection import nearest_neighbors
from usl_backend.selection.rows.preparation import fit_projection


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    data = load_digits()
    pixels = data.data[:400].astype(np.float32)
    return fit_projection(pixels, dimensions=32).apply(pixels), data.target[:400]


def agreement(points: np.ndarray, classes: np.ndarray) -> float:
    """Share of instances whose nearest other instance on the map has the same class."""
    apart = ((points[:, None].astype(np.float64) - points[None]) ** 2).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    return float((classes[apart.argmin(axis=1)] == classes).mean())


def test_shown_rows__all_of_a_small_pool() -> None:
    assert shown_rows(5, np.array([3])).tolist() == [0, 1, 2, 3, 4]


def test_shown_rows__picks_and_an_even_subset_of_a_large_one() -> None:
    picks = np.array([1, 2, 999])
    shown = shown_rows(1000, picks, most=50)
    assert len(shown) == 50
    assert set(picks) <= set(shown.tolist())
    assert (np.diff(shown) > 0).all()
    assert np.diff(np.setdiff1d(shown, picks)).max() <= 25


def test_shown_rows__picks_stay_even_where_they_are_too_many() -> None:
    assert shown_rows(30, np.arange(0, 30, 2), most=10).tolist() == list(range(0, 30, 2))


def test_lay_out__umap_keeps_digits_together_and_repeats(digits: tuple[np.ndarray, np.ndarray]) -> None:
    rows, classes = digits
    found = lay_out(rows, neighbors=nearest_neighbors(rows, k=20))
    assert (found.method, found.note) == ("umap", "")
    assert found.points.dtype == np.float32
    assert agreement(found.points, classes) > agreement(layout._principal(rows), classes) + 0.1
    assert np.array_equal(lay_out(rows, neighbors=nearest_neighbors(rows, k=20)).points, found.points)


def test_lay_out__few_rows_get_principal_components() -> None:
    rows = np.random.default_rng(0).normal(size=(FEWEST - 1, 6)).astype(np.float32)
    rows[:, 2] *= 9
    found = lay_out(rows)
    assert found.method == "pca"
    assert str(FEWEST - 1) in found.note
    assert abs(np.corrcoef(found.points[:, 0], rows[:, 2])[0, 1]) > 0.99


def test_lay_out__without_umap_says_how_to_get_it(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *more: None if name == "umap" else real(name, *more)
    )
    found = lay_out(digits[0])
    assert found.method == "pca"
    assert "pip install 'usl-backend[map]'" in found.note


def test_lay_out__a_failing_umap_falls_back(
    digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> np.ndarray:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(layout, "_umap", fails)
    found = lay_out(digits[0])
    assert (found.method, found.note) == ("pca", "UMAP failed (RuntimeError)")


@pytest.mark.parametrize("rows", [np.ones((3, 4), np.float32), np.arange(3.0)[:, None], np.ones((1, 1))])
def test_lay_out__degenerate_rows_have_finite_places(rows: np.ndarray) -> None:
    found = lay_out(rows.astype(np.float32))
    assert found.points.shape == (len(rows), 2)
    assert np.isfinite(found.points).all()


def test_lay_out__of_many_rows_places_the_others_beside_the_most_similar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(layout, "SAMPLED", 500)
    data = load_digits()
    rows = fit_projection(data.data.astype(np.float32), dimensions=32).apply(data.data.astype(np.float32))
    picks = np.array([1, 2, 3, 1000])
    found = lay_out(rows, picks=picks)
    assert (found.method, found.note) == (
        "umap",
        "of 500; each other one lies beside the most similar of these",
    )
    assert np.array_equal(lay_out(rows, picks=picks).points, found.points)
    some = shown_rows(len(rows), picks, most=500)
    others = np.setdiff1d(np.arange(len(rows)), some)
    nearest = some[((rows[others, None] - rows[None, some]) ** 2).sum(axis=2).argmin(axis=1)]
    assert np.abs(found.points[others] - found.points[nearest]).max() <= layout._PULL * layout._BESIDE
    assert agreement(found.points, data.target) > agreement(layout._principal(rows), data.target) + 0.2


def test_lay_out__of_many_equal_rows_is_finite(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "SAMPLED", 150)
    assert np.isfinite(lay_out(np.ones((400, 8), np.float32)).points).all()
