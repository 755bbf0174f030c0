"""Tell the C library to keep freed memory, or to return it; without torch, which must be imported later."""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_TOP_PAD: Final = -2
_M_MMAP_THRESHOLD: Final = -3
_M_ARENA_MAX: Final = -8
_LARGE: Final = 4 << 20


def keep_freed_memory() -> bool:
    """Stop glibc from returning large blocks to the kernel after every layer of a network.

    Otherwise each layer's output is mapped, zeroed page by page and unmapped again, which costs more than half of
    the time of a small network on a CPU. Call it first in a worker process, before it has a second thread, which would
    get an arena of its own; not in a server, because the process then keeps its peak memory until it ends, or until
    `return_freed_memory`.

    Returns
    -------
    bool
        True if all settings were accepted; False with other C libraries, where nothing is changed.
    """
    library = _glibc()
    if library is None:
        return False
    settings = (
        (_M_MMAP_THRESHOLD, 1 << 30),
        (_M_TRIM_THRESHOLD, (1 << 31) - 1),
        (_M_TOP_PAD, 256 << 20),
        # what one thread has freed must be of use to the others: else each keeps a peak of its own
        (_M_ARENA_MAX, 1),
    )
    return all(library.mallopt(name, value) == 1 for name, value in settings)


def return_freed_memory(*, cycles: bool = True) -> bool:
    """Return what is free to the kernel: between two parts of a run that allocate blocks of other sizes.

    Parameters
    ----------
    cycles
        Free objects that refer to each other first, as networks do; a tenth of a second where torch is loaded.

    Returns
    -------
    bool
        True if something was returned; False with other C libraries.
    """
    if cycles:
        gc.collect()
    library = _glibc()
    return library is not None and library.malloc_trim(0) == 1


def return_large_blocks() -> bool:
    """Return what is free to the kernel, and from now on blocks of 4 MB as soon as they are freed.

    For what follows the encoder of a run: it needs few blocks, but of tens of megabytes, each of another size.

    Returns
    -------
    bool
        True if the setting was accepted; False with other C libraries.
    """
    return_freed_memory()
    library = _glibc()
    return library is not None and library.mallopt(_M_MMAP_THRESHOLD, _LARGE) == 1


def _glibc() -> ctypes.CDLL | None:
    """Return the C library if it is glibc."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        library = ctypes.CDLL("libc.so.6")
        library.gnu_get_libc_version  # noqa: B018 - only glibc has it; musl's mallopt is different
    except (OSError, AttributeError):
        return None
    return library
