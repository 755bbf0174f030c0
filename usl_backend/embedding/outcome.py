"""One instance to its outcome: contents to encode, contents that are known, or the reason why there is none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from usl_backend.embedding.reading import Content, Reading, read_pictures, read_text, text_content
from usl_backend.encoders.base import decodes_quickly
from usl_backend.errors import MediaError, StudioAuthError, StudioNotFoundError
from usl_backend.studio.text_files import text_in

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from usl_backend.embedding.reading import ReadingProcesses
    from usl_backend.encoders import Encoder
    from usl_backend.instances import Instance
    from usl_backend.media import Location
    from usl_backend.sources.media import Media


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of examining one instance that shows a single part.

    Attributes
    ----------
    instance
        The one that was examined.
    contents
        What the part holds, usually one picture or text; empty where it could not be read.
    skipped
        Why it could not be read; "" where it could.
    missed
        Its host failed to deliver it, for a reason that may pass.
    host
        The one that was asked, or that failed; "" for a text or a file.
    trusted
        It comes from Label Studio.
    """

    instance: Instance
    contents: tuple[Content, ...] = ()
    skipped: str = ""
    missed: bool = False
    host: str = ""
    trusted: bool = False


@dataclass(frozen=True)
class Access:
    """Reads pictures as the encoder wants them, and texts that lie in files.

    Attributes
    ----------
    media
        Where they are, and their bytes.
    size
        Side of the decoded pictures in pixels.
    quick
        Whether the encoder takes pictures that are decoded quickly.
    """

    media: Media
    size: int
    quick: bool = False

    @classmethod
    def of(cls, encoder: Encoder, media: Media) -> Access:
        """Read as an encoder wants it."""
        return cls(media, encoder.size, decodes_quickly(encoder))

    def read(
        self, instance: Instance, *, wanted: Callable[[str], bool], once: bool = False
    ) -> tuple[Location, Reading]:
        """Locate and read a picture or a file with a text; with `once` its host is asked only once.

        Raises
        ------
        StudioAuthError
            A trusted origin answers 401 even to fresh credentials.
        """
        for location in self.media.locations(instance):
            reading = self._reading(instance, location, wanted=wanted, once=once)
            if not reading.unauthorized:
                break
        if reading.unauthorized and location.trusted:
            raise StudioAuthError(
                f"Label Studio does not accept the token for media any more ({reading.reason}); renew "
                "LABEL_STUDIO_API_KEY and resume the run"
            )
        return location, reading

    def _reading(
        self, instance: Instance, location: Location, *, wanted: Callable[[str], bool], once: bool
    ) -> Reading:
        """Read what is at a location."""
        reader = self.media.reader
        if instance.file is None:
            return read_pictures(reader, location, size=self.size, wanted=wanted, once=once, quick=self.quick)
        text_of = partial(text_in, file=instance.file, limits=reader.limits)
        return read_text(reader, location, text_of=text_of, wanted=wanted, once=once)

    def delivers(self, instance: Instance) -> bool:
        """Tell whether a host answers for an instance, if only that it is gone or no picture; ask once."""
        try:
            _, reading = self.read(instance, wanted=lambda _: False, once=True)
        except (MediaError, StudioNotFoundError):
            return True
        return not reading.unavailable


class Examiner:
    """Examines instances in the reading threads; of equal contents only the first is decoded.

    Parameters
    ----------
    access
        Reads files. A text that the data hold is its own content.
    known
        Tells which contents have a row already.
    """

    def __init__(
        self, access: Access, *, known: Callable[[Sequence[str]], Sequence[bool] | NDArray[np.bool_]]
    ) -> None:
        self._access, self._known = access, known
        self._claimed: set[str] = set()
        self._claiming = threading.Lock()

    def here(self, some: Sequence[Instance], _: threading.Event) -> Iterator[Outcome]:
        """Examine some instances in the calling thread."""
        for instance in some:
            yield self._outcome(instance)

    def in_process(
        self, some: Sequence[Instance], stopping: threading.Event, *, processes: ReadingProcesses
    ) -> Iterator[Outcome]:
        """Have some pictures read by the calling thread's process, and examine what it found."""
        located = [self._located(instance) for instance in some]
        readings = processes.read([location for location in located if location is not None])
        if stopping.is_set():
            return
        found = iter(readings or ())
        for instance, location in zip(some, located, strict=True):
            # What went wrong on the way is found out again, by the words that threads have for it.
            reading = next(found, None) if location is not None else None
            if location is None or reading is None:
                yield self._outcome(instance)
            else:
                yield self._outcome(instance, (location, reading))

    def _located(self, instance: Instance) -> Location | None:
        """Where an instance is; None where that is no picture or cannot be said."""
        if instance.modality != "image":
            return None
        try:
            return self._access.media.locate(instance)
        except Exception:  # noqa: BLE001 - asked again, by whom the error concerns
            return None

    def _outcome(self, instance: Instance, given: tuple[Location, Reading] | None = None) -> Outcome:
        """Examine one instance; `given` is what a process found, and where."""
        if not instance.located:
            if not instance.source.strip():
                return Outcome(instance, skipped="the text is empty")
            return Outcome(instance, (text_content(instance.source, wanted=self._claim),))
        try:
            if given is None or (given[0].trusted and given[1].unauthorized):
                given = None
                location, reading = self._access.read(instance, wanted=self._claim)
            else:
                location, reading = given
        except StudioNotFoundError as error:
            return Outcome(instance, skipped=f"it is gone from Label Studio: {error}")
        except MediaError as error:
            return Outcome(instance, skipped=str(error))
        contents = reading.contents
        if given is not None:
            unread = [one.hash for one in contents if one.value is None and not one.reason]
            if not all(self._known(unread)):
                # Another content has a hash that begins with the same bytes.
                return self._outcome(instance)
            # A process cannot claim.
            contents = tuple(
                one if one.reason or self._claim(one.hash) else Content(one.hash) for one in contents
            )
        return Outcome(
            instance,
            contents,
            skipped=reading.reason,
            missed=reading.unavailable,
            host=reading.host,
            trusted=location.trusted,
        )

    def _claim(self, content_hash: str) -> bool:
        """Tell whether a content is to be encoded: it has no row, and nobody has claimed it before."""
        with self._claiming:
            # Of equal contents the first is encoded; the others only wait for its row.
            if content_hash in self._claimed:
                return False
            self._claimed.add(content_hash)
        return not self._known([content_hash])[0]
