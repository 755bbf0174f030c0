"""Entries of a CSV, JSON-lines or Parquet manifest: resolves sources and reports faulty rows; opens no media."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from usl_backend.errors import InputError
from usl_backend.instances import TextFile
from usl_backend.media import inside_address
from usl_backend.runs.columns import proper
from usl_backend.sources.columns import (
    Columns,
    as_text,
    choose,
    is_address,
    without_fraction,
    written_as_floats,
)
from usl_backend.sources.entries import Entry
from usl_backend.sources.tables import Inside, first_rows, open_table

if TYPE_CHECKING:
    from usl_backend.instances import Modality

_CONTROL: Final = re.compile(r"[\x00\r\n]")


class TableListing:
    """A CSV, JSON-lines or Parquet file whose rows refer to images or contain texts.

    Parameters
    ----------
    path
        Local path of the file.
    data_key, id_key, label_key
        Columns; None detects them by name or value, "none" disables the column. `text:NAME` reads the texts of PDFs.
    base
        Folder or address that relative paths start from; None for the file's folder.
    roots
        Further folders under which files may be read.

    Raises
    ------
    InputError
        The file cannot be read, has no rows, or its columns do not fit.
    """

    def __init__(
        self,
        path: Path,
        *,
        data_key: str | None = None,
        id_key: str | None = None,
        label_key: str | None = None,
        base: str | None = None,
        address: str | None = None,
        roots: tuple[Path, ...] = (),
    ) -> None:
        self.path = path.resolve()
        self.address = address or str(self.path)
        self._table = open_table(self.path)
        first = first_rows(self._table)
        self.columns: Columns = choose(
            self._table.names,
            first,
            where=self.address,
            data_key=data_key,
            id_key=id_key,
            label_key=label_key,
        )
        self._base = base if base is not None else str(self.path.parent)
        local = () if is_address(self._base) else (Path(self._base).resolve(),)
        within = (self.path,) if self.address != str(self.path) else ()  # the copy of a remote table
        self.roots = (*local, *within, *(root.resolve() for root in roots))
        self.guessed_encoding = self._table.guessed_encoding
        self._floats = set() if self._table.typed else self._float_columns(first)
        self.passed_over: Mapping[str, int] = {}

    @property
    def modality(self) -> Modality:
        """Modality of all rows."""
        return self.columns.modality

    @property
    def text_file(self) -> TextFile | None:
        """How the rows' texts are read from PDFs; None if the column is embedded itself."""
        return TextFile(self.columns.data) if self.columns.in_files else None

    @property
    def data_key(self) -> str:
        """Column of images or texts."""
        return self.columns.data

    def __iter__(self) -> Iterator[Entry]:
        """Yield the rows, keeping only the ids seen so far in memory.

        Raises
        ------
        InputError
            There are no rows, or the file is truncated.
        """
        seen: dict[str, int] = {}
        row = -1
        for row, values in enumerate(self._table.rows(self.columns.names)):
            if isinstance(values, str):
                yield Entry(row, str(row), self.modality, "", fault=values)
                continue
            named = dict(zip(self.columns.names, values, strict=True))
            key, fault = self._key(row, named, seen)
            source, unusable = self._source(named[self.columns.data])
            label = "" if self.columns.label is None else proper(self._text(self.columns.label, named))
            yield Entry(
                row,
                key,
                self.modality,
                source,
                label=label or None,
                fault=fault or unusable,
            )
        if row < 0:
            raise InputError(f"{self.address} has columns but no rows")

    def _key(self, row: int, named: Mapping[str, Any], seen: dict[str, int]) -> tuple[str, str | None]:
        """Return the row's id, and why it is invalid if it is."""
        column = self.columns.id
        if column is None:
            return str(row), None
        key = self._text(column, named)
        if not key:
            return str(row), f'its "{column}" is empty'
        if key in seen:
            return key, f'its "{column}" is "{key[:80]}", as that of row {seen[key]}'
        seen[key] = row
        return key, None

    def _text(self, column: str, named: Mapping[str, Any]) -> str:
        """Return a row's id or label, or ""."""
        text = as_text(named[column])
        return without_fraction(text) if column in self._floats else text

    def _float_columns(self, first: Sequence[Sequence[Any]]) -> set[str]:
        """Return the columns of ids and labels in which a gap made floats of whole numbers."""
        places = {name: self._table.names.index(name) for name in self.columns.names}
        return {
            name
            for name in (self.columns.id, self.columns.label)
            if name is not None and written_as_floats([row[places[name]] for row in first])
        }

    def _source(self, value: object) -> tuple[str, str | None]:
        """Return the row's source, and why it is invalid if it is."""
        name = self.columns.data
        if value is None or (isinstance(value, str) and not value.strip()):
            return "", f'"{name}" is empty'
        if isinstance(value, Inside) and self.modality == "image":
            return inside_address(str(self.path), column=value.column, row=value.row, name=value.name), None
        if not isinstance(value, str):
            return "", f'"{name}" is a {type(value).__name__}, not a text or address'
        if self.modality == "text":
            try:
                value.encode()
            except UnicodeEncodeError:
                return "", f'"{name}" is not UTF-8'
            return value, None
        source = value.strip()
        if _CONTROL.search(source):
            return "", f'"{name}" has a line break or NUL in it'
        return self._resolved(source), None

    def _resolved(self, source: str) -> str:
        """Return an absolute path or address."""
        if source[:5].lower() == "file:":
            source = unquote(urlsplit(source).path)
        if is_address(source):
            return source
        if is_address(self._base) and not source.startswith("/"):
            return f"{self._base}/{source}"
        path = os.path.normpath(os.path.join(self._base, source))  # noqa: PTH118 - the media reader resolves links
        if self.guessed_encoding and not os.path.exists(path):  # noqa: PTH110
            return self._as_on_disk(path)
        return path

    def _as_on_disk(self, path: str) -> str:
        """Return a path with the bytes that the table has if there is such a file, which needs no guess."""
        try:
            other = os.fsdecode(path.encode(self.guessed_encoding))
        except UnicodeEncodeError:
            return path
        return other if os.path.exists(other) else path  # noqa: PTH110
