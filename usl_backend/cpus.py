"""Count the CPUs that this process may use, on every system."""

from __future__ import annotations

import os


def usable_cpus() -> int:
    """Count the CPUs that this process may run on: at most those of the machine, at least 1.

    macOS cannot say which CPUs a process is bound to, so there all of the machine's count.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    if affinity is not None:
        return len(affinity(0))
    count = getattr(os, "process_cpu_count", os.cpu_count)  # Python 3.13 has the former
    return count() or 1
