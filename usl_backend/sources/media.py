"""The one place that builds a media reader: who may read which bytes, and what follows a 401."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from usl_backend.errors import InputError, MediaError, StudioAuthError, StudioNotFoundError
from usl_backend.instances import Instance
from usl_backend.media import Location, MediaLimits, MediaReader, UnauthorizedError
from usl_backend.runs.artifacts import written_whole
from usl_backend.settings import HostSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from usl_backend.progress import Progress
    from usl_backend.runs import RunFiles
    from usl_backend.sources.target import Target
    from usl_backend.studio.client import StudioClient

_LARGEST_LIST = 1 << 30
"""Bytes of a manifest or of vectors that are downloaded; larger ones have to be fetched by other means."""
_LONGEST_DOWNLOAD = 3_600.0
"""Seconds for that."""


@dataclass(frozen=True)
class MediaAccess:
    """What may be read of a pool, under this host's limits. Holds no secret and travels to other processes.

    Attributes
    ----------
    limits
        Caps on size, time and pixels.
    roots
        Folders below which files may be read.
    allowed_hosts
        Hosts that may have private addresses.
    studio
        Address of the Label Studio whose tasks name the media; "" for a pool outside it, which may name objects of
        a store (`s3://...`) instead.
    """

    limits: MediaLimits = field(default_factory=MediaLimits)
    roots: tuple[Path, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    studio: str = ""

    @classmethod
    def of_project(cls, host: HostSettings, client: StudioClient) -> MediaAccess:
        """Media of a project's tasks."""
        root = host.label_studio_local_files_document_root
        return cls(host.media_limits, () if root is None else (root,), host.allowed_hosts, client.url)

    @classmethod
    def of_list(cls, host: HostSettings, roots: Iterable[str | Path]) -> MediaAccess:
        """Media of a pool outside Label Studio, whose files lie below some folders."""
        return cls(host.media_limits, tuple(Path(root) for root in roots), host.allowed_hosts)

    @classmethod
    def of_run(cls, host: HostSettings, files: RunFiles, client: StudioClient | None) -> MediaAccess:
        """Media of a run that has listed its pool; `client` is needed where that is a project."""
        outside = files.read_inventory().outside
        if outside is not None:
            return cls.of_list(host, outside.roots)
        assert client is not None, "a project's media need Label Studio"
        return cls.of_project(host, client)

    def open(self, client: StudioClient | None = None) -> Media:
        """Begin to read.

        Parameters
        ----------
        client
            Door to Label Studio where the media are a project's; None connects with the token of this process's
            environment, as the workers of a cluster do.

        Raises
        ------
        StudioAuthError
            There is no token in the environment.
        """
        reader = MediaReader(
            limits=self.limits,
            local_roots=self.roots,
            allowed_hosts=self.allowed_hosts,
            object_stores=not self.studio,
        )
        if not self.studio:
            return Media(reader, locate)
        found = client or _connect(self.studio)
        return Media(reader, lambda instance: found.locate(instance.id, instance.source))


