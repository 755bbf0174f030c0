"""Construction of media readers: access rights, credentials and the retry after a 401."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from usl_backend.errors import InputError, MediaError, StudioAuthError, StudioNotFoundError
from usl_backend.instances import Instance
from usl_backend.media import PATIENCE, Location, MediaLimits, MediaReader, UnauthorizedError
from usl_backend.runs.artifacts import atomic_write
from usl_backend.runs.projects import learned_addresses
from usl_backend.settings import HostSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from usl_backend.progress import Progress
    from usl_backend.runs import RunFiles
    from usl_backend.sources.target import Target
    from usl_backend.studio.client import StudioClient

_LARGEST_LIST = 1 << 30
"""Maximum bytes of a downloaded manifest or vector file; download larger ones by other means."""
_LONGEST_DOWNLOAD = 3_600.0
"""Time limit of that download in seconds."""


@dataclass(frozen=True)
class MediaAccess:
    """Access rights to a pool's media under this host's limits; contains no secret, so it can be pickled.

    Attributes
    ----------
    limits
        Caps on size, time and pixels.
    roots
        Folders under which files may be read.
    allowed_hosts
        Hosts that may have private addresses.
    studio
        Address of the Label Studio whose tasks refer to the media; "" for a pool outside it, which may refer to
        object-store addresses (`s3://...`) instead.
    public
        Addresses at which browsers reach that Label Studio; tasks may name them.
    """

    limits: MediaLimits = field(default_factory=MediaLimits)
    roots: tuple[Path, ...] = ()
    allowed_hosts: tuple[str, ...] = ()
    studio: str = ""
    public: tuple[str, ...] = ()

    @classmethod
    def of_project(cls, host: HostSettings, client: StudioClient) -> MediaAccess:
        """Return access to the media of a project's tasks."""
        root = host.label_studio_local_files_document_root
        told = (host.label_studio_host,) if host.label_studio_host else ()
        return cls(
            host.media_limits,
            () if root is None else (root,),
            host.allowed_hosts,
            client.url,
            tuple(dict.fromkeys((*told, *learned_addresses(host.model_dir)))),
        )

    @classmethod
    def of_list(cls, host: HostSettings, roots: Iterable[str | Path]) -> MediaAccess:
        """Return access to the media of a pool outside Label Studio, with files under some folders."""
        return cls(host.media_limits, tuple(Path(root) for root in roots), host.allowed_hosts)

    @classmethod
    def of_run(cls, host: HostSettings, files: RunFiles, client: StudioClient | None) -> MediaAccess:
        """Return access to the media of a run that has listed its pool; a project's run needs `client`."""
        outside = files.read_inventory().outside
        if outside is not None:
            return cls.of_list(host, outside.roots)
        assert client is not None, "a project's media need Label Studio"
        return cls.of_project(host, client)

    def open(self, client: StudioClient | None = None, *, patience: float = PATIENCE) -> Media:
        """Open the media.

        Parameters
        ----------
        client
            Label Studio client for a project's media; None connects with the token in this process's environment,
            as the workers of a cluster do.
        patience
            Seconds for which a busy or absent host is asked again for one file.

        Raises
        ------
        StudioAuthError
            The environment has no token.
        """
        reader = MediaReader(
            limits=self.limits,
            local_roots=self.roots,
            allowed_hosts=self.allowed_hosts,
            object_stores=not self.studio,
            patience=patience,
        )
        if not self.studio:
            return Media(reader, locate)
        found = client or _connect(self.studio)
        return Media(reader, lambda instance: found.locate(instance.id, instance.source, public=self.public))


class Media:
    """Reader of the instances' bytes; thread-safe, and a context manager that closes its connections.

    Attributes
    ----------
    reader : MediaReader
        Reader of locations; can be pickled.
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
        """Limits on reading and decoding."""
        return self.reader.limits

    def locate(self, instance: Instance) -> Location:
        """Return the location of an instance's bytes; its credentials are valid for minutes.

        Raises
        ------
        MediaError
            The instance has no location; the message is the reason to show.
        """
        return self._locate(instance)

    def locations(self, instance: Instance) -> Iterator[Location]:
        """Yield the locations to try in turn on a 401: a trusted origin gets a second try with fresh credentials."""
        location = self.locate(instance)
        yield location
        if location.trusted:
            yield self.locate(instance)

    def read(self, instance: Instance) -> bytes:
        """Read all bytes of an instance; for a text that is not in a file, its UTF-8.

        Raises
        ------
        MediaError
            The bytes cannot be read; the message is the reason to show.
        """
        found = self.file(instance)
        return self.reader.read(Location(path=found)) if isinstance(found, Path) else found

    def file(self, instance: Instance) -> Path | bytes:
        """Return the path of an instance's file if it is under a root of this host, else its bytes.

        Raises
        ------
        MediaError
            The media cannot be read; the message is the reason to show.
        """
        if not instance.located:
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
def open_run_media(
    host: HostSettings, files: RunFiles, *, patience: float = PATIENCE, token_seconds: float | None = None
) -> Iterator[Media]:
    """Open the media of a run that has listed its pool, connecting to Label Studio for a project's run.

    Parameters
    ----------
    patience
        As for `MediaAccess.open`.
    token_seconds
        Longest wait for the access token for media of Label Studio, which is asked for once; None waits as long, and
        asks as often, as `StudioClient` does by itself.

    Raises
    ------
    SettingsError
        The token is missing, or the address is missing or invalid.
    """
    from usl_backend.studio.client import StudioClient

    if files.read_inventory().outside is not None:
        with MediaAccess.of_run(host, files, None).open(patience=patience) as media:
            yield media
        return
    if token_seconds is None:
        connected = StudioClient.from_settings(host)
    else:
        connected = StudioClient.from_settings(host, attempts=1, timeout=token_seconds)
    with (
        connected as client,
        MediaAccess.of_project(host, client).open(client, patience=patience) as media,
    ):
        yield media


def locate(instance: Instance) -> Location:
    """Return the location of an instance of a pool outside Label Studio.

    Raises
    ------
    MediaError
        The instance is a text that is not in a file.
    """
    if not instance.located:
        raise MediaError("a text has no file")
    if instance.source.startswith("/"):
        return Location(path=Path(instance.source))
    return Location(url=instance.source)


def fetched_list(
    host: HostSettings, target: Target, folder: Path, *, progress: Progress | None = None
) -> Path | None:
    """Download a manifest or vector file into a folder, up to 1 GiB within an hour.

    Parameters
    ----------
    host
        Limits and allowed hosts.
    target
        The list.
    folder
        Receives `manifest` with the list's extension; an existing one is reused.
    progress
        Receives the start of the download.

    Returns
    -------
    Path or None
        The copy; None for a local list or a folder.

    Raises
    ------
    InputError
        The download fails.
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
        atomic_write(path) as stream,
        MediaReader(limits=limits, allowed_hosts=host.allowed_hosts, object_stores=True) as reader,
    ):
        try:
            stream.write(reader.read(Location(url=target.address)))
        except MediaError as error:
            raise InputError(f"{target.address} cannot be read: {error}") from error
    return path


def _connect(url: str) -> StudioClient:
    """Connect to Label Studio with the token of this process's environment; tokens are never sent by Ray."""
    from usl_backend.studio.client import StudioClient

    host = HostSettings.load({"label_studio_url": url})
    if not host.api_key:
        raise StudioAuthError(
            f"LABEL_STUDIO_API_KEY is not set on Ray node {os.uname().nodename}; set it in the environment in "
            "which `ray start` is run on every node, because tokens do not travel through Ray"
        )
    return StudioClient.from_settings(host)
