"""One compute thread per block and workers over blocks, threads here or an executor's.

BLAS splits one product differently for every thread count, which changes the last bits and then the picks; blocks
of a fixed size on one thread each do not, so the number of workers, and where they are, change only the wall time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from numpy.typing import NDArray

Block = TypeVar("Block")
Block_contra = TypeVar("Block_contra", contravariant=True)
Result = TypeVar("Result")
Result_co = TypeVar("Result_co", covariant=True)


class BlockWork(Protocol[Block_contra, Result_co]):
    """The work on each block: a frozen dataclass with a `__call__`, so that it can travel to other processes.

    `rows` (n, d) is never written to while it lives: whoever computes elsewhere keeps it there from one `map_blocks` to
    the next. Every other field travels anew each time.
    """

    @property
    def rows(self) -> NDArray[Any]:
        """Rows that the blocks belong to."""
        ...

    def __call__(self, block: Block_contra, /) -> Result_co:
        """Compute one block; it depends on no other block, and is returned instead of written."""
        ...


class Executor(Protocol):
    """Computes blocks outside this process."""

    def map(self, work: BlockWork[Block, Result], blocks: Sequence[Block]) -> Iterator[Result]:
        """Apply `work` to every block on one compute thread each; results in the order of `blocks`."""
        ...


_executor: ContextVar[Executor | None] = ContextVar("executor", default=None)


@contextmanager
def computing_on(executor: Executor | None) -> Iterator[None]:
    """Let an executor compute the blocks of every selection inside the `with` block; None: threads of this process.

    Results are the same bits where the executor's machines have this machine's libraries and kind of processor.
    """
    token = _executor.set(executor)
    try:
        yield
    finally:
        _executor.reset(token)


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold BLAS and OpenMP at one thread inside the `with` block; libraries must be loaded before."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def map_blocks(
    work: BlockWork[Block, Result], blocks: Iterable[Block], *, workers: int = 1
) -> Iterator[Result]:
    """Apply `work` to every block, at most `workers` at a time; yields the results in the order of `blocks`.

    Blocks are cut the same way whatever the number of workers; 1 worker is the calling thread. Inside `computing_on`
    `workers` does not count, because the executor has its own.
    """
    executor = _executor.get()
    if executor is not None:
        yield from executor.map(work, list(blocks))
        return
    function: Callable[[Block], Result] = work
    if workers <= 1:
        yield from map(function, blocks)
        return
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield from pool.map(function, blocks)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def row_blocks(n: int, *, size: int) -> list[slice]:
    """Cut `range(n)` into consecutive slices of at most `size` rows."""
    return [slice(begin, min(begin + size, n)) for begin in range(0, n, size)]
