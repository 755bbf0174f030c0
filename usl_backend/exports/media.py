"""Media files of an export: linked, copied, or only listed. The caller provides remote files."""

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
"""copy: independent files; link: hard links, symbolic links across file systems, and copies of remote files; none:
sources are only listed."""
Part = Literal["labeled", "unlabeled"]
Fetch = Callable[["Row"], "Path | bytes"]
"""Function that returns a row's local file or its bytes; raises `MediaError` if it cannot be read."""
Layout = Callable[["Row", Part], str]
"""Function that returns the path of a row's file inside the export, without extension."""

THREADS = 8
_SUFFIX = re.compile(
    r"\.(jpe?g|png|bmp|gif|webp|tiff?|ppm|pgm|txt|pdf|mp4|m4v|mov|avi|mkv|webm|mpe?g|ogv)$", re.IGNORECASE
)
_SIGNATURES = (
    (b"\x89PNG", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"GIF8", ".gif"), (b"BM", ".bmp"),
    (b"II*\0", ".tif"), (b"MM\0*", ".tif"), (b"P6", ".ppm"), (b"P5", ".pgm"),
)  # fmt: skip


@dataclass
class Placed:
    """Counts of placed files.

    Attributes
    ----------
    copied, hard_links, symbolic_links
        Number of files of each kind.
    first_of_several
        Number of files that are the first of several media that their task shows.
    missing
        Task -> reason why its file could not be read; such rows are in neither part.
    """

    copied: int = 0
    hard_links: int = 0
    symbolic_links: int = 0
    first_of_several: int = 0
    missing: dict[int, str] = field(default_factory=dict)


def flat(split: Split) -> Layout:  # noqa: ARG001 - one signature for all formats
    """Return the layout with all files in one folder, named by task."""
    return lambda row, part: f"media/{row.task}"  # noqa: ARG005


def local_file(row: Row) -> Path:
    """Return a row's source as a path, relative to the working directory."""
    path = Path(row.source)
    if not path.is_file():
        raise MediaError(f"{row.source!r} is not a local file")
    return path.resolve()


def files_of(media: StoredMedia, inventory: Inventory) -> Fetch:
    """Return a function that fetches the files of a run's pool.

    Parameters
    ----------
    media
        Media of the run.
    inventory
        Inventory of the run, for the modality of a pool outside Label Studio.
    """
    text = inventory.outside is not None and inventory.outside.modality == "text"
    modality: Modality = "text" if text else "image"
    return lambda row: media.file(Instance(row.task, modality, row.source))


def place_files(
    split: Split, directory: Path, *, media: Media, layout: Layout, fetch: Fetch
) -> tuple[Split, Placed]:
    """Place every row's file at the path required by the format.

    Parameters
    ----------
    split
        Rows without files.
    directory
        Directory of the export.
    media
        "copy" or "link".
    layout
        Layout of the format.
    fetch
        Called in threads, once per row and part.

    Returns
    -------
    Split
        The same rows with `file` set, without those whose file could not be read.
    Placed
        Counts of files, and the reasons for missing ones.

    Raises
    ------
    ExportError
        No file could be read.
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
                placed.first_of_several += bool(row.more)
                done.append(replace(row, file=target))
        kept[part] = tuple(done)
    if placed.missing and not any(kept.values()):
        task, reason = next(iter(placed.missing.items()))
        raise ExportError(
            f"none of {len(placed.missing)} files could be read (task {task}: {reason}); use --media none to export "
            "without files"
        )
    return replace(split, labeled=kept["labeled"], unlabeled=kept["unlabeled"]), placed


def _in_order(
    threads: ThreadPoolExecutor, rows: tuple[Row, ...], fetch: Fetch
) -> Iterator[tuple[Row, Path | bytes | MediaError]]:
    """Yield each row with its file, keeping few files in memory."""

    def one(row: Row) -> Path | bytes | MediaError:
        try:
            return fetch(row)
        except MediaError as error:
            return error

    waiting = iter(rows)
    while some := tuple(islice(waiting, 4 * THREADS)):
        yield from zip(some, threads.map(one, some), strict=True)


def _put(found: Path | bytes, target: Path, *, media: Media, placed: Placed) -> None:
    """Link or copy one file; an existing target belongs to the same row and is kept."""
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
        # Resolve symbolic links: the export must survive if the link is moved or the source deleted.
        whole = found.resolve()
        try:
            os.link(whole, target)
            placed.hard_links += 1
        except OSError:  # a different file system, or one without hard links
            target.symlink_to(whole)
            placed.symbolic_links += 1


def _suffix(row: Row, found: Path | bytes) -> str:
    """Return the extension, by name or else by content; folder readers depend on it."""
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
