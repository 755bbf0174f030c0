"""Listing of the images in a folder, a glob pattern or an object-store prefix, without opening the files."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePath
from typing import Final

from usl_backend.errors import InputError, MediaError
from usl_backend.instances import Modality, TextFile
from usl_backend.media.limits import short_reason
from usl_backend.media.objects import ObjectStores
from usl_backend.progress import Progress, ignore
from usl_backend.sources.entries import Entry

SUFFIXES: Final = frozenset(
    {
        ".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp",
        ".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".pdf",
    }
)  # fmt: skip
"""Extensions of files of images, videos and PDFs; the actual format is detected when a file is decoded."""
_SYSTEM: Final = frozenset({"thumbs.db", "desktop.ini", "__macosx", "@eadir", "lost+found"})
_EVERY: Final = 8_192
_MAGIC: Final = frozenset("*?[")
_STEP: Final = "looking at files"


def is_picture(name: str) -> bool:
    """Return True if a file name has the extension of an image, a video or a PDF."""
    return os.path.splitext(name)[1].lower() in SUFFIXES  # noqa: PTH122 - a million of them


def is_pdf_name(name: str) -> bool:
    """Return True if a file name has the extension of a PDF."""
    return name.lower().endswith(".pdf")


def is_hidden(name: str) -> bool:
    """Return True for hidden files and files of the operating system."""
    return name.startswith(".") or name.lower() in _SYSTEM


def is_pattern(text: str) -> bool:
    """Return True if a target has wildcards."""
    return not _MAGIC.isdisjoint(text)


class Folder:
    """The images in a folder and its subfolders, sorted by path.

    Links to folders are not followed; a link to an image inside the folder counts as an image, a link out of
    the folder is refused.

    Parameters
    ----------
    path
        The folder.
    pattern
        Glob pattern relative to the folder, `**` included; None selects everything.
    texts
        List only PDFs, for their texts.
    progress
        Receives the number of files seen.
    """

    modality: Modality = "image"
    guessed_encoding = ""
    data_key = "path"

    def __init__(
        self,
        path: Path,
        *,
        pattern: str | None = None,
        texts: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self.path = path.resolve()
        self.pattern = pattern
        self.address = str(self.path) if pattern is None else os.path.join(self.path, pattern)  # noqa: PTH118
        self.roots = (self.path,)
        self.text_file = TextFile(self.data_key) if texts else None
        self._takes = is_pdf_name if texts else is_picture
        self.passed_over: Counter[str] = Counter()
        self._progress = progress or ignore
        self._seen = 0

    def __iter__(self) -> Iterator[Entry]:
        """Yield the images sorted by path, so that the same folder gives the same rows.

        Raises
        ------
        InputError
            The folder is missing, unreadable, or has no images.
        """
        self.passed_over.clear()
        self._seen = 0
        faults: dict[str, str] = {}
        found = self._below(faults) if self.pattern is None else self._matching(faults)
        if not found and not faults:
            raise InputError(
                f"{self.address} has no {_kind(self.text_file)}"
                + (f" ({describe(self.passed_over)} ignored)" if self.passed_over else "")
                + f"; supported extensions: {', '.join(sorted(SUFFIXES)) if self.text_file is None else '.pdf'}"
            )
        for row, name in enumerate(sorted({*found, *faults})):
            yield Entry(row, name, "image", os.path.join(self.path, name), fault=faults.get(name))  # noqa: PTH118

    def _below(self, faults: dict[str, str]) -> list[str]:
        """List the folder's images recursively, in one pass that needs only names and file types."""
        found: list[str] = []
        waiting = [""]
        while waiting:
            below = waiting.pop()
            try:
                with os.scandir(self.path / below) as entries:
                    for entry in entries:
                        self._count()
                        name = f"{below}{entry.name}"
                        if is_hidden(entry.name):
                            self.passed_over["hidden"] += 1
                        elif entry.is_symlink():
                            self._link(name, found, faults)
                        elif entry.is_dir(follow_symlinks=False):
                            waiting.append(f"{name}/")
                        elif self._takes(entry.name):
                            found.append(name)
                        else:
                            self.passed_over["other files"] += 1
            except OSError as error:
                if not below:
                    raise InputError(f"folder {self.path} cannot be read: {short_reason(error)}") from error
                faults[below] = f"the folder cannot be read: {short_reason(error)}"
        return found

    def _matching(self, faults: dict[str, str]) -> list[str]:
        """List the images that match the pattern."""
        assert self.pattern is not None
        found: list[str] = []
        # Path.glob would follow links and, before Python 3.13, lists hidden files too
        for name in glob.iglob(self.pattern, root_dir=self.path, recursive=True):  # noqa: PTH207
            self._count()
            path = self.path / name
            if any(map(is_hidden, PurePath(name).parts)):
                self.passed_over["hidden"] += 1
            elif path.is_symlink() or not path.resolve().is_relative_to(self.path):
                self._link(name, found, faults)
            elif path.is_dir():
                continue
            elif self._takes(name):
                found.append(name)
            else:
                self.passed_over["other files"] += 1
        return found

    def _link(self, name: str, found: list[str], faults: dict[str, str]) -> None:
        """Handle a symbolic link: accept an image, skip a folder, refuse a target outside the folder."""
        try:
            target = (self.path / name).resolve(strict=True)
        except (OSError, RuntimeError) as error:
            if self._takes(name):
                faults[name] = f"the link leads nowhere: {short_reason(error)}"
            else:
                self.passed_over["links"] += 1
            return
        if not target.is_relative_to(self.path):
            faults[name] = "the link leaves the folder, so it is not followed"
        elif target.is_dir() or not self._takes(name):
            self.passed_over["links"] += 1
        else:
            found.append(name)

    def _count(self) -> None:
        self._seen += 1
        if self._seen % _EVERY == 0:
            self._progress(_STEP, self._seen, 0)


