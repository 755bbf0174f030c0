"""Entries of a CSV, JSON-lines or Parquet manifest: resolves sources and reports faulty rows; opens no media."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from usl_backend.errors import InputError
from usl_backend.sources.columns import Columns, choose, is_address
from usl_backend.sources.entries import Entry
from usl_backend.sources.tables import first_rows, open_table

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
        Columns; None detects them by name or value, "none" disables the column.
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
        self.roots = (*local, *(root.resolve() for root in roots))
        self.passed_over: Mapping[str, int] = {}

    @property
    def modality(self) -> Modality:
        """Modality of all rows."""
        return self.columns.modality

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
            label = named[self.columns.label] if self.columns.label is not None else None
            yield Entry(
                row,
                key,
                self.modality,
                source,
                label=None if label is None or not str(label).strip() else str(label),
                fault=fault or unusable,
            )
        if row < 0:
            raise InputError(f"{self.address} has columns but no rows")

    def _key(self, row: int, named: Mapping[str, Any], seen: dict[str, int]) -> tuple[str, str | None]:
        """Return the row's id, and why it is invalid if it is."""
        column = self.columns.id
        if column is None:
            return str(row), None
        value = named[column]
        if value is None or value != value or not str(value).strip():  # NaN differs from itself
            return str(row), f'its "{column}" is empty'
        key = str(value)
        if key in seen:
            return key, f'its "{column}" is "{key[:80]}", as that of row {seen[key]}'
        seen[key] = row
        return key, None

    def _source(self, value: object) -> tuple[str, str | None]:
        """Return the row's source, and why it is invalid if it is."""
        name = self.columns.data
        if value is None or (isinstance(value, str) and not value.strip()):
            return "", f'"{name}" is empty'
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
        return os.path.normpath(os.path.join(self._base, source))  # noqa: PTH118 - the media reader resolves links
