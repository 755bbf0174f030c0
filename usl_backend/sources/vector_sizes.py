"""Measure what a vector file unpacks to, before it is unpacked: archives may hold a thousand times their own size."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Final

from usl_backend.errors import InputError

ROW_BYTES: Final = 64 << 20
"""Most that a row may take: no encoder gives a hundredth of it, and rows are held in memory."""
COLUMN_BYTES: Final = 2 << 30
"""Most that ids or labels may take in memory; 10 million of 50 characters take as much in an archive."""


def check_row(row_bytes: int, where: str) -> None:
    """Raise InputError for rows that are too long to be vectors."""
    if row_bytes > ROW_BYTES:
        raise InputError(
            f"a row of {where} takes {_size(row_bytes)}; at most {_size(ROW_BYTES)} can be a vector"
        )


def check_column(column_bytes: int, name: str, where: str) -> None:
    """Raise InputError for ids or labels that would fill the memory."""
    if column_bytes > COLUMN_BYTES:
        raise InputError(
            f'"{name}" of {where} takes {_size(column_bytes)} unpacked; ids and labels may take {_size(COLUMN_BYTES)}: '
            "save shorter ones, or name another array or column"
        )


def check_whole(held: int, needed: int, name: str, where: str) -> None:
    """Raise InputError for an array of which an archive holds less than the array's own header says."""
    if held < needed:
        raise InputError(
            f'"{name}" of {where} is truncated: its header promises {needed:,} bytes, the archive holds {held:,}'
        )


def check_room(needed: int, directory: Path, where: str) -> None:
    """Raise InputError where a copy of the vectors has no room.

    A mapped file that finds no room when it is written to ends the process, without an error.
    """
    free = shutil.disk_usage(directory).free
    if needed > free:
        raise InputError(
            f"the vectors of {where} take {_size(needed)} unpacked, but {directory} has {_size(free)} left; free "
            "space, set MODEL_DIR to another disk, or save them as one .npy of float32, which is used in place"
        )


def unpacked(metadata: Any, column: str) -> int:
    """Return the bytes that a column of a Parquet file takes after decompression, as its metadata says."""
    return sum(
        chunk.total_uncompressed_size
        for group in range(metadata.num_row_groups)
        for chunk in (metadata.row_group(group).column(place) for place in range(metadata.num_columns))
        if chunk.path_in_schema.partition(".")[0] == column
    )


def _size(count: int) -> str:
    """Format a number of bytes."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 // 10 else f"{count / 2**20:,.1f} MiB"