class ObjectFolder:
    """The images under a prefix of an object store, sorted by address.

    Parameters
    ----------
    address
        Such as `s3://bucket/photos/`.
    stores
        Client that lists the prefix.
    texts
        List only PDFs, for their texts.
    progress
        Receives the number of objects seen.
    """

    modality: Modality = "image"
    guessed_encoding = ""
    data_key = "path"
    roots: tuple[Path, ...] = ()

    def __init__(
        self, address: str, stores: ObjectStores, *, texts: bool = False, progress: Progress | None = None
    ) -> None:
        self.address = address
        self.text_file = TextFile(self.data_key) if texts else None
        self._takes = is_pdf_name if texts else is_picture
        self.passed_over: Counter[str] = Counter()
        self._stores = stores
        self._progress = progress or ignore

    def __iter__(self) -> Iterator[Entry]:
        """Yield the images, sorted by address.

        Raises
        ------
        InputError
            The store refuses, or there are no images under the prefix.
        """
        self.passed_over.clear()
        head = self.address.rstrip("/") + "/"
        found: list[str] = []
        try:
            for seen, address in enumerate(self._stores.below(self.address), start=1):
                below = PurePath(address.removeprefix(head))
                if any(map(is_hidden, below.parts)):
                    self.passed_over["hidden"] += 1
                elif self._takes(address):
                    found.append(address)
                else:
                    self.passed_over["other files"] += 1
                if seen % _EVERY == 0:
                    self._progress(_STEP, seen, 0)
        except MediaError as error:
            raise InputError(f"{self.address} cannot be listed: {error}") from error
        if not found:
            raise InputError(
                f"{self.address} has no {_kind(self.text_file)}"
                + (f" ({describe(self.passed_over)} ignored)" if self.passed_over else "")
            )
        for row, address in enumerate(sorted(found)):
            yield Entry(row, address.removeprefix(head), "image", address)


def _kind(text_file: TextFile | None) -> str:
    """Name what a folder is searched for."""
    return "images" if text_file is None else "PDFs"


def split_pattern(text: str) -> tuple[Path, str]:
    """Split a pattern into its fixed folder and the pattern relative to that.

    Parameters
    ----------
    text
        Such as `photos/**/*.png`.
    """
    parts = Path(text).parts
    fixed = next(place for place, part in enumerate(parts) if is_pattern(part))
    return Path(*parts[:fixed]) if fixed else Path(), "/".join(parts[fixed:])


def describe(passed_over: Mapping[str, int]) -> str:
    """Format counts, such as "1,000,000 other files, 3 hidden"."""
    return ", ".join(f"{count:,} {kind}" for kind, count in Counter(passed_over).most_common())
