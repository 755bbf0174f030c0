"""Control set: labels of rows drawn uniformly from a pool, on which suggestions are judged."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.suggestions.suggesting import Suggestions

ONE_CLASS: Final = 10
"""Control labels from which it is no accident that all are of one class."""


@dataclass(frozen=True)
class Control:
    """Labels of a uniform draw.

    Attributes
    ----------
    rows : (c,) int64
        Distinct rows, drawn uniformly from the pool; none is a control set without labels.
    labels : (c,) int64
        Their classes, 0 or more.

    Raises
    ------
    InputError
        Rows and labels do not match, a row twice, a negative row or label, or ten labels and more that are all of one
        class.
    """

    rows: NDArray[np.integer[Any]]
    labels: NDArray[np.integer[Any]]

    def __post_init__(self) -> None:
        for name in ("rows", "labels"):
            values = np.asarray(getattr(self, name))
            if values.ndim != 1 or (values.size and values.dtype.kind not in "iu"):
                raise InputError(
                    f"control {name} are {values.dtype} of shape {values.shape}; give (c,) integers"
                )
            if values.size and int(values.min()) < 0:
                raise InputError(f"control {name} hold {values.min()}; give 0 or more, labeled rows only")
            object.__setattr__(self, name, values.astype(np.int64))
        if len(self.rows) != len(self.labels):
            raise InputError(
                f"control has {len(self.rows)} rows but {len(self.labels)} labels; give one per row"
            )
        distinct, times = np.unique(self.rows, return_counts=True)
        if len(distinct) < len(self.rows):
            raise InputError(f"control names row {distinct[times > 1][0]} twice; give each row once")
        if len(self.labels) >= ONE_CLASS and len(np.unique(self.labels)) == 1:
            raise InputError(
                f"all {len(self.labels)} control labels are of class {self.labels[0]}: they say nothing about the "
                "others; draw the control set uniformly from the whole pool"
            )

    def outside(self, n: int) -> int | None:
        """First row that a pool of n rows does not have."""
        beyond = self.rows[self.rows >= n]
        return int(beyond[0]) if len(beyond) else None


@dataclass(frozen=True)
class Judged:
    """Control rows whose label was not given to `suggest`, surest first.

    Attributes
    ----------
    rows : (c,) int64
    right : (c,) bool
        The suggestion is the control label.
    """

    rows: NDArray[np.int64]
    right: NDArray[np.bool_]


def judge(suggestions: Suggestions, control: Control) -> Judged:
    """Compare suggestions with control labels, on the rows that are suggestions indeed."""
    check_rows(control, n=len(suggestions.label))
    free = ~suggestions.given[control.rows]
    rows, labels = control.rows[free], control.labels[free]
    order = np.lexsort((rows, -suggestions.confidence[rows]))
    return Judged(rows[order], suggestions.label[rows[order]] == labels[order])


def check_rows(control: Control, *, n: int) -> None:
    """Refuse a control set of another pool."""
    if (beyond := control.outside(n)) is not None:
        raise InputError(f"control names row {beyond} but the pool has rows 0 to {n - 1}")
