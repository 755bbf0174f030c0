"""Embeddings checked and made ready: finite, projected, unit-length rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.errors import SelectionError
from usl_backend.selection.rows.threads import row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 16_384
"""Rows read at once: a memory-mapped pool is never in memory as a whole."""
LARGEST = 1e18
"""Values from here on overflow when they are squared in float32."""
COVARIANCE_ROWS = 65_536
"""Rows, evenly spaced, that the principal components are computed from."""
LEAST_VARIANCE = 1e-9
"""Share of the first axis's variance that the last needs to be told from rounding by the products of rows."""


def check_embeddings(embeddings: NDArray[np.floating[Any]]) -> None:
    """Refuse embeddings that no selection can be made from; they may be memory-mapped and are read in blocks.

    Raises SelectionError for anything but a two-dimensional array of float16, float32 or float64, for no rows or
    columns, and for a value that is NaN, infinite or beyond 1e18 (the row is named).
    """
    if not isinstance(embeddings, np.ndarray) or embeddings.ndim != 2:
        shape = getattr(embeddings, "shape", type(embeddings).__name__)
        raise SelectionError(f"embeddings are {shape}; give an array of shape (rows, dimensions)")
    if embeddings.dtype not in (np.float16, np.float32, np.float64):
        raise SelectionError(f"embeddings are {embeddings.dtype}; give float16, float32 or float64")
    n, d = embeddings.shape
    if n == 0 or d == 0:
        raise SelectionError(f"embeddings have the shape ({n}, {d}); there is nothing to select from")
    for block in row_blocks(n, size=BLOCK):
        part = embeddings[block]
        # NaN fails both comparisons, so that one pass over the values finds every kind of trouble.
        if float(part.min()) > -LARGEST and float(part.max()) < LARGEST:
            continue
        raise SelectionError(_trouble(embeddings))


def _trouble(embeddings: NDArray[np.floating[Any]]) -> str:
    """Say which rows hold values that cannot be computed with."""
    bad: list[int] = []
    for block in row_blocks(len(embeddings), size=BLOCK):
        part = embeddings[block].astype(np.float64)
        fit = ((part > -LARGEST) & (part < LARGEST)).all(axis=1)
        bad.extend((np.flatnonzero(~fit) + block.start).tolist())
    others = f" and {len(bad) - 1} more rows" if len(bad) > 1 else ""
    kind = "values beyond 1e18" if np.isfinite(embeddings[bad[0]]).all() else "NaN or infinity"
    return f"row {bad[0]}{others} of the embeddings hold {kind}; leave those rows out or embed them again"


def generator(rng: int | np.random.Generator) -> np.random.Generator:
    """Make a generator from a seed, or return the one given; SelectionError for a seed that is no whole number >= 0."""
    if isinstance(rng, np.random.Generator):
        return rng
    if isinstance(rng, bool) or not isinstance(rng, int | np.integer) or rng < 0:
        raise SelectionError(f"rng is {rng!r}; give a seed of 0 or more, or a numpy Generator")
    return np.random.default_rng(int(rng))


def check_budget(
    budget: int,
    *,
    n: int,
    labeled: NDArray[np.integer[Any]] | None = None,
    excluded: NDArray[np.integer[Any]] | None = None,
) -> tuple[int, NDArray[np.int64], NDArray[np.int64]]:
    """Refuse a budget that cannot be met by distinct rows that are neither labeled nor excluded.

    Returns the budget, the labeled rows (l,), and the excluded rows (e,) that are not labeled, each ascending and
    distinct. Raises SelectionError where the budget is no whole number, below 1 or above the number of rows that may
    be picked, or where a labeled or excluded row is outside the pool of n rows.
    """
    if isinstance(budget, bool) or not isinstance(budget, int | np.integer):
        raise SelectionError(f"budget is {budget!r}; give a whole number of rows to pick")
    held = _rows_named(labeled, "labeled", n=n)
    barred = np.setdiff1d(_rows_named(excluded, "excluded", n=n), held)
    free = n - len(held) - len(barred)
    if budget < 1:
        raise SelectionError(f"budget is {budget}; give at least 1")
    if budget > free:
        pool = f"{n} rows" if not len(held) else f"{n - len(held)} unlabeled of {n} rows"
        if len(barred):
            pool += f", {len(barred)} of them excluded"
        raise SelectionError(
            f"budget is {budget} but the pool has {pool}; lower the budget to {free} or less"
        )
    return int(budget), held, barred


def _rows_named(rows: NDArray[np.integer[Any]] | None, name: str, *, n: int) -> NDArray[np.int64]:
    """Return rows ascending and distinct; refuse those outside the pool."""
    found = np.unique(np.asarray(rows if rows is not None else [], dtype=np.int64))
    if len(found) and (found[0] < 0 or found[-1] >= n):
        outside = found[0] if found[0] < 0 else found[-1]
        raise SelectionError(f"{name} names row {outside} but the pool has rows 0 to {n - 1}")
    return found


