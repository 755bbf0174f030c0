"""Download published weights into the encoder directory; only a person's command does this, never a run."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.error import URLError

from usl_backend.encoders.files import digest_of
from usl_backend.encoders.images import safe_name
from usl_backend.encoders.origins import DownloadRecord, read_origin, write_origin
from usl_backend.encoders.published import hub_endpoint, hub_errors
from usl_backend.errors import EncoderError

if TYPE_CHECKING:
    from usl_backend.encoders.published import Publication, PublishedFile

STAGING: Final = ".pulling"
"""Folder in the encoder directory for downloads that are not complete."""
_SPARE: Final = 64 << 20
"""Bytes that stay free on the disk."""
_ATTEMPTS: Final = 5
_BROKEN: Final = ("ChunkedEncodingError", "RemoteProtocolError")
"""What requests and httpx, one of which the hub's library uses, call a connection that ended in a body."""


def pulled(publication: Publication, directory: Path) -> bool:
    """Return True if all files of a publication are in the encoder directory, compared by checksum.

    Raises
    ------
    EncoderError
        There is something else in their place.
    """
    target = directory / publication.target
    if not target.exists():
        return False
    here = [directory / file.target for file in publication.files]
    if all(path.is_file() and file.is_in(path) for path, file in zip(here, publication.files, strict=True)):
        return True
    raise EncoderError(
        f"{target} exists and is not what {publication.address} publishes; move it away to pull it again"
    )


def pull(publication: Publication, directory: Path, *, bar: bool) -> None:
    """Download a publication into the encoder directory and record its origin.

    Files appear under their own names only when all of them are complete and have the published checksums. After an
    interruption the same call starts again with the file that was interrupted.

    Parameters
    ----------
    directory
        The encoder directory; created if missing.
    bar
        Show progress bars on stderr.

    Raises
    ------
    EncoderError
        The disk is full, the publisher does not answer, or a file has another checksum.
    """
    staging = directory / STAGING / safe_name(publication.encoder)
    target = directory / publication.target
    try:
        if not pulled(publication, directory):
            _make_room(staging, publication)
            for file in publication.files:
                _fetch(publication, file, staging, bar=bar)
            _move(publication, staging, target)
        write_origin(target, _origin(publication, target))
    except OSError as error:
        raise EncoderError(
            f"encoder {publication.encoder} cannot be stored at {target} ({error.strerror or error}); make it writable"
        ) from error


def record_dim(weights: Path, dim: int) -> DownloadRecord:
    """Add the number of columns to the record of pulled weights; return the record.

    Raises
    ------
    EncoderError
        They have none: it was removed since.
    """
    origin = read_origin(weights)
    if origin is None:
        raise EncoderError(f"the record of {weights} was removed meanwhile; run the command again")
    origin = replace(origin, dim=dim)
    write_origin(weights, origin)
    return origin


def _origin(publication: Publication, target: Path) -> DownloadRecord:
    """Make the record of files that were downloaded."""
    size = sum(
        path.stat().st_size
        for path in ([target] if target.is_file() else target.rglob("*"))
        if path.is_file()
    )
    return DownloadRecord(
        encoder=publication.encoder,
        address=publication.address,
        revision=publication.revision,
        licence=publication.licence,
        bytes=size,
        sha256=digest_of(target),
    )


def _make_room(staging: Path, publication: Publication) -> None:
    """Create the staging folder, keep only complete files of an interrupted download, and check the disk."""
    staging.mkdir(parents=True, exist_ok=True)
    wanted_here = {_staged(publication, file, staging) for file in publication.files}
    for path in list(staging.rglob("*")):
        if path.is_file() and path not in wanted_here:
            path.unlink()
    here = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
    free, wanted = shutil.disk_usage(staging).free, publication.bytes - here + _SPARE
    if free < wanted:
        raise EncoderError(
            f"encoder {publication.encoder} needs {wanted:,} bytes, and {free:,} are free at {staging.parent.parent}; "
            "free some space, or set USL_ENCODER_DIR to another disk"
        )


def _fetch(publication: Publication, file: PublishedFile, staging: Path, *, bar: bool) -> None:
    """Download a file unless it is complete, and verify its checksum."""
    path = _staged(publication, file, staging)
    if not (path.is_file() and file.is_in(path)):
        path.unlink(missing_ok=True)
        if publication.repository:
            _fetch_from_hub(publication, file, staging, bar=bar)
        else:
            _fetch_from_url(publication, file, path, bar=bar)
    if not file.is_in(path):
        path.unlink()
        raise EncoderError(
            f"encoder {publication.encoder}: {file.path} arrived with another checksum than the published one, and "
            "was deleted; run the command again"
        )


def _staged(publication: Publication, file: PublishedFile, staging: Path) -> Path:
    """Return the path at which a file is downloaded."""
    return staging / (file.path if publication.repository else file.target)


def _fetch_from_hub(publication: Publication, file: PublishedFile, staging: Path, *, bar: bool) -> None:
    """Download a file of the hub at the revision that was shown."""
    with hub_errors(publication.encoder, publication.repository) as hub:
        switch = hub.utils.enable_progress_bars if bar else hub.utils.disable_progress_bars
        switch()
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                hub.hf_hub_download(
                    publication.repository,
                    file.path,
                    revision=publication.revision or None,
                    local_dir=staging,
                    endpoint=hub_endpoint(),
                )
            except Exception as error:
                # Not every version goes on by itself where a connection broke; each does when it is called again.
                if type(error).__name__ not in _BROKEN or attempt == _ATTEMPTS:
                    raise
            else:
                return


def _fetch_from_url(publication: Publication, file: PublishedFile, path: Path, *, bar: bool) -> None:
    """Download a file of a web server as torch does."""
    import torch

    digits = file.checksum.partition(":")[2]
    try:
        torch.hub.download_url_to_file(file.path, str(path), digits or None, progress=bar)
    except RuntimeError:
        path.unlink(missing_ok=True)
        raise EncoderError(
            f"encoder {publication.encoder}: {file.path} arrived with another checksum than the published one, and "
            "was deleted; run the command again"
        ) from None
    except (URLError, ConnectionError, TimeoutError) as error:
        raise EncoderError(
            f"encoder {publication.encoder}: {file.path} cannot be read ({error}); run the command again when it can "
            "be reached"
        ) from error


def _move(publication: Publication, staging: Path, target: Path) -> None:
    """Give the complete files their own names."""
    target.parent.mkdir(parents=True, exist_ok=True)
    (single,) = publication.files if len(publication.files) == 1 else (None,)
    if single is not None and single.target == publication.target:
        _staged(publication, single, staging).replace(target)
        shutil.rmtree(staging)
    else:
        shutil.rmtree(staging / ".cache", ignore_errors=True)  # the hub's own notes
        staging.rename(target)
    if not any(staging.parent.iterdir()):
        staging.parent.rmdir()
