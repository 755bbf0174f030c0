"""Read pictures that are values of a Parquet file, a few rows at a time."""

from __future__ import annotations

import os
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import IO, Any, Final
from urllib.parse import quote, unquote, unquote_to_bytes

from usl_backend.errors import MediaError
from usl_backend.media.limits import MediaLimits, short_reason

_ADDRESS: Final = re.compile(r"parquet:(/.*)/([^/]*)/(\d+)/([^/]*)", re.DOTALL)
_BATCH_BYTES: Final = 16 << 20
_FEWEST: Final = 8
_MOST: Final = 1_024
_KEPT: Final = 8
"""Batches kept: threads that read neighboring rows are at most this far apart."""


def inside_address(path: str, *, column: str, row: int, name: str = "") -> str:
    """Return the address of a picture inside a Parquet file: `parquet:/data/a.parquet/image/7/photo.png`.

    Parameters
    ----------
    path
        Absolute path of the file.
    column, row
        Top-level column, of bytes or of `{bytes, path}`, and row.
    name
        File name of the picture, if known.
    """
    return f"parquet:{quote(os.fsencode(path))}/{quote(column, safe='')}/{row}/{quote(name, safe='') or f'row-{row}'}"


def is_inside(address: str) -> bool:
    """Return True for an address made by `inside_address`."""
    return address.startswith("parquet:/")


@dataclass
class _Reading:
    """One column of an open file: batches read lately, and those that come next."""

    closing: ExitStack
    file: Any
    column: str
    batches: Iterator[tuple[int, Any]] = field(default_factory=lambda: iter(()))
    at: int = -1
    kept: OrderedDict[int, Any] = field(default_factory=OrderedDict)


class ParquetPictures:
    """Reader of pictures inside Parquet files; safe to use from several threads.

    Rows are best read in order: only a step back by more than some batches reads a row group again.

    Parameters
    ----------
    limits
        Limit on the bytes of a picture.
    open_file
        Opens a path that may be read.
    """

    def __init__(self, limits: MediaLimits, open_file: Callable[[str], IO[bytes]]) -> None:
        self.limits = limits
        self._open_file = open_file
        self._lock = threading.Lock()
        self._reading: tuple[str, str, _Reading] | None = None

    def close(self) -> None:
        """Close the file; the reader stays usable."""
        with self._lock:
            self._close()

    def read(self, address: str) -> bytes:
        """Read the bytes of a picture.

        Raises
        ------
        MediaError
            The file may not or cannot be read, or the row has no picture within the limit.
        """
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise MediaError("the address does not name a row of a Parquet file")
        path, column, row = os.fsdecode(unquote_to_bytes(match[1])), unquote(match[2]), int(match[3])
        with self._lock:
            try:
                value = self._value(self._opened(path, column), row)
            except (OSError, ValueError) as error:  # Arrow's errors are such
                self._close()
                raise MediaError(f"the Parquet file cannot be read: {short_reason(error)}") from error
        if isinstance(value, dict):
            value = value.get("bytes")
        if not isinstance(value, bytes):
            raise MediaError(f'row {row} has no bytes in "{column}"')
        if len(value) > self.limits.bytes:
            raise MediaError(f"{len(value):,} bytes are more than the limit of {self.limits.bytes:,}")
        return value

    def _close(self) -> None:
        """Close the open file, if any."""
        if self._reading is not None:
            self._reading[2].closing.close()
            self._reading = None

    def _opened(self, path: str, column: str) -> _Reading:
        """Return the open file, which is opened once for a column."""
        if self._reading is not None and self._reading[:2] == (path, column):
            return self._reading[2]
        self._close()
        try:
            from pyarrow import parquet
        except ImportError as error:
            raise MediaError(
                'pictures in Parquet files need pyarrow: pip install "usl-backend[parquet]"'
            ) from error
        closing = ExitStack()
        try:
            file = closing.enter_context(
                parquet.ParquetFile(closing.enter_context(self._open_file(path)), buffer_size=1 << 20)  # type: ignore[no-untyped-call]
            )
            if column not in file.schema_arrow.names:
                raise MediaError(f'the Parquet file has no column "{column}"')
        except BaseException:
            closing.close()
            raise
        reading = _Reading(closing, file, column)
        self._reading = (path, column, reading)
        return reading

    def _value(self, reading: _Reading, row: int) -> Any:
        """Return a value, reading on up to it, or from the start of its row group."""
        for start, batch in reversed(reading.kept.items()):
            if start <= row < start + len(batch):
                return batch[row - start].as_py()
        first, group = self._group(reading.file.metadata, row)
        if not first <= reading.at <= row:
            reading.batches, reading.at = self._batches(reading, group, first), first
        for start, batch in reading.batches:
            reading.at = start + len(batch)
            reading.kept[start] = batch
            if len(reading.kept) > _KEPT:
                reading.kept.popitem(last=False)
            if row < reading.at:
                return batch[row - start].as_py()
        raise MediaError(f"the Parquet file has no row {row}")

    @staticmethod
    def _group(metadata: Any, row: int) -> tuple[int, int]:
        """Return the first row and the number of a row's group."""
        first = 0
        for group in range(metadata.num_row_groups):
            rows = metadata.row_group(group).num_rows
            if row < first + rows:
                return first, group
            first += rows
        raise MediaError(f"the Parquet file has no row {row}")

    @staticmethod
    def _batches(reading: _Reading, group: int, first: int) -> Iterator[tuple[int, Any]]:
        """Yield first row and values of the batches from a row group on."""
        about = reading.file.metadata.row_group(group)
        size = about.total_byte_size // max(1, about.num_rows)
        step = min(_MOST, max(_FEWEST, _BATCH_BYTES // max(1, size)))
        groups = list(range(group, reading.file.metadata.num_row_groups))
        for batch in reading.file.iter_batches(batch_size=step, row_groups=groups, columns=[reading.column]):
            yield first, batch.column(0)
            first += len(batch)
