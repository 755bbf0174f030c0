"""Files of tasks, or of a pool outside Label Studio, for an export. Where they go is decided elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from usl_backend.errors import MediaError, StudioNotFoundError
from usl_backend.media import MediaReader, UnauthorizedError

if TYPE_CHECKING:
    from usl_backend.exports.media import Fetch
    from usl_backend.exports.split import Row
    from usl_backend.runs import RunFiles
    from usl_backend.settings import HostSettings
    from usl_backend.studio.client import StudioClient


@contextmanager
def outside_files(files: RunFiles, host: HostSettings) -> Iterator[Fetch]:
    """What fetches the file of a row of a pool outside Label Studio.

    Parameters
    ----------
    files
        The run's artifacts.
    host
        Limits and hosts with private addresses.

    Yields
    ------
    Fetch
        Gives a path where the file lies below the folders that the pool may name, else the bytes; of a text, its
        bytes. Raises `MediaError`.
    """
    _, meta = files.read_instances()
    with MediaReader(
        limits=host.media_limits,
        local_roots=[Path(root) for root in meta["outside"]["roots"]],
        object_stores=True,
        allowed_hosts=host.allowed_hosts,
    ) as reader:

        def fetch(row: Row) -> Path | bytes:
            if meta["outside"]["modality"] == "text":
                return row.source.encode()
            location = reader.locate(row.source)
            return reader.read(location) if location.path is None else location.path

        yield fetch


@contextmanager
def studio_files(client: StudioClient, host: HostSettings) -> Iterator[Fetch]:
    """What fetches the file of a row of a project's split.

    Parameters
    ----------
    client
        Door to Label Studio.
    host
        Limits, local-files root and hosts with private addresses.

    Yields
    ------
    Fetch
        Gives a path where the file lies below the local-files root of this host, else the bytes. Raises
        `MediaError`.
    """
    root = host.label_studio_local_files_document_root
    with MediaReader(
        limits=host.media_limits,
        local_roots=() if root is None else (root,),
        allowed_hosts=host.allowed_hosts,
    ) as reader:

        def fetch(row: Row) -> Path | bytes:
            try:
                for last in (False, True):
                    location = client.locate(row.task, row.source)
                    if location.path is not None:
                        return location.path  # resolved, and below the root
                    try:
                        return reader.read(location)
                    except (
                        UnauthorizedError
                    ):  # an access token lives for minutes; the next location has another
                        if last or not location.trusted:
                            raise
            except StudioNotFoundError as error:
                raise MediaError(str(error)) from error
            raise AssertionError("unreachable")

        yield fetch
