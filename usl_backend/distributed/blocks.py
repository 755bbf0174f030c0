"""Compute the blocks of a selection on a cluster; `selection` defines the blocks."""

from __future__ import annotations

import dataclasses
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from usl_backend.distributed.cluster import load_ray
from usl_backend.selection.rows.threads import one_thread

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from usl_backend.distributed.cluster import Cluster
    from usl_backend.selection.rows.threads import BlockWork

Block = TypeVar("Block")
Result = TypeVar("Result")

_TASKS_PER_CPU: Final = 4
"""Tasks per CPU that the blocks are divided into: small enough that a slow or lost node causes little delay."""
_RETRIES: Final = 5
"""Most times that a task is repeated after its process or node died."""


class ClusterBlocks:
    """A `selection.rows.threads.Executor` on a connected cluster.

    Rows are put into the cluster's object store once; all processes of a node read them from shared memory, until the
    array is deleted here. Each task computes consecutive blocks on one CPU. Tasks of a killed process or a lost node
    are repeated elsewhere, with the same blocks and therefore the same bits.

    Parameters
    ----------
    cluster
        Must stay connected while this is used.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._ray = load_ray()
        self._cpus = max(1, cluster.cpus)
        self._task = self._ray.remote(num_cpus=1, max_retries=_RETRIES)(_compute)
        self._placed: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def map(self, work: BlockWork[Block, Result], blocks: Sequence[Block]) -> Iterator[Result]:
        """Apply `work`, a frozen dataclass, to every block; yield results in the order of `blocks`."""
        if len(blocks) <= 1:
            yield from map(work, blocks)
            return
        rows = self._place(work.rows)
        rest = self._ray.put(dataclasses.replace(work, rows=None))  # type: ignore[type-var]
        size = -(-len(blocks) // (_TASKS_PER_CPU * self._cpus))
        pending: deque[Any] = deque()
        try:
            for begin in range(0, len(blocks), size):
                pending.append(self._task.remote(rest, rows, blocks[begin : begin + size]))
            while pending:
                yield from self._ray.get(pending[0])
                pending.popleft()
        finally:
            for task in pending:
                self._ray.cancel(task)

    def _place(self, rows: NDArray[Any]) -> Any:
        """Return the reference to the rows in the object store; put them there if they are new."""
        key = id(rows)
        known = self._placed.get(key)
        if known is not None and known[0]() is rows:
            return known[1]
        reference = self._ray.put(rows)
        # Drop the copy together with the rows, because another array may get the same id later.
        self._placed[key] = weakref.ref(rows, lambda _: self._placed.pop(key, None)), reference
        return reference


def _compute(work: Any, rows: NDArray[Any], blocks: Sequence[Any]) -> list[Any]:
    """Compute the blocks of one task on one thread."""
    whole = dataclasses.replace(work, rows=rows)
    with one_thread():
        return [whole(block) for block in blocks]
