"""Ask the C library to keep freed memory; no torch here, because this must run before torch is imported."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3


def keep_freed_memory() -> bool:
    """Stop glibc from returning large blocks to the kernel after every layer of a network.

    Each layer's output is otherwise mapped, zeroed page by page and unmapped again, which costs more than
    half of the time of a small network on a CPU. To be called first thing in a worker process: it makes the
    process keep its peak memory until it ends, which a server must not do.

    Returns
    -------
    bool
        True where all three settings were accepted; False on other C libraries, where nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL("libc.so.6")
        mallopt = library.mallopt
        library.gnu_get_libc_version  # noqa: B018 - glibc alone has it; musl's mallopt is another matter
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, (1 << 31) - 1), (_M_TOP_PAD, 256 << 20))
    return all(mallopt(name, value) == 1 for name, value in settings)
