"""Atomic writing of a split to a directory or archive; the format modules write the files."""

from __future__ import annotations

import json
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import IO, Any, TypeVar

from usl_backend.errors import ExportError
from usl_backend.exports.formats import FORMATS, check_format
from usl_backend.exports.media import Fetch, Media, Placed, place_files
from usl_backend.exports.split import Row, Split
from usl_backend.runs.columns import proper

R = TypeVar("R", bound=Row)

MANIFEST = "manifest.json"
KIND = "usl-backend export"
"""Marker in every manifest; only directories with it are ever replaced."""


def export_split(
    split: Split,
    directory: str | Path,
    *,
    format: str = "json",  # noqa: A002 - the user's word
    media: Media | None = None,
    fetch: Fetch | None = None,
    force: bool = False,
) -> Path:
    """Write a split and its manifest to a new directory.

    Everything is written to a temporary directory next to it, which is then renamed, so the directory is complete
    or does not exist.

    Parameters
    ----------
    split
        The split to write.
    directory
        Target directory; must not exist, unless it is an earlier export and `force` is set.
    format
        A key of `FORMATS`, such as "json", "csv", "eman" or "huggingface".
    media
        "copy", "link" or "none"; None is the format's default if `fetch` is given and rows are images, else "none".
    fetch
        Returns a row's local file or its bytes. `exports.local_file` uses sources as paths: use it only for
        sources that you trust, since it reads any file they name.
    force
        Replace an earlier export.

    Returns
    -------
    Path
        The directory.

    Raises
    ------
    ExportError
        The format is unknown or cannot represent these rows, or the directory exists or cannot be written.

    Examples
    --------
    >>> rows = (Row(0, 11, "a.png", label="cat"), Row(1, 12, "b.png"))
    >>> split = Split(labeled=rows[:1], unlabeled=rows[1:], classes=("cat", "dog"))
    >>> export_split(split, "split", format="csv")  # doctest: +SKIP
    PosixPath('split')
    """
    target = Path(directory)
    check_format(split, format)
    _refuse_existing(target, force=force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as temporary:
            fresh = Path(temporary) / "new"
            fresh.mkdir()
            _write_all(split, fresh, format, media=media, fetch=fetch)
            _refuse_existing(target, force=force)  # it may have been made while the files were read
            if target.exists():
                target.rename(Path(temporary) / "old")
            fresh.rename(target)
    except OSError as error:
        raise ExportError(
            f"{target} cannot be written ({error.strerror or error}); choose another directory"
        ) from error
    return target


def archive_split(
    split: Split,
    stream: IO[bytes],
    *,
    format: str = "json",  # noqa: A002
    media: Media | None = None,
    fetch: Fetch | None = None,
) -> None:
    """Write a split and its manifest to a ZIP archive.

    Parameters
    ----------
    split
        The split to write.
    stream
        Binary stream, open for writing.
    format, media, fetch
        As in `export_split`; links become files in the archive.

    Raises
    ------
    ExportError
        The format is unknown or cannot represent these rows, or the disk is full.
    """
    check_format(split, format)
    try:
        with (
            tempfile.TemporaryDirectory() as temporary,
            # Linked files keep their times, which images built reproducibly set to 1970.
            zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive,
        ):
            _write_all(split, Path(temporary), format, media=media, fetch=fetch)
            for path in sorted(Path(temporary).rglob("*")):
                if path.is_file():
                    archive.write(path, path.relative_to(temporary).as_posix())
    except OSError as error:
        raise ExportError(
            f"the archive cannot be written ({error.strerror or error}); free disk space for temporary files"
        ) from error


def _write_all(split: Split, directory: Path, name: str, *, media: Media | None, fetch: Fetch | None) -> None:
    """Write the media files, the format's files, then the manifest."""
    chosen = FORMATS[name]
    if split.suggested is not None:
        check_suggested(name)
    placed = Placed()
    media = media or ("none" if fetch is None or split.modality == "text" else chosen.media)
    if media != "none":
        if fetch is None:
            raise ExportError(
                f'media is "{media}", which needs a function that fetches files; pass fetch too'
            )
        split, placed = place_files(split, directory, media=media, layout=chosen.layout(split), fetch=fetch)
    split = _in_utf8(split)
    usage = chosen.write(split, directory)
    counts = Counter(label for row in split.labeled for label in row.labels)
    manifest: dict[str, Any] = {
        "kind": KIND,
        "format": name,
        "classes": list(split.classes),
        "contents": {
            "labeled": len(split.labeled),
            "unlabeled": len(split.unlabeled),
            "per_class": {label: counts[label] for label in split.classes},
            **({} if split.suggested is None else {"suggested": len(split.placed_suggestions())}),
        },
        "labeled_rows_are_also_unlabeled": bool(
            {row.task for row in split.labeled} & {row.task for row in split.unlabeled}
        ),
        "media": {"mode": media, **asdict(placed)},
        "usage": dict(usage),
        **split.manifest,
    }
    # What is not Unicode, such as half an emoji, gets the escapes of JSON.
    with (directory / MANIFEST).open("w", encoding="utf-8", errors="backslashreplace") as stream:
        head = json.dumps(manifest, indent=1, ensure_ascii=False)
        stream.write(head.removesuffix("\n}") + ',\n "rows": [')
        for place, row in enumerate(_rows(split)):
            stream.write((",\n  " if place else "\n  ") + json.dumps(row, ensure_ascii=False))
        stream.write("\n ]\n}\n")


def _in_utf8(split: Split) -> Split:
    """Return the split with file names that are not UTF-8 written so that every reader of its files takes them."""

    def shown(rows: tuple[R, ...]) -> tuple[R, ...]:
        return tuple(
            row
            if _is_utf8(row)
            else replace(
                row,
                source=proper(row.source),
                key=None if row.key is None else proper(row.key),
                more=tuple(map(proper, row.more)),
            )
            for row in rows
        )

    return replace(
        split,
        labeled=shown(split.labeled),
        unlabeled=shown(split.unlabeled),
        disputed=shown(split.disputed),
        suggested=None if split.suggested is None else shown(split.suggested),
    )


def _is_utf8(row: Row) -> bool:
    """Return True if all that says where a row comes from can be written."""
    return all(proper(text) == text for text in (row.key or "", *row.sources))


def _rows(split: Split) -> Iterator[Mapping[str, Any]]:
    """Yield every row of the manifest by index, including disputed ones."""
    parts = {"unlabeled": split.unlabeled, "labeled": split.labeled, "conflict": split.disputed}
    places = {row.task: (row, part) for part, rows in parts.items() for row in rows}
    for row, part in sorted(places.values(), key=lambda entry: entry[0].index):
        entry = {
            "index": row.index,
            "task": row.task,
            "source": row.source,
            "role": row.role,
            "rank": row.rank,
            "part": part,
        }
        more = {
            "file": row.file,
            "id": row.key,
            "run": row.run,
            "sources": list(row.sources) if row.more else None,
        }
        yield entry | {name: value for name, value in more.items() if value is not None}


def check_suggested(name: str) -> None:
    """Refuse an unknown format, or one that has no place for suggested labels.

    Raises
    ------
    ExportError
        The message lists the formats that have one.
    """
    if name not in FORMATS or not FORMATS[name].suggested:
        able = ", ".join(known for known, one in FORMATS.items() if one.suggested)
        raise ExportError(
            f"{name} cannot hold suggested labels apart from those that people gave; choose one of {able}"
        )


def _refuse_existing(target: Path, *, force: bool) -> None:
    """Refuse an existing target, unless it is an earlier export and `force` is set."""
    if not target.exists() and not target.is_symlink():
        return
    if not force:
        raise ExportError(
            f"{target} exists; choose another directory, or use --force to replace an earlier export"
        )
    try:
        ours = json.loads((target / MANIFEST).read_text(encoding="utf-8"))["kind"] == KIND
    except (OSError, ValueError, KeyError, TypeError):
        ours = False
    if not ours or target.is_symlink():
        raise ExportError(
            f"{target} exists and is not an export of usl-backend, so it is not replaced; choose another directory"
        )
