"""Text, name and thumbnail of the instances of one run, by id."""

from __future__ import annotations

import logging
import re
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

import numpy as np

from usl_backend.errors import MediaError, RunError, StudioError
from usl_backend.media import MediaLimits, make_thumbnail
from usl_backend.report.record import folder
from usl_backend.report.text_pictures import draw_text
from usl_backend.runs.artifacts import atomic_write
from usl_backend.runs.columns import proper
from usl_backend.studio.text_files import text_in

if TYPE_CHECKING:
    from usl_backend.instances import Instance
    from usl_backend.runs import RunFiles

logger = logging.getLogger(__name__)

SIDE: Final = 160
"""Longer side of a thumbnail, in pixels."""
LARGE: Final = 1280
"""Longer side of an enlarged picture, in pixels."""
EXCERPT: Final = 280
"""Maximum number of characters shown of a text."""
_AT_ONCE: Final = 4

Read = Callable[["Instance"], bytes]
"""Function that reads the bytes of an instance, such as `Media.read`; raises `MediaError` or `StudioError`."""


class Sources:
    """The instances of one run by id, read on demand instead of kept in memory.

    Parameters
    ----------
    files
        The run's artifacts.

    Raises
    ------
    RunError
        The run has listed no tasks yet.
    """

    def __init__(self, files: RunFiles) -> None:
        self._files = files
        self._path = files.directory / files.INSTANCES
        self._ids, self._offsets = self._index()
        # vectors have nothing to show, and are not listed
        bare = not len(self._ids) and files.has_pool()
        self._rows = files.read_inventory().tasks if bare else 0

    def __len__(self) -> int:
        return len(self._ids)

    def get(self, instance_id: int) -> Instance | None:
        """Return the instance with this id, or None; a row of vectors is an empty text."""
        import json

        from usl_backend.instances import Instance

        if not -(2**63) <= instance_id < 2**63:
            return None
        if 0 <= instance_id < self._rows:
            return Instance(instance_id, "text", "")
        place = int(np.searchsorted(self._ids, instance_id))
        if place == len(self._ids) or self._ids[place] != instance_id:
            return None
        with self._path.open("rb") as stream:
            stream.seek(int(self._offsets[place]))
            return Instance.from_json(json.loads(stream.readline()))

    def _index(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Return the ids, ascending, and the file offset of each line; cached with the report."""
        kept = self._files.directory / "report" / "instances.npz"
        try:
            with kept.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
                if int(arrays["bytes"]) == self._path.stat().st_size:
                    return arrays["ids"], arrays["offsets"]
        except (FileNotFoundError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            pass
        ids, offsets = self._scan()
        folder(self._files)
        with atomic_write(kept) as file:
            np.savez(file, ids=ids, offsets=offsets, bytes=np.asarray(self._path.stat().st_size))
        return ids, offsets

    def _scan(self) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Build the index by reading the whole list."""
        import json

        ids, offsets = [], []
        try:
            with self._path.open("rb") as lines:
                at = len(next(lines))
                for line in lines:
                    ids.append(int(json.loads(line)["id"]))
                    offsets.append(at)
                    at += len(line)
        except FileNotFoundError:
            raise RunError(f"run {self._files.directory.name} has listed no tasks yet") from None
        order = np.argsort(np.asarray(ids, dtype=np.int64), kind="stable")
        return np.asarray(ids, dtype=np.int64)[order], np.asarray(offsets, dtype=np.int64)[order]


class Thumbnails:
    """Small pictures of the instances of one run, created on demand and cached in its directory.

    They are JPEGs, or SVGs with the beginning of a text that lies in a file.

    Parameters
    ----------
    files
        The run's artifacts.
    sources
        The run's instances; others are refused.
    read
        Reads the bytes of an instance.
    limits
        Limits on decoding.
    """

    _working = threading.BoundedSemaphore(_AT_ONCE)

    def __init__(
        self, files: RunFiles, sources: Sources, read: Read, *, limits: MediaLimits | None = None
    ) -> None:
        self._directory = folder(files) / "thumbnails"
        self._sources, self._read, self._limits = sources, read, limits or MediaLimits()

    def path(self, instance_id: int, *, side: int = SIDE) -> Path:
        """Return the file of a thumbnail, or of a larger picture, creating it if necessary.

        Raises
        ------
        RunError
            The run has no such instance.
        MediaError
            Its data hold the text, or its file can no longer be read or decoded; the message is the reason to show.
        """
        instance = self._sources.get(instance_id)
        if instance is None:
            raise RunError(f"task {instance_id} is not part of run {self._directory.parent.parent.name}")
        if not instance.located:
            raise MediaError(f"task {instance_id} is a text and has no image")
        picture = _has_picture(instance)
        larger = f"-{side}" if picture and side != SIDE else ""
        path = self._directory / f"{instance.id}{larger}.{'jpg' if picture else 'svg'}"
        if not path.is_file():
            with self._working:
                try:
                    data = self._read(instance)
                except StudioError as error:
                    raise MediaError(str(error)) from error
                small = self._small(instance, data, side)
            # Whoever frees disk space may delete the folder of a report that is shown.
            self._directory.mkdir(parents=True, exist_ok=True)
            with atomic_write(path) as file:
                file.write(small)
        return path

    def _small(self, instance: Instance, data: bytes, side: int) -> bytes:
        """Make the picture of an instance from its file."""
        if instance.file is None or _has_picture(instance):
            return make_thumbnail(data, side=side, limits=self._limits)
        return draw_text(text_in(data, file=instance.file, limits=self._limits)).encode()


def image_type(path: Path) -> str:
    """Return the media type of a thumbnail."""
    return "image/svg+xml" if path.suffix == ".svg" else "image/jpeg"


def _has_picture(instance: Instance) -> bool:
    """Return True for an image, and for a PDF of which the text is embedded."""
    return instance.file is None or instance.file.shown_by == "Pdf"


def name_of(instance: Instance, *, pool: bool = False) -> str:
    """Return the file name of an instance; "" for a text or an address without one.

    In a pool outside Label Studio (`pool`) a source that begins with a slash is a path, in Label Studio an address.
    """
    source = instance.source
    if not instance.located or source.lstrip()[:5].lower() == "data:":
        return ""
    if pool and source.startswith("/"):
        name = source.rpartition("/")[2]
    else:
        try:
            parts = urlsplit(source)
        except ValueError:
            return ""
        inside = re.search(r"(?:^|&)d=([^&]+)", parts.query)
        name = re.split(r"[/\\]", unquote(inside[1] if inside else parts.path))[-1]
    return proper(" ".join(name.split())[:80])


def called(instance: Instance | None, task: int, *, pool: bool) -> tuple[str, str]:
    """Return what pages call an instance, and the alternative text of its picture.

    The name is "task 4711"; in a pool outside Label Studio (`pool`) that of its file, or "row 312".
    """
    name = "" if instance is None else name_of(instance, pool=pool)
    if pool:
        name = name or f"row {task}"
        return name, name
    return f"task {task}", f"Task {task}" + (f", {name}" if name else "")


def excerpt_of(instance: Instance, *, length: int = EXCERPT) -> str:
    """Return the beginning of a text, cut between words; "" for a file."""
    if instance.located:
        return ""
    text = " ".join(instance.source.split())
    if len(text) <= length:
        return text
    cut = text[:length].rsplit(" ", 1)[0] if " " in text[:length] else text[:length]
    return cut + " …"
