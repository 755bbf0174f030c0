"""The pool's pictures on disk, for a method that trains on them. Embedding pictures is `embedding.stage`."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from usl_backend.errors import InputError, MediaError
from usl_backend.media import decode_image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from usl_backend.instances import Instance, Pool
    from usl_backend.media import MediaLimits

PICTURES: Final = "pictures.npy"
"""(n, s, s, 3) uint8, in the run's directory; written to another name first."""
_AHEAD: Final = 64


def pool_pictures(
    pool: Pool,
    hashes: Sequence[str],
    instances: Mapping[int, Instance],
    *,
    read: Callable[[Instance], bytes],
    size: int,
    limits: MediaLimits,
    directory: Path,
    progress: Callable[[int, int], None],
    workers: int,
) -> NDArray[np.uint8]:
    """Read and decode every picture of the pool once, and map them.

    Parameters
    ----------
    pool, hashes
        Rows, and the content hash of each.
    instances
        By id.
    read
        Bytes of an instance, under the limits of the guarded reader; called from threads.
    size
        Side in pixels.
    limits
        Of decoding.
    directory
        The run's folder; gets `pictures.npy` of 3 s^2 bytes per picture.
    progress
        Called as `progress(done, n)`; may raise to stop.
    workers
        Reading threads.

    Returns
    -------
    (n, size, size, 3) uint8, memory-mapped read-only

    Raises
    ------
    InputError
        A picture that could be embedded can no longer be read, or is another one now.
    """
    path = directory / PICTURES
    shape = (len(pool), size, size, 3)
    if path.is_file():
        held: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
        if held.shape == shape:
            return held
    partial = path.with_name("." + path.name)
    made: np.memmap[Any, np.dtype[np.uint8]] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        partial, mode="w+", dtype=np.uint8, shape=shape
    )

    def one(row: int) -> NDArray[np.uint8]:
        instance = instances[int(pool.ids[row])]
        try:
            content = read(instance)
            if hashlib.sha256(content).hexdigest() != hashes[row]:
                raise MediaError("it is another picture now than when it was embedded")
            return decode_image(content, size=size, limits=limits)
        except MediaError as error:
            raise InputError(
                f"task {instance.id} cannot be trained on ({error}); start a new run, which leaves it out"
            ) from error

    with ThreadPoolExecutor(max(1, workers), thread_name_prefix="read") as threads:
        try:
            for begin in range(0, len(pool), _AHEAD):
                rows = range(begin, min(begin + _AHEAD, len(pool)))
                for row, picture in zip(rows, threads.map(one, rows), strict=True):
                    made[row] = picture
                progress(rows.stop, len(pool))
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    made.flush()
    del made
    partial.replace(path)
    mapped: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped
