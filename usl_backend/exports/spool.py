"""Annotations of an export in a temporary file: masks of many tasks do not fit into memory."""

from __future__ import annotations

import json
import tempfile
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class AnnotationSpool(Mapping[int, str]):
    """Task -> its annotations in JSON, kept in a temporary file that goes when the mapping does."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the mapping
        self._close = weakref.finalize(self, self._file.close)
        self._places: dict[int, tuple[int, int]] = {}

    def add(self, task: int, annotations: Sequence[Mapping[str, Any]]) -> None:
        """Keep a task's annotations."""
        text = json.dumps(annotations, ensure_ascii=False).encode(errors="backslashreplace")
        self._places[task] = (self._file.seek(0, 2), len(text))
        self._file.write(text)

    def __getitem__(self, task: int) -> str:
        start, length = self._places[task]
        self._file.seek(start)
        return self._file.read(length).decode()

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
