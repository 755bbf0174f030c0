"""Near-duplicates collapsed to one row each, so that copies do not draw picks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from usl_backend.selection.rows.threads import row_blocks

if TYPE_CHECKING:
    from numpy.typing import NDArray


BLOCK = 16_384
"""Rows hashed at once."""
FEW_COLUMNS = 8
"""Columns hashed first: only rows that share these are looked at whole."""


@dataclass(frozen=True)
class Groups:
    """Rows that stand for themselves or for a group of near-duplicates.

    Attributes
    ----------
    leaders : (g,) int64
        Rows that stand for a group, ascending; a row without duplicates leads itself.
    member_of : (n,) int64
        Position in `leaders` of each row's leader.
    sizes : (g,) int64
        Rows per group.
    """

    leaders: NDArray[np.int64]
    member_of: NDArray[np.int64]
    sizes: NDArray[np.int64]

    @property
    def shared(self) -> int:
        """Number of groups of two rows or more."""
        return int((self.sizes > 1).sum())

    def weights(self) -> NDArray[np.float64]:
        """Mass of each leader in k-means: 1 + ln(size), because sixty copies are one thing seen sixty times."""
        return 1.0 + np.log(self.sizes)

    def speakers(self, excluded: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the row to pick for each leader, (g,): itself, else its first member not among `excluded`, else -1."""
        speakers = self.leaders.copy()
        barred = np.zeros(len(self.member_of), dtype=bool)
        barred[excluded] = True
        silent = np.flatnonzero(barred[self.leaders])
        if len(silent):
            speakers[silent] = -1
            able = np.flatnonzero(~barred & np.isin(self.member_of, silent))
            # Written backwards, so that the first member stays.
            speakers[self.member_of[able[::-1]]] = able[::-1]
        return speakers

    def listing(self, *, most: int = 1000) -> list[list[int]]:
        """Groups of two rows or more, leader first, largest group first, at most `most` groups."""
        large = np.flatnonzero(self.sizes > 1)
        large = large[np.argsort(-self.sizes[large], kind="stable")][:most]
        order = np.argsort(self.member_of, kind="stable")
        begin = np.concatenate([[0], np.cumsum(self.sizes)])
        result = []
        for group in large:
            members = order[begin[group] : begin[group + 1]]
            leader = self.leaders[group]
            result.append([int(leader), *(int(row) for row in members if row != leader)])
        return result


def same_rows(rows: NDArray[np.floating[Any]], *, preferred: NDArray[np.int64] | None = None) -> Groups:
    """Group rows (n, d) that are equal; the first of them leads, or a row of `preferred` (labeled ones).

    Two preferred rows lead a group each, even when they are equal.
    """
    n = len(rows)
    named: NDArray[np.int64] = np.arange(n)
    for columns in (FEW_COLUMNS, rows.shape[1]):
        keys = _keys(rows, named, columns=columns)
        _, first, back, times = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        back = back.ravel()
        shared = times[back] > 1
        named, same = named[shared], named[first[back[shared]]]
        if not len(named):
            return alone(n)
    leader = np.arange(n)
    leader[named] = same
    copies = np.flatnonzero(leader != np.arange(n))
    different = copies[(rows[leader[copies]] != rows[copies]).any(axis=1)]
    leader[different] = different
    if preferred is not None and len(preferred):
        lead = np.arange(n)
        lead[leader[preferred[::-1]]] = preferred[::-1]
        leader = lead[leader]
        leader[preferred] = preferred
    return _groups(leader)


def _keys(rows: NDArray[Any], named: NDArray[np.int64], *, columns: int) -> NDArray[np.uint64]:
    """Hash the first columns of some rows."""
    keys = np.empty(len(named), dtype=np.uint64)
    # One random odd factor per word. Words of 32 bits, because those of whole numbers in float64 end in so many zeros
    # that products of 64 bits would lose nearly all of the factor.
    words = min(columns, rows.shape[1]) * rows.itemsize // 4
    factors = np.random.default_rng(0).integers(2**63, size=words, dtype=np.uint64) * 2 + 1
    for block in row_blocks(len(named), size=BLOCK):
        # Adding zero makes -0.0 and 0.0 the same bits.
        bits = (rows[named[block], :columns] + rows.dtype.type(0)).view(np.uint32).astype(np.uint64)
        keys[block] = (bits * factors).sum(axis=1, dtype=np.uint64)
    return keys


def near_rows(
    indices: NDArray[np.integer[Any]],
    distances: NDArray[np.floating[Any]],
    *,
    radius: float,
    rank: NDArray[np.floating[Any]],
    preferred: NDArray[np.int64] | None = None,
) -> Groups:
    """Group rows around leaders: everyone lies within `radius` of the leader, so a pass never chains.

    Parameters
    ----------
    indices : (n, k) integers
        Nearest rows, nearest first.
    distances : (n, k) float
        Squared distances.
    radius
        Largest squared distance to the leader.
    rank : (n,) float
        Order of leading: higher = earlier (a density); ties by row.
    preferred : (l,) int64 or None
        Rows that lead in any case.
    """
    n = len(indices)
    leader = np.arange(n)
    close = distances <= radius
    touched = np.flatnonzero(close.any(axis=1))
    if not len(touched):
        return _groups(leader)
    fixed = set() if preferred is None else {int(row) for row in preferred}
    free = np.ones(n, dtype=bool)
    order = touched[np.argsort(-rank[touched], kind="stable")]
    firsts = [row for row in order.tolist() if row in fixed]
    for row in firsts + [row for row in order.tolist() if row not in fixed]:
        if not free[row]:
            continue
        free[row] = False
        for other in indices[row][close[row]].tolist():
            if free[other] and other not in fixed:
                free[other] = False
                leader[other] = row
    return _groups(leader)


def alone(n: int) -> Groups:
    """Let every row lead itself."""
    return Groups(np.arange(n), np.arange(n), np.ones(n, dtype=np.int64))


def merge(first: Groups, second: Groups) -> Groups:
    """Combine groups of groups: `second` was made on the leaders of `first`."""
    return _groups(first.leaders[second.leaders][second.member_of][first.member_of])


def _groups(leader: NDArray[np.int64]) -> Groups:
    """Make groups from each row's leader."""
    leaders, member_of, sizes = np.unique(leader, return_inverse=True, return_counts=True)
    return Groups(leaders=leaders, member_of=member_of.ravel(), sizes=sizes)
