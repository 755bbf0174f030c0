"""Tell the C library to keep freed memory; without torch, because this must run before torch is imported."""

from __future__ import annotations

import ctypes
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3


def keep_freed_memory() -> bool:
    """Stop glibc from returning large blocks to the kernel after every layer of a network.

    Otherwise each layer's output is mapped, zeroed page by page and unmapped again, which costs more than half of
    the time of a small network on a CPU. Call it first in a worker process; not in a server, because the process
    then keeps its peak memory until it ends.

    Returns
    -------
    bool
        True if all three settings were accepted; False with other C libraries, where nothing is changed.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        library = ctypes.CDLL("libc.so.6")
        mallopt = library.mallopt
        library.gnu_get_libc_version  # noqa: B018 - only glibc has it; musl's mallopt is different
    except (OSError, AttributeError):
        return False
    settings = ((_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, (1 << 31) - 1), (_M_TOP_PAD, 256 << 20))
    return all(mallopt(name, value) == 1 for name, value in settings)
