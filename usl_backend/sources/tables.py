"""Streaming readers for CSV, JSON-lines and Parquet files. `columns` chooses the columns."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from usl_backend.errors import InputError
from usl_backend.media.limits import short_reason
from usl_backend.sources.encodings import TextEncoding, encoding_of

if TYPE_CHECKING:
    from types import ModuleType

LOOKED_AT: Final = 50
"""Number of rows whose values are used to detect columns."""
LONGEST: Final = 64 << 20
"""Maximum length of a CSV field, in characters."""
_BATCH: Final = 4_096
_SNIFFED: Final = 64
_PICTURES: Final = 64
"""Rows of a batch with pictures in it."""
_SEPARATOR: Final = re.compile(r'"?sep=(\\t|[^"])"?[,;\t]*', re.IGNORECASE)
"""First line of a CSV file that names the delimiter, as some spreadsheets write and all read it."""

Values = Sequence[Any]


@dataclass(frozen=True, slots=True)
class Inside:
    """Value of a picture whose bytes are in the table itself.

    Attributes
    ----------
    column, row
        Where it is.
    name
        File name of the picture, if the table has it.
    """

    column: str
    row: int
    name: str = ""


class Table(Protocol):
    """A table file."""

    names: tuple[str, ...]
    """Names of its columns."""
    typed: bool
    """True if numbers are numbers; False if all values are texts."""
    guessed_encoding: str
    """Encoding of its characters if it had to be guessed, else ""."""

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
    """CSV; the delimiter is that of a `sep=` line, or the most frequent of comma, semicolon and tab in the header.

    Columns without a name, such as the empty ones behind the last, are ignored.
    """

    typed = False

    def __init__(self, path: Path) -> None:
        self.path = path
        csv.field_size_limit(LONGEST)
        self._encoding = encoding_of(path)
        self.guessed_encoding = self._encoding.name if self._encoding.guessed else ""
        self._above = 0
        with self._open() as stream:
            head = stream.readline(1 << 20)
            declared = _SEPARATOR.fullmatch(head.rstrip("\r\n"))
            if declared is not None:
                self._above = 1
                head = stream.readline(1 << 20)
            if not head.strip():
                raise InputError(f"{path} is empty; its first row must name the columns")
            if declared is not None:
                self.delimiter = declared[1].replace("\\t", "\t")
            else:
                self.delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=head.count)
            header = next(csv.reader(chain([head], stream), delimiter=self.delimiter))
        self._header = [name.strip() for name in header]
        self.names = tuple(name for name in self._header if name)
        if not self.names:
            raise InputError(f"the first row of {path} must name the columns, but all its fields are empty")
        if len(set(self.names)) < len(self.names):
            twice = next(name for name in self.names if self.names.count(name) > 1)
            raise InputError(f'{path} has two columns called "{twice}"; rename one')

    def rows(self, columns: Sequence[str]) -> Iterator[Values | str]:
        places = [self._header.index(name) for name in columns]
        width = len(self._header)
        needed = 1 + max(place for place, name in enumerate(self._header) if name)
        with _reading(self.path), self._open() as stream:
            for _ in range(self._above):
                stream.readline()
            reader = csv.reader(stream, delimiter=self.delimiter)
            next(reader)
            for fields in reader:
                if len(fields) >= needed and not any(fields[width:]):
                    yield [fields[place] for place in places]
                elif fields:  # skip blank lines
                    yield f"the row has {len(fields)} fields, the header {needed}"

    def _open(self) -> Any:
        return _text_of(self.path, self._encoding, newline="")


class _JsonLines:
    """One JSON object per line; the columns are those of the first lines."""

    typed = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self._encoding = encoding_of(path)
        self.guessed_encoding = self._encoding.name if self._encoding.guessed else ""
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
        with _text_of(self.path, self._encoding) as stream:
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
    """Top-level Parquet columns, read in batches of rows; pictures inside are only located."""

    typed = True
    guessed_encoding = ""

    def __init__(self, path: Path) -> None:
        self.path = path
        with _opened(path) as file:
            self.names = tuple(file.schema_arrow.names)
            self._pictures = {
                field.name
                for field in file.schema_arrow
                if _holds_bytes(field.type) or _holds_files(field.type)
            }

    def rows(self, columns: Sequence[str]) -> Iterator[Values | str]:
        step = _BATCH if self._pictures.isdisjoint(columns) else _PICTURES
        start = 0
        with _reading(self.path), _opened(self.path) as file:
            for batch in file.iter_batches(batch_size=step, columns=list(columns)):
                by_name = {name: self._values(batch.column(name), name, start) for name in columns}
                yield from zip(*(by_name[name] for name in columns), strict=True)
                start += len(batch)

    def _values(self, column: Any, name: str, start: int) -> list[Any]:
        """Return the values of one column of a batch."""
        if name not in self._pictures:
            values: list[Any] = column.to_pylist()
            return values
        if _holds_bytes(column.type):
            return [_within(name, start + place, value) for place, value in enumerate(column.to_pylist())]
        return [
            None
            if value is None
            else _within(name, start + place, value["bytes"], path=value.get("path") or "")
            or value.get("path")
            for place, value in enumerate(column.to_pylist())
        ]


def _holds_bytes(kind: Any) -> bool:
    """Return True for a column type of bytes."""
    import pyarrow.types as kinds

    return bool(kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_binary_view(kind))


def _holds_files(kind: Any) -> bool:
    """Return True for a column type of `{bytes, path}`, as data libraries keep files."""
    import pyarrow.types as kinds

    if not kinds.is_struct(kind):
        return False
    names = [kind.field(place).name for place in range(kind.num_fields)]
    return "bytes" in names and _holds_bytes(kind.field(names.index("bytes")).type)


def _within(column: str, row: int, value: bytes | None, *, path: str | None = None) -> Inside | str | None:
    """Return the place of a picture, or the text that some writers store as bytes; None where there is nothing."""
    if not value:
        return None
    if path is None and b"\0" not in value[:_SNIFFED]:
        with suppress(UnicodeDecodeError):
            return value.decode()
    return Inside(column, row, Path(path or "").name)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a Parquet file."""
    parquet = arrow(str(path))
    try:
        file = parquet.ParquetFile(path, buffer_size=1 << 20)
    except ValueError as error:  # ArrowInvalid is one
        raise InputError(f"{path} is not a Parquet file ({short_reason(error)})") from error
    with file:
        yield file


def _text_of(path: Path, encoding: TextEncoding, *, newline: str | None = None) -> Any:
    """Open a text file in its encoding."""
    return path.open(encoding=encoding.name, errors=encoding.errors, newline=newline)


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
