"""Streaming readers for CSV, JSON-lines and Parquet files. `columns` chooses the columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from usl_backend.errors import InputError
from usl_backend.media.limits import short_reason

if TYPE_CHECKING:
    from types import ModuleType

LOOKED_AT: Final = 50
"""Number of rows whose values are used to detect columns."""
LONGEST: Final = 64 << 20
"""Maximum length of a CSV field, in characters."""
_BATCH: Final = 4_096

Values = Sequence[Any]


class Table(Protocol):
    """A table file."""

    names: tuple[str, ...]
    """Names of its columns."""

    def rows(self, columns: Sequence[str]) -> Iterator[Values | str]:
        """Yield the values of these columns per row; a string in place of a row is its fault."""
        ...


def open_table(path: Path) -> Table:
    """Open a table by its file extension.

    Raises
    ------
    InputError
        The file cannot be read, or has no columns.
    """
    with _reading(path):
        if path.suffix.lower() in {".csv", ".tsv"}:
            return _Csv(path)
        if path.suffix.lower() in {".parquet", ".pq"}:
            return _Parquet(path)
        return _JsonLines(path)


def first_rows(table: Table) -> list[Values]:
    """Return the usable rows among the first ones."""
    rows = islice(table.rows(table.names), LOOKED_AT)
    return [row for row in rows if not isinstance(row, str)]


def arrow(what: str) -> ModuleType:
    """Import `pyarrow.parquet`; raise `InputError` if it is not installed."""
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise InputError(
            f'{what} is a Parquet file, which needs pyarrow: pip install "usl-backend[parquet]"'
        ) from error
    module: ModuleType = parquet
    return module


class _Csv:
    """CSV; the delimiter is the most frequent of comma, semicolon and tab in the header."""

    def __init__(self, path: Path) -> None:
        self.path = path
        csv.field_size_limit(LONGEST)
        with self._open() as stream:
            head = stream.readline(1 << 20)
        if not head.strip():
            raise InputError(f"{path} is empty; its first row must name the columns")
        self.delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=head.count)
        self.names = tuple(name.strip() for name in next(csv.reader([head], delimiter=self.delimiter)))
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise InputError(f'{path} has two columns called "{twice}"; rename one')

    def rows(self, columns: Sequence[str]) -> Iterator[Values | str]:
        places = [self.names.index(name) for name in columns]
        with _reading(self.path), self._open() as stream:
            reader = csv.reader(stream, delimiter=self.delimiter)
            next(reader)
            for fields in reader:
                if len(fields) == len(self.names):
                    yield [fields[place] for place in places]
                elif fields:  # skip blank lines
                    yield f"the row has {len(fields)} fields, the header {len(self.names)}"

    def _open(self) -> Any:
        # Keep bytes that are not UTF-8: file names may contain them.
        return self.path.open(encoding="utf-8-sig", errors="surrogateescape", newline="")


class _JsonLines:
    """One JSON object per line; the columns are those of the first lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        names: dict[str, None] = {}
        for row in islice(self._objects(), LOOKED_AT):
            if isinstance(row, dict):
                names.update(dict.fromkeys(row))
        self.names = tuple(names)
        if not names:
            raise InputError(
                f"{path} has no JSON objects in its first {LOOKED_AT} lines; write one object per line"
            )

    def rows(self, columns: Sequence[str]) -> Iterator[Values | str]:
        with _reading(self.path):
            for row in self._objects():
                yield row if isinstance(row, str) else [row.get(name) for name in columns]

    def _objects(self) -> Iterator[dict[str, Any] | str]:
        with self.path.open(encoding="utf-8-sig", errors="surrogateescape") as stream:
            for line in stream:
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except (ValueError, RecursionError) as error:
                    yield f"the line is not JSON: {short_reason(error)}"
                    continue
                yield (
                    value
                    if isinstance(value, dict)
                    else f"the line is a JSON {type(value).__name__}, no object"
                )


class _Parquet:
    """Top-level Parquet columns, read in batches of rows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as file:
            self.names = tuple(file.schema_arrow.names)

    def rows(self, columns: Sequence[str]) -> Iterator[Values | str]:
        with _reading(self.path), _opened(self.path) as file:
            for batch in file.iter_batches(batch_size=_BATCH, columns=list(columns)):
                by_name = {name: batch.column(name).to_pylist() for name in columns}
                yield from zip(*(by_name[name] for name in columns), strict=True)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a Parquet file."""
    parquet = arrow(str(path))
    try:
        file = parquet.ParquetFile(path)
    except ValueError as error:  # ArrowInvalid is one
        raise InputError(f"{path} is not a Parquet file ({short_reason(error)})") from error
    with file:
        yield file


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Translate foreign errors of reading a table."""
    try:
        yield
    except csv.Error as error:
        raise InputError(
            f"{path} cannot be read as CSV ({error}); fields may have at most {LONGEST:,} characters"
        ) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {short_reason(error)}") from error
