"""Map a value of a task's data to the location of its media; `media` reads the bytes."""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from usl_backend.errors import MediaError
from usl_backend.media import Location

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
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
    public: Sequence[str] = (),
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
    public
        Other addresses of the same Label Studio, such as the one that browsers use, or its sub-path: what tasks hold
        of them is fetched from `url`.
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
    if scheme in STORAGE_SCHEMES:
        # Label Studio tries base64 before anything else, so that only base64 is unambiguous.
        file = base64.urlsafe_b64encode(source.encode()).decode()
        address = f"{url}/tasks/{task_id}/presign/?fileuri={quote(file, safe='')}"
        return Location(url=address, headers={"Authorization": authorization()}, trusted=True)
    if scheme in {"http", "https"}:
        path = _path_of_studio(parts, url, public)
        if path is None:
            if parts.path.endswith(_LOCAL_FILES):
                raise MediaError(_other_name(source, url))
            # Beside Label Studio on its own host something else may be served: no token, but no guard either.
            return Location(url=source, trusted=_origin(parts) == _origin(urlsplit(url)))
    elif scheme or parts.netloc or not source.startswith("/"):
        raise MediaError(
            f"cannot be fetched: {source[:120]!r} is neither a web address nor a file of Label Studio"
        )
    else:
        path = _without_prefix(parts.path, (url, *public))
    if path == _LOCAL_FILES and documents_root is not None:
        found = _on_disk(parts.query, documents_root)
        if found is not None:
            return Location(path=found)
    query = f"?{parts.query}" if parts.query else ""
    address = f"{url}{quote(path, safe='/%:@+,;=~$!*()')}{query}"
    return _own(address, path, authorization)


def _path_of_studio(parts: SplitResult, url: str, public: Sequence[str]) -> str | None:
    """Return an address's path within Label Studio; None for an address of something else.

    Its public name may be shared with other services, so that only paths of media count there.
    """
    for home in (url, *public):
        named = urlsplit(home)
        if not named.netloc or _origin(parts) != _origin(named):
            continue
        prefix = named.path.rstrip("/")
        path = parts.path.removeprefix(prefix)
        if parts.path.startswith(prefix + "/") and (home == url or _MEDIA_PATHS.match(path)):
            return path
    return None


def _without_prefix(path: str, homes: Sequence[str]) -> str:
    """Return a path without the sub-path under which Label Studio is reached."""
    prefixes = (urlsplit(home).path.rstrip("/") for home in homes)
    found = next((one for one in prefixes if one and path.startswith(one + "/")), "")
    return path.removeprefix(found)


def _origin(parts: SplitResult) -> tuple[str, str]:
    """Return scheme and host with port, as browsers compare them."""
    scheme = parts.scheme.lower()
    usual = {"http": ":80", "https": ":443"}.get(scheme, "")
    return scheme, parts.netloc.lower().removesuffix(usual)


def _on_disk(query: str, documents_root: Path) -> Path | None:
    """Return the file that a local-files address means, if it is on this disk."""
    wanted = parse_qs(query).get("d", [""])[0].lstrip("/")
    # Resolve before comparing, so that neither `..` nor a link leads out of the root.
    root = documents_root.resolve()
    path = (root / wanted).resolve()
    if not path.is_relative_to(root):
        raise MediaError(f"{wanted!r} lies outside the local files of Label Studio")
    return path if path.is_file() else None


def _other_name(source: str, url: str) -> str:
    """Explain why a local file of a Label Studio by another name is not fetched: it answers its own users only."""
    name = source.partition(_LOCAL_FILES)[0]
    return (
        f"it is a local file of {name[:120]}, which is not LABEL_STUDIO_URL ({url}); if both are the same Label Studio,"
        f" set LABEL_STUDIO_HOST={name[:120]}"
    )


def _own(address: str, path: str, authorization: Callable[[], str]) -> Location:
    """Return a location on Label Studio itself, with the token only for paths that serve media."""
    media = _MEDIA_PATHS.match(path) is not None and ".." not in unquote(path).split("/")
    return Location(url=address, headers={"Authorization": authorization()} if media else {}, trusted=True)
