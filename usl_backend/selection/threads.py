"""One compute thread per block and a pool over blocks. No algorithm lives here.

BLAS splits one product differently for every thread count, which changes the last bits and then the picks; blocks
of a fixed size on one thread each do not, so the number of workers changes only the wall time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

Block = TypeVar("Block")
Result = TypeVar("Result")


@contextmanager
def one_thread() -> Iterator[None]:
    """Hold BLAS and OpenMP at one thread inside the `with` block; libraries must be loaded before."""
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def map_blocks(
    function: Callable[[Block], Result], blocks: Iterable[Block], *, workers: int = 1
) -> Iterator[Result]:
    """Apply `function` to every block, at most `workers` at a time, results in block order.

    Parameters
    ----------
    function
        Called once per block; must not depend on other blocks.
    blocks
        The work, cut the same way whatever the number of workers.
    workers
        Threads; 1 = the calling thread.

    Yields
    ------
    Result
        `function(block)` in the order of `blocks`.
    """
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
    """Consecutive slices of at most `size` rows that cover `range(n)`."""
    return [slice(begin, min(begin + size, n)) for begin in range(0, n, size)]
