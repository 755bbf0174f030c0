"""Blocks of a selection computed on a cluster; which blocks there are is decided in `selection`."""

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
"""Tasks that the blocks are dealt out to: a slow node or a lost one then holds up little."""
_RETRIES: Final = 5
"""Times that a task is computed again when its process or its node dies."""


class ClusterBlocks:
    """A `selection.threads.Executor` on a connected cluster.

    Rows are put into the cluster's object store once and read by every process of a node from the same memory;
    they stay for as long as they live here. Each task computes a run of consecutive blocks on one CPU. What a
    killed process or a lost node leaves undone is computed again elsewhere: the blocks are the same, and so are
    the bits.

    Parameters
    ----------
    cluster
        Connected for as long as this is used.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._ray = load_ray()
        self._cpus = max(1, cluster.cpus)
        self._task = self._ray.remote(num_cpus=1, max_retries=_RETRIES)(_compute)
        self._placed: dict[int, tuple[weakref.ref[Any], Any]] = {}

    def map(self, work: BlockWork[Block, Result], blocks: Sequence[Block]) -> Iterator[Result]:
        """Apply `work`, a frozen dataclass, to every block; results in the order of `blocks`."""
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
            for undone in pending:
                self._ray.cancel(undone)

    def _place(self, rows: NDArray[Any]) -> Any:
        """Reference to the rows in the object store; they are put there the first time."""
        key = id(rows)
        known = self._placed.get(key)
        if known is not None and known[0]() is rows:
            return known[1]
        reference = self._ray.put(rows)
        # With the rows goes their copy; an id may be given to another array afterwards.
        self._placed[key] = weakref.ref(rows, lambda _: self._placed.pop(key, None)), reference
        return reference


def _compute(work: Any, rows: NDArray[Any], blocks: Sequence[Any]) -> list[Any]:
    """One task: its blocks on one compute thread."""
    import faiss  # noqa: F401 - loaded before `one_thread`, which holds only libraries that are there

    whole = dataclasses.replace(work, rows=rows)
    with one_thread():
        return [whole(block) for block in blocks]
