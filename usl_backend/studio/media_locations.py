"""Map a value of a task's data to the location of its media; `media` reads the bytes."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote, unquote, urlsplit

from usl_backend.errors import MediaError
from usl_backend.media import Location

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# Schemes of Label Studio's storages; Label Studio redirects to the storage or proxies the bytes.
STORAGE_SCHEMES = frozenset({"s3", "s3s", "gs", "azure-blob", "azure_spi", "redis"})
_LOCAL_FILES = "/data/local-files/"
# Paths under which Label Studio serves media. The token is sent to no other path: these URLs are written by
# whoever imports tasks, who must not get answers of Label Studio's API that way.
_MEDIA_PATHS = re.compile(r"/(data|storage-data)/|/(tasks|projects)/\d+/(resolve|presign)/")


def locate(
    task_id: int,
    source: str,
    *,
    url: str,
    authorization: Callable[[], str],
    documents_root: Path | None = None,
) -> Location:
    """Return the location of the media behind a value of a task's data.

    Parameters
    ----------
    task_id
        Label Studio signs storage URLs per task.
    source
        The value: `/data/upload/...`, `/data/local-files/?d=...`, `s3://...`, `gs://...`, `azure-blob://...`,
        `https://...` or `data:...`.
    url
        URL of Label Studio.
    authorization
        Returns the value of the Authorization header, which is sent only to Label Studio's own origin and only to
        paths that serve media.
    documents_root
        Label Studio's local-files root as a path on this host; files that exist below it are read from disk.

    Returns
    -------
    Location
        For `media.MediaReader`.

    Raises
    ------
    MediaError
        The value is empty or cannot be fetched from.
    """
    if not isinstance(source, str):
        raise MediaError("the task has no picture" if source is None else f"not an address: {source!r:.80}")
    source = source.strip()
    if not source:
        raise MediaError("the task has no picture: its value is empty")
    if source[:5].lower() == "data:":
        return Location(url=source)
    try:
        parts = urlsplit(source)
    except ValueError as error:
        raise MediaError(f"not an address: {source[:120]!r}") from error
    scheme = parts.scheme.lower()
    base = urlsplit(url)
    if scheme in STORAGE_SCHEMES:
        # Label Studio tries base64 before anything else, so that only base64 is unambiguous.
        file = base64.urlsafe_b64encode(source.encode()).decode()
        address = f"{url}/tasks/{task_id}/presign/?fileuri={quote(file, safe='')}"
        return Location(url=address, headers={"Authorization": authorization()}, trusted=True)
    if scheme in {"http", "https"}:
        if (scheme, parts.netloc) == (base.scheme, base.netloc):
            return _own(source, parts.path.removeprefix(base.path), authorization)
        return Location(url=source)
    if scheme or parts.netloc or not source.startswith("/"):
        raise MediaError(
            f"cannot be fetched: {source[:120]!r} is neither a web address nor a file of Label Studio"
        )
    path = (
        parts.path.removeprefix(base.path)
        if base.path and parts.path.startswith(base.path + "/")
        else parts.path
    )
    if path == _LOCAL_FILES and documents_root is not None:
        wanted = parse_qs(parts.query).get("d", [""])[0].lstrip("/")
        # Resolve before comparing, so that neither `..` nor a link leads out of the root.
        root = documents_root.resolve()
        file_path = (root / wanted).resolve()
        if not file_path.is_relative_to(root):
            raise MediaError(f"{wanted!r} lies outside the local files of Label Studio")
        if file_path.is_file():
            return Location(path=file_path)
    query = f"?{parts.query}" if parts.query else ""
    address = f"{url}{quote(path, safe='/%:@+,;=~$!*()')}{query}"
    return _own(address, path, authorization)


def _own(address: str, path: str, authorization: Callable[[], str]) -> Location:
    """Return a location on Label Studio itself, with the token only for paths that serve media."""
    media = _MEDIA_PATHS.match(path) is not None and ".." not in unquote(path).split("/")
    return Location(url=address, headers={"Authorization": authorization()} if media else {}, trusted=True)
