"""Join the rows of several fields: weighted unit vectors, concatenated."""

from __future__ import annotations

import hashlib
import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from usl_backend.embedding.stage import EMBEDDINGS
from usl_backend.instances import Instance, Modality, Pool

if TYPE_CHECKING:
    from numpy.typing import NDArray

Embed = Callable[[int, Sequence[Instance], Path], tuple[Pool, list[str]]]
"""Embeds one field, given its number, its instances and a folder of its own."""

_ROWS: Final = 8_192


def joined(
    instances: Sequence[Instance],
    modalities: Sequence[Modality],
    weights: Sequence[float],
    *,
    embed: Embed,
    directory: Path,
) -> tuple[Pool, list[str]]:
    """Embed every field by itself and join the rows.

    A row is the concatenation of each field's unit-length row times its weight, brought to unit length: the
    cosine of two instances is the mean of their fields' cosines, weighted by the squared weights.

    Parameters
    ----------
    instances
        Each with what every field shows.
    modalities, weights
        One per field.
    embed
        Embeds one field.
    directory
        The run's folder; gets `embeddings.npy`.

    Returns
    -------
    pool : Pool
        Instances of which every field could be read; the others in `skipped`, with the reason of the first field
        that could not.
    hashes : list of str
        Digest of each row's contents, hexadecimal, in row order.
    """
    pools: list[Pool] = []
    hashes: list[dict[int, str]] = []
    folders = [directory / f"field-{number}" for number in range(len(modalities))]
    try:
        for number, (folder, modality) in enumerate(zip(folders, modalities, strict=True)):
            folder.mkdir(exist_ok=True)
            pool, found = embed(number, [one.of_field(number, modality) for one in instances], folder)
            pools.append(pool)
            hashes.append(dict(zip(pool.ids.tolist(), found, strict=True)))
        skipped = {task: why for pool in reversed(pools) for task, why in pool.skipped.items()}
        ids = np.array(sorted(set(pools[0].ids.tolist()).difference(skipped)), dtype=np.int64)
        rows = _write(pools, weights, ids, directory / EMBEDDINGS)
        incomplete = {task: why for pool in reversed(pools) for task, why in pool.incomplete.items()}
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)
    contents = [
        hashlib.sha256(b"".join(bytes.fromhex(one[task]) for one in hashes)).hexdigest()
        for task in ids.tolist()
    ]
    kept = {task: why for task, why in incomplete.items() if task not in skipped}
    return Pool(ids, rows, skipped, kept, _traits(pools, ids)), contents


def _traits(pools: Sequence[Pool], ids: NDArray[np.int64]) -> NDArray[np.floating] | None:
    """Put together what was measured on the fields of each row: the largest of each number."""
    known = [pool.traits[np.searchsorted(pool.ids, ids)] for pool in pools if pool.traits is not None]
    return np.fmax.reduce(known) if known else None


def _write(
    pools: Sequence[Pool], weights: Sequence[float], ids: NDArray[np.int64], path: Path
) -> NDArray[np.float32]:
    """Write the joined rows to disk, a block at a time."""
    scale = math.sqrt(sum(weight**2 for weight in weights))
    shape = (len(ids), sum(pool.embeddings.shape[1] for pool in pools))
    if not len(ids):
        np.save(path, np.empty(shape, dtype=np.float32))
        return np.asarray(np.load(path, allow_pickle=False))
    rows: NDArray[np.float32] = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
        path, mode="w+", dtype=np.float32, shape=shape
    )
    column = 0
    for pool, weight in zip(pools, weights, strict=True):
        places = np.searchsorted(pool.ids, ids)
        width = pool.embeddings.shape[1]
        for start in range(0, len(ids), _ROWS):
            part = pool.embeddings[places[start : start + _ROWS]]
            rows[start : start + _ROWS, column : column + width] = part * np.float32(weight / scale)
        column += width
    del rows  # writes it out
    mapped: NDArray[np.float32] = np.load(path, mmap_mode="r", allow_pickle=False)
    return mapped
