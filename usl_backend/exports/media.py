"""The rows' files beside an export: linked, copied, or only listed. Bytes from elsewhere come from who calls."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal
from urllib.parse import unquote, urlsplit

from usl_backend.errors import ExportError, MediaError
from usl_backend.instances import Instance, Modality

if TYPE_CHECKING:
    from usl_backend.exports.split import Row, Split
    from usl_backend.runs.inventory import Inventory
    from usl_backend.sources.media import Media as StoredMedia

Media = Literal["copy", "link", "none"]
"""copy: a file of its own; link: a hard link, or a symbolic one to another file system, and a copy of what is not on
this disk; none: sources are only listed."""
Part = Literal["labeled", "unlabeled"]
Fetch = Callable[["Row"], "Path | bytes"]
"""Where a row's file is on this disk, or its bytes; raises `MediaError` where there is nothing to have."""
Layout = Callable[["Row", Part], str]
"""Path of a row's file inside the export, without its suffix."""

THREADS = 8
_SUFFIX = re.compile(r"\.(jpe?g|png|bmp|gif|webp|tiff?|ppm|pgm|txt)$", re.IGNORECASE)
_SIGNATURES = (
    (b"\x89PNG", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"GIF8", ".gif"), (b"BM", ".bmp"),
    (b"II*\0", ".tif"), (b"MM\0*", ".tif"), (b"P6", ".ppm"), (b"P5", ".pgm"),
)  # fmt: skip


@dataclass
class Placed:
    """What became of the files.

    Attributes
    ----------
    copied, hard_links, symbolic_links
        Files of each kind.
    missing
        Task -> why its file could not be had; such rows are in neither part.
    """

    copied: int = 0
    hard_links: int = 0
    symbolic_links: int = 0
    missing: dict[int, str] = field(default_factory=dict)


def flat(split: Split) -> Layout:  # noqa: ARG001 - one signature for all formats
    """All files in one folder, by task."""
    return lambda row, part: f"media/{row.task}"  # noqa: ARG005


def local_file(row: Row) -> Path:
    """The file that a row's source names, as seen from the working directory."""
    path = Path(row.source)
    if not path.is_file():
        raise MediaError(f"{row.source!r} is no file here")
    return path.resolve()


def files_of(media: StoredMedia, inventory: Inventory) -> Fetch:
    """Fetch the files of rows of a run's pool.

    Parameters
    ----------
    media
        Of the run.
    inventory
        Says what the rows of a pool outside Label Studio are.
    """
    text = inventory.outside is not None and inventory.outside.modality == "text"
    modality: Modality = "text" if text else "image"
    return lambda row: media.file(Instance(row.task, modality, row.source))


def place_files(
    split: Split, directory: Path, *, media: Media, layout: Layout, fetch: Fetch
) -> tuple[Split, Placed]:
    """Put every row's file where the format wants it.

    Parameters
    ----------
    split
        Rows without files.
    directory
        The export.
    media
        "copy" or "link".
    layout
        The format's.
    fetch
        Called in threads, once per row and part.

    Returns
    -------
    Split
        The same rows with `file` set, without those whose file cannot be had.
    Placed

    Raises
    ------
    ExportError
        No file at all could be had.
    OSError
        A file cannot be written.
    """
    placed = Placed()
    kept: dict[Part, tuple[Row, ...]] = {}
    parts: dict[Part, tuple[Row, ...]] = {"labeled": split.labeled, "unlabeled": split.unlabeled}
    for part, rows in parts.items():
        done = []
        with ThreadPoolExecutor(THREADS) as threads:
            for row, found in _in_order(threads, rows, fetch):
                if isinstance(found, MediaError):
                    placed.missing[row.task] = str(found)
                    continue
                suffix = _suffix(row, found)
                target = layout(row, part) + suffix
                _put(found, directory / target, media=media, placed=placed)
                done.append(replace(row, file=target))
        kept[part] = tuple(done)
    if placed.missing and not any(kept.values()):
        task, reason = next(iter(placed.missing.items()))
        raise ExportError(
            f"none of {len(placed.missing)} files could be had (task {task}: {reason}); use --media none to list them"
        )
    return replace(split, labeled=kept["labeled"], unlabeled=kept["unlabeled"]), placed


def _in_order(
    threads: ThreadPoolExecutor, rows: tuple[Row, ...], fetch: Fetch
) -> Iterator[tuple[Row, Path | bytes | MediaError]]:
    """Each row and its file, few of them in memory at a time."""

    def one(row: Row) -> Path | bytes | MediaError:
        try:
            return fetch(row)
        except MediaError as error:
            return error

    waiting = iter(rows)
    while some := tuple(islice(waiting, 4 * THREADS)):
        yield from zip(some, threads.map(one, some), strict=True)


def _put(found: Path | bytes, target: Path, *, media: Media, placed: Placed) -> None:
    """Link or copy one file; one that is there already is the same row's."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(found, bytes):
        target.write_bytes(found)
        placed.copied += 1
    elif media == "copy":
        shutil.copyfile(found, target)
        placed.copied += 1
    else:
        # The file itself, not a link to it that may move: whoever deletes the source keeps the export.
        whole = found.resolve()
        try:
            os.link(whole, target)
            placed.hard_links += 1
        except OSError:  # another file system, or one without hard links
            target.symlink_to(whole)
            placed.symbolic_links += 1


def _suffix(row: Row, found: Path | bytes) -> str:
    """Suffix by name, else by content; readers of folders go by it."""
    names = [found.name] if isinstance(found, Path) else []
    for name in (*names, unquote(PurePosixPath(urlsplit(row.source).path).name)):
        if match := _SUFFIX.search(name):
            return match[0].lower()
    if isinstance(found, bytes):
        start = found[:16]
    else:
        with found.open("rb") as stream:
            start = stream.read(16)
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return ".webp"
    return next((suffix for signature, suffix in _SIGNATURES if start.startswith(signature)), ".bin")