class Media:
    """The bytes behind instances; safe for many threads. A context manager that closes its connections.

    Attributes
    ----------
    reader : MediaReader
        Reads locations; can be sent to another process.
    """

    def __init__(self, reader: MediaReader, locate: Callable[[Instance], Location]) -> None:
        self.reader = reader
        self._locate = locate

    def __enter__(self) -> Media:
        return self

    def __exit__(self, *_: object) -> None:
        self.reader.close()

    @property
    def limits(self) -> MediaLimits:
        """Caps on what is read and decoded."""
        return self.reader.limits

    def locate(self, instance: Instance) -> Location:
        """Say where the bytes of an instance are; credentials in it last for minutes.

        Raises
        ------
        MediaError
            Nowhere: the reason to show.
        """
        return self._locate(instance)

    def locations(self, instance: Instance) -> Iterator[Location]:
        """Locations to try while the answer is 401: a trusted origin gets a second one, with fresh credentials."""
        location = self.locate(instance)
        yield location
        if location.trusted:
            yield self.locate(instance)

    def read(self, instance: Instance) -> bytes:
        """Read all bytes of an instance; of a text, its UTF-8.

        Raises
        ------
        MediaError
            They cannot be had: the reason to show.
        """
        found = self.file(instance)
        return self.reader.read(Location(path=found)) if isinstance(found, Path) else found

    def file(self, instance: Instance) -> Path | bytes:
        """Path of an instance's file where it lies below a root of this host, else its bytes.

        Raises
        ------
        MediaError
            Neither can be had: the reason to show.
        """
        if instance.modality == "text":
            return instance.source.encode()
        refused: UnauthorizedError | None = None
        try:
            for location in self.locations(instance):
                if location.path is not None:
                    path = self.reader.locate(os.fspath(location.path)).path
                    assert path is not None
                    return path
                try:
                    return self.reader.read(location)
                except UnauthorizedError as error:
                    refused = error
        except StudioNotFoundError as error:
            raise MediaError(str(error)) from error
        assert refused is not None
        raise refused


@contextmanager
def open_run_media(host: HostSettings, files: RunFiles) -> Iterator[Media]:
    """Read the media of a run that has listed its pool, connecting to Label Studio where they are a project's.

    Raises
    ------
    SettingsError
        There is no token, or no usable address.
    """
    from usl_backend.studio.client import StudioClient

    if files.read_inventory().outside is not None:
        with MediaAccess.of_run(host, files, None).open() as media:
            yield media
        return
    with (
        StudioClient.from_settings(host) as client,
        MediaAccess.of_project(host, client).open(client) as media,
    ):
        yield media


def locate(instance: Instance) -> Location:
    """Say where the bytes of an instance of a pool outside Label Studio are.

    Raises
    ------
    MediaError
        It is a text.
    """
    if instance.modality == "text":
        raise MediaError("a text has no file")
    if instance.source.startswith("/"):
        return Location(path=Path(instance.source))
    return Location(url=instance.source)


def fetched_list(
    host: HostSettings, target: Target, folder: Path, *, progress: Progress | None = None
) -> Path | None:
    """Copy a manifest or a vector file that lies elsewhere to a folder, up to 1 GiB within an hour.

    Parameters
    ----------
    host
        Hosts that may be asked.
    target
        What the user named.
    folder
        Gets `manifest` with the list's suffix; one that is there already is taken.
    progress
        Told when a download begins.

    Returns
    -------
    Path or None
        The copy; None where the list lies on this disk, or is a folder.

    Raises
    ------
    InputError
        It cannot be had.
    """
    if not target.remote or target.kind == "folder":
        return None
    suffix = Path(target.address.partition("?")[0]).suffix.lower()
    path = folder / f"manifest{suffix}"
    if path.is_file():
        return path
    if progress is not None:
        progress("downloading", 0, 0)
    limits = MediaLimits(bytes=_LARGEST_LIST, seconds=_LONGEST_DOWNLOAD)
    with (
        written_whole(path) as stream,
        MediaReader(limits=limits, allowed_hosts=host.allowed_hosts, object_stores=True) as reader,
    ):
        try:
            stream.write(reader.read(Location(url=target.address)))
        except MediaError as error:
            raise InputError(f"{target.address} cannot be had: {error}") from error
    return path


def _connect(url: str) -> StudioClient:
    """Reach Label Studio with the token of this process's environment, for it does not travel."""
    from usl_backend.studio.client import StudioClient

    host = HostSettings.load({"label_studio_url": url})
    if not host.api_key:
        raise StudioAuthError(
            f"LABEL_STUDIO_API_KEY is not set on Ray node {os.uname().nodename}; set it in the environment in "
            "which `ray start` is run on every node, because tokens do not travel through Ray"
        )
    return StudioClient.from_settings(host)
