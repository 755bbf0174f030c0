"""Files of Label Studio's tasks for an export, through the guarded reader. Where they go is decided elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from usl_backend.errors import MediaError, StudioNotFoundError
from usl_backend.media import MediaLimits, MediaReader, UnauthorizedError

if TYPE_CHECKING:
    from pathlib import Path

    from usl_backend.exports.media import Fetch
    from usl_backend.exports.split import Row
    from usl_backend.settings import HostSettings
    from usl_backend.studio.client import StudioClient


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
    limits = MediaLimits(bytes=host.media_max_bytes, seconds=host.media_timeout, pixels=host.media_max_pixels)
    with MediaReader(
        limits=limits, local_roots=() if root is None else (root,), allowed_hosts=host.allowed_hosts
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