@dataclass(frozen=True)
class Projection:
    """Centre and principal axes of a pool: kept with a run, so that new rows can be placed among the old.

    Attributes
    ----------
    mean : (d,) float64
        Subtracted from each row; zeros where the pool is not centred.
    axes : (d, p) float64 or None
        Orthonormal columns, largest variance first; None leaves the dimensions as they are.
    normalize
        Bring rows to unit length afterwards; rows of length zero stay zero.
    """

    mean: NDArray[np.float64]
    axes: NDArray[np.float64] | None
    normalize: bool

    def apply(
        self, embeddings: NDArray[np.floating[Any]], *, dtype: type[np.floating[Any]] = np.float32
    ) -> NDArray[Any]:
        """Place rows (n, d) of any float type in the projected space: (n, p), C-contiguous, read in blocks.

        `dtype` is that of the result: float32, or float64 for a preset on float64 rows.
        """
        n, d = embeddings.shape
        width = d if self.axes is None else self.axes.shape[1]
        rows = np.empty((n, width), dtype=dtype)
        mean = self.mean.astype(dtype)
        axes = None if self.axes is None else self.axes.astype(dtype)
        for block in row_blocks(n, size=BLOCK):
            part = embeddings[block].astype(dtype)
            part -= mean
            if axes is not None:
                part = part @ axes
            if self.normalize:
                length = np.sqrt(np.einsum("ij,ij->i", part, part, dtype=np.float64))
                # Rounding leaves a row that equals the centre with a length near zero: its direction is noise.
                tiny = length <= 1e-6 * float(np.linalg.norm(self.mean))
                length[tiny] = 1.0
                part /= length[:, None].astype(dtype)
                part[tiny] = 0.0
            rows[block] = part
        return rows


def fit_projection(
    embeddings: NDArray[np.floating[Any]], *, dimensions: int, normalize: bool = True
) -> Projection:
    """Find centre and principal axes of the pool; never whitened, because variance carries the meaning.

    Parameters
    ----------
    embeddings : (n, d) float16, float32 or float64
    dimensions
        Axes kept when d is larger; 0 leaves the rows where they are (no centring either).
    normalize
        Bring rows to unit length afterwards.

    Notes
    -----
    Computed in float64 from at most 65,536 evenly spaced rows; the sign of each axis is fixed (its largest
    component is positive), so repeats agree bit for bit.
    """
    n, d = embeddings.shape
    if dimensions == 0:
        return Projection(mean=np.zeros(d), axes=None, normalize=normalize)
    total = np.zeros(d)
    for block in row_blocks(n, size=BLOCK):
        total += embeddings[block].sum(axis=0, dtype=np.float64)
    mean = total / n
    if d <= dimensions:
        return Projection(mean=mean, axes=None, normalize=normalize)
    axes = _axes_of_few(embeddings, mean, dimensions) if n < min(d, COVARIANCE_ROWS) else None
    if axes is None:
        step = -(-n // COVARIANCE_ROWS)
        covariance = np.zeros((d, d))
        for block in row_blocks(n, size=BLOCK * step):
            part = embeddings[block][::step].astype(np.float64)
            part -= mean
            covariance += part.T @ part
        del part  # of the memory's peak, which comes now, a third
        _, vectors = np.linalg.eigh(covariance)
        axes = vectors[:, ::-1][:, :dimensions]
    peak = np.abs(axes).argmax(axis=0)
    axes = axes * np.sign(axes[peak, np.arange(axes.shape[1])])
    return Projection(mean=mean, axes=np.ascontiguousarray(axes), normalize=normalize)


def _axes_of_few(
    embeddings: NDArray[np.floating[Any]], mean: NDArray[np.float64], dimensions: int
) -> NDArray[np.float64] | None:
    """Find the axes (d, dimensions) of fewer rows than dimensions from the rows' products, a smaller table.

    None where the rows vary along fewer axes, or hardly along the last.
    """
    rows = embeddings.astype(np.float64)
    rows -= mean
    products = rows @ rows.T
    del rows  # of the memory's peak, which comes now, a sixth
    values, vectors = np.linalg.eigh(products)
    values, vectors = values[::-1][:dimensions], vectors[:, ::-1][:, :dimensions]
    if len(values) < dimensions or values[-1] <= LEAST_VARIANCE * values[0]:
        return None
    rows = embeddings.astype(np.float64)
    rows -= mean
    return np.asarray(rows.T @ (vectors / np.sqrt(values)))


def squared_distances(rows: NDArray[Any], others: NDArray[Any]) -> NDArray[Any]:
    """Squared Euclidean distances (a, b) by matrix product; never negative.

    Distances that are small against the rows' lengths, where the product loses its digits, are computed again
    from the differences, so that equal rows are exactly 0 apart.
    """
    row_norms = np.einsum("ij,ij->i", rows, rows)
    other_norms = np.einsum("ij,ij->i", others, others)
    result = rows @ others.T
    result *= -2.0
    result += row_norms[:, None]
    result += other_norms[None, :]
    small = 1e-3 if rows.dtype == np.float32 else 1e-6
    near_row, near_other = np.nonzero(result < small * (row_norms[:, None] + other_norms[None, :]))
    for part in row_blocks(len(near_row), size=65_536):
        difference = rows[near_row[part]] - others[near_other[part]]
        result[near_row[part], near_other[part]] = np.einsum("ij,ij->i", difference, difference)
    return np.asarray(np.maximum(result, 0.0, out=result))
