"""Count the CPUs that this process may use, on every system, and hold torch to one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager


def usable_cpus() -> int:
    """Count the CPUs that this process may run on: at most those of the machine, at least 1.

    macOS cannot say which CPUs a process is bound to, so there all of the machine's count.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    if affinity is not None:
        return len(affinity(0))
    count = getattr(os, "process_cpu_count", os.cpu_count)  # Python 3.13 has the former
    return count() or 1


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Hold torch at one thread: sums over several come in another order, and small passes take longer by them."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
