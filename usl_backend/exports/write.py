"""A split becomes a directory, whole or not at all. What its files look like is the formats' matter."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from usl_backend.errors import ExportError
from usl_backend.exports.split import Split
from usl_backend.exports.tables import write_csv, write_json

FORMATS: Mapping[str, Callable[[Split, Path], None]] = {"json": write_json, "csv": write_csv}
"""Format name -> what writes its files into a directory."""
MANIFEST = "manifest.json"
KIND = "usl-backend export"
"""Stands in every manifest, so that only our own directories are ever replaced."""


def export_split(
    split: Split,
    directory: str | Path,
    *,
    format: str = "json",  # noqa: A002 - the user's word
    force: bool = False,
) -> Path:
    """Write a split and its manifest to a new directory.

    Everything is written to a temporary directory beside it, which is then renamed: the directory is there in full
    or not at all.

    Parameters
    ----------
    split
        What is written.
    directory
        Must not exist, unless `force` is given and it is an earlier export.
    format
        A key of `FORMATS`: "json" or "csv".
    force
        Replace an earlier export.

    Returns
    -------
    Path
        The directory.

    Raises
    ------
    ExportError
        Unknown format, the directory exists, or it cannot be written.

    Examples
    --------
    >>> rows = (Row(0, 11, "a.png", label="cat"), Row(1, 12, "b.png"))
    >>> split = Split(labeled=rows[:1], unlabeled=rows[1:], classes=("cat", "dog"))
    >>> export_split(split, "split", format="csv")  # doctest: +SKIP
    PosixPath('split')
    """
    target = Path(directory)
    write = _writer(format)
    _refuse_existing(target, force=force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
            fresh = Path(temporary) / "new"
            fresh.mkdir()
            _write_all(split, fresh, format, write)
            if target.exists():
                target.rename(Path(temporary) / "old")
            fresh.rename(target)
    except OSError as error:
        raise ExportError(
            f"{target} cannot be written ({error.strerror or error}); choose another directory"
        ) from error
    return target


def archive_split(split: Split, *, format: str = "json") -> bytes:  # noqa: A002
    """Write a split and its manifest to a ZIP archive.

    Parameters
    ----------
    split
        What is written.
    format
        As in `export_split`.

    Returns
    -------
    bytes
        The archive.

    Raises
    ------
    ExportError
        Unknown format.
    """
    write = _writer(format)
    buffer = io.BytesIO()
    with (
        tempfile.TemporaryDirectory() as temporary,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        _write_all(split, Path(temporary), format, write)
        for path in sorted(Path(temporary).rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(temporary).as_posix())
    return buffer.getvalue()


def _write_all(split: Split, directory: Path, format_name: str, write: Callable[[Split, Path], None]) -> None:
    """The format's files, then the manifest."""
    write(split, directory)
    manifest = {"kind": KIND, "format": format_name, "classes": list(split.classes), **split.manifest}
    (directory / MANIFEST).write_text(
        json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )


def _writer(name: str) -> Callable[[Split, Path], None]:
    """The writer of a format."""
    if name not in FORMATS:
        raise ExportError(f'format is "{name}"; choose one of {", ".join(FORMATS)}')
    return FORMATS[name]


def _refuse_existing(target: Path, *, force: bool) -> None:
    """Never write over something, unless it is an export of ours and the user says so."""
    if not target.exists() and not target.is_symlink():
        return
    if not force:
        raise ExportError(
            f"{target} exists; choose another directory, or give --force to replace an earlier export"
        )
    try:
        ours = json.loads((target / MANIFEST).read_text(encoding="utf-8"))["kind"] == KIND
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours or target.is_symlink():
        raise ExportError(
            f"{target} exists and is no export of usl-backend, so it is not replaced; choose another directory"
        )
