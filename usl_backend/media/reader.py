"""Read bytes of files below a root, http(s) and data URLs, and objects, under limits; `pictures.py` decodes them."""

from __future__ import annotations

import contextlib
import errno
import http.client
import os
import re
import socket
import stat
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urljoin

from usl_backend.errors import MediaError
from usl_backend.media.addresses import Hop, Resolver, parse, resolve, unused_proxy
from usl_backend.media.encodings import data_url_content, decoded
from usl_backend.media.hosts import BUSY, PATIENCE, Hosts, retry_after
from usl_backend.media.inside import ParquetPictures, is_inside
from usl_backend.media.limits import (
    Location,
    MediaLimits,
    UnauthorizedError,
    UnavailableError,
    short_reason,
)
from usl_backend.media.objects import ObjectStores, bucket, is_object
from usl_backend.media.transport import Connections

if TYPE_CHECKING:
    from io import BufferedReader

_HEADERS: Final = {"User-Agent": "usl-backend", "Accept": "image/*,*/*;q=0.5"}
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_CHUNK: Final = 1 << 18
_ASCII: Final = "".join(map(chr, range(128)))


class MediaReader:
    """Reader of untrusted locations under `limits`; safe to use from several threads.

    Parameters
    ----------
    limits
        Limits on size, time and redirects.
    local_roots
        Folders below which files may be read; by default no file is read.
    allowed_hosts
        Host names or addresses, each `host` or `host:port`, that may have private addresses.
    resolver
        Replaces `socket.getaddrinfo`.
    object_stores
        Allow addresses such as `s3://`, read with the credentials of this host, and pictures inside Parquet files
        below the roots.
    patience
        Seconds for which a busy or absent host is asked again for one file; see `hosts.Host`.

    Attributes
    ----------
    hosts : Hosts
        What this reader has learned of the hosts that it asked.
    """

    def __init__(
        self,
        *,
        limits: MediaLimits | None = None,
        local_roots: Sequence[Path] = (),
        allowed_hosts: Sequence[str] = (),
        resolver: Resolver = socket.getaddrinfo,
        object_stores: bool = False,
        patience: float = PATIENCE,
    ) -> None:
        self.limits = limits or MediaLimits()
        self.patience = patience
        self.hosts = Hosts()
        self._objects = ObjectStores(self.limits) if object_stores else None
        self._roots = tuple(Path(root).resolve() for root in local_roots)
        self._allowed = frozenset(host.strip().lower().rstrip(".") for host in allowed_hosts)
        self._resolver = resolver
        self._connections = Connections()
        self._inside = ParquetPictures(self.limits, self._open_file) if object_stores else None

    def __reduce__(self) -> tuple[Callable[[], MediaReader], tuple[()]]:
        """Pickle as a reader with the same rules and new connections."""
        make = partial(
            type(self),
            limits=self.limits,
            local_roots=self._roots,
            allowed_hosts=tuple(self._allowed),
            resolver=self._resolver,
            object_stores=self._objects is not None,
            patience=self.patience,
        )
        return make, ()

    def __enter__(self) -> MediaReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections, and wait for no host any more; the reader stays usable."""
        self.hosts.close()
        self._connections.close()
        if self._inside is not None:
            self._inside.close()

    def locate(self, source: str) -> Location:
        """Return the untrusted location of a source outside Label Studio, without opening it.

        Parameters
        ----------
        source
            http(s) URL, data URL, or a path: absolute below a local root, or relative to one.

        Raises
        ------
        MediaError
            The scheme is not allowed or the path is outside every root.
        """
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:", source.lstrip()):
            if not _is_data_url(source) and not (self._objects is not None and is_object(source)):
                parse(source)
            return Location(url=source)
        return Location(path=self._below_root(source))

    def read(self, location: Location, *, once: bool = False) -> bytes:
        """Read the whole file or answer: 1 to `limits.bytes` bytes.

        Parameters
        ----------
        location
            From `locate`, or from `studio` for media of Label Studio.
        once
            Ask at once and only once, whatever is known of the host.

        Raises
        ------
        UnavailableError
            The host did not answer or was busy, also after `patience`.
        UnauthorizedError
            The server answered 401.
        MediaError
            Any other failure; the message is the reason to show.
        """
        if location.path is not None:
            data = self._read_file(location.path)
        elif location.url is None:
            raise MediaError("the location has neither a URL nor a path")
        elif _is_data_url(location.url):
            data = data_url_content(location.url.strip(), limit=self.limits.bytes)
        elif self._objects is not None and is_object(location.url):
            read = partial(self._objects.read, location.url)
            data = self.hosts[bucket(location.url)].fetch(read, patience=0.0 if once else self.patience)
        elif self._inside is not None and is_inside(location.url):
            data = self._inside.read(location.url)
        else:
            data = self._read_url(location, patience=0.0 if once else self.patience)
        if not data:
            raise MediaError("the file is empty (0 bytes)")
        return data

    # -- files ---------------------------------------------------------------------------------------------

    def _below_root(self, source: str) -> Path:
        """Resolve a path, including symbolic links, and require that it lies below a root."""
        _check_path(source)
        if not self._roots:
            raise MediaError("local files are not allowed: no local root is configured")
        try:
            candidates = [(root / PurePosixPath(source)).resolve() for root in self._roots]
            inside = [path for path in candidates if self._root_of(path) is not None]
            if not inside:
                raise MediaError("the path is outside the allowed local roots")
            return next((path for path in inside if path.exists()), inside[0])
        except (OSError, RuntimeError, ValueError) as error:
            raise MediaError(f"the path cannot be resolved: {short_reason(error)}") from error

    def _open_file(self, path: str) -> BufferedReader:
        """Open a file below a root, or one that is a root itself, of any size."""
        found = self._below_root(path)
        root = self._root_of(found)
        assert root is not None, "resolved below a root"
        if found == root:
            root = root.parent
        try:
            return _open_below(root, found.relative_to(root).parts)
        except OSError as error:
            raise MediaError(f"the file cannot be read: {short_reason(error)}") from error

    def _read_file(self, path: Path) -> bytes:
        """Read a path below a root; resolve it first only if it contains links."""
        _check_path(os.fspath(path))
        try:
            if (root := self._root_of(path)) is not None:
                try:
                    return self._read_below(root, path)
                except OSError as error:
                    if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                        raise
            path = self._below_root(os.fspath(path))
            root = self._root_of(path)
            assert root is not None, "resolved below a root"
            return self._read_below(root, path)
        except OSError as error:
            raise MediaError(f"the file cannot be read: {short_reason(error)}") from error

    def _root_of(self, path: Path) -> Path | None:
        """Return the root that a path is written below."""
        return next((root for root in self._roots if path.is_relative_to(root)), None)

    def _read_below(self, root: Path, path: Path) -> bytes:
        """Read a path without links below a root."""
        with _open_below(root, path.parts[len(root.parts) :]) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise MediaError("the path is not a regular file")
            if status.st_size > self.limits.bytes:
                raise self._too_large(status.st_size)
            # Python allocates as much as is requested: request no more than the reported size.
            data = file.read(status.st_size + 1)
            if len(data) > status.st_size:
                # The file is growing, or the file system does not know its size.
                data += file.read(self.limits.bytes + 1 - len(data))
        if len(data) > self.limits.bytes:
            raise self._too_large(len(data))
        return data

    # -- URLs ----------------------------------------------------------------------------------------------

    def _read_url(self, location: Location, *, patience: float) -> bytes:
        """Follow the redirects of a URL to its content; each host is asked with patience."""
        url, seconds = location.url or "", self.limits.seconds
        home = parse(url).origin
        at_home = True
        for _ in range(self.limits.redirects + 1):
            target = parse(url)
            # After a redirect to another origin, a redirect back is untrusted and gets no credentials.
            at_home = at_home and target.origin == home
            private = (location.trusted and at_home) or not self._allowed.isdisjoint(
                {target.host, f"{target.host}:{target.port}"}
            )
            get = partial(
                self._get,
                target,
                headers={**_HEADERS, **(location.headers if at_home else {})},
                private=private,
                seconds=seconds,
            )
            answer, taken = self.hosts[target.authority].fetch(get, patience=patience)
            if isinstance(answer, bytes):
                return answer
            url, seconds = urljoin(url, answer), seconds - taken
        raise MediaError(f"more than {self.limits.redirects} redirects")

    def _get(
        self, target: Hop, *, headers: dict[str, str], private: bool, seconds: float
    ) -> tuple[bytes | str, float]:
        """Return the body, or the URL of the next hop, and the seconds that it took."""
        begun = time.monotonic()
        try:
            addresses = resolve(target, self._resolver, private=private)
        except UnavailableError as error:
            raise _unavailable(target, str(error)) from error
        try:
            connection, response = self._connections.get(target, addresses, headers, begun + seconds)
            try:
                onward = _onward(response)
                if response.status in _REDIRECTS and onward:
                    if response.length is not None and response.length <= _CHUNK:
                        response.read()
                    return onward, time.monotonic() - begun
                return self._body(target, response), time.monotonic() - begun
            finally:
                self._connections.keep(connection, response)
        except TimeoutError as error:
            raise _unavailable(target, f"{target.host} did not deliver in time") from error
        except (OSError, http.client.HTTPException) as error:
            reason = short_reason(error)
            raise _unavailable(target, f"the connection to {target.host} failed: {reason}") from error

    def _body(self, target: Hop, response: http.client.HTTPResponse) -> bytes:
        """Read the answer in chunks under the limits."""
        if response.status != 200:
            text = f"{target.host} answered {response.status} {response.reason}".rstrip()
            if response.status == 401:
                raise UnauthorizedError(text)
            if response.status in BUSY:
                rest = retry_after(response.headers.get("Retry-After"))
                busy = response.status == 429 or rest is not None
                raise UnavailableError(text, host=target.authority, busy=busy, retry_after=rest)
            raise MediaError(text)
        if response.length is not None and response.length > self.limits.bytes:
            raise self._too_large(response.length)
        pieces: list[bytes] = []
        size = 0
        received = iter(lambda: response.read1(_CHUNK), b"")
        encoding = response.headers.get("Content-Encoding", "")
        for piece in decoded(received, encoding, host=target.host):
            pieces.append(piece)
            size += len(piece)
            if size > self.limits.bytes:
                raise self._too_large(size)
        if response.length:
            raise _unavailable(
                target, f"{target.host} closed the connection {response.length} bytes before the end"
            )
        return b"".join(pieces)

    def _too_large(self, size: int) -> MediaError:
        return MediaError(f"at least {size:,} bytes are more than the limit of {self.limits.bytes:,}")


def _onward(response: http.client.HTTPResponse) -> str:
    """Return where a redirect leads; bytes that are not ASCII are those of UTF-8, or stay as they are."""
    raw = response.headers.get("Location", "").encode("latin-1")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return quote(raw, safe=_ASCII)


def host_of(location: Location) -> str:
    """Return the host of a location as failures name it; "" for a file, or where it has none that can be asked."""
    url = location.url
    if url is None or _is_data_url(url):
        return ""
    if is_object(url):
        return bucket(url)
    try:
        return parse(url).authority
    except MediaError:
        return ""


def _unavailable(target: Hop, reason: str) -> UnavailableError:
    proxy = unused_proxy(target)
    hint = f"; media are fetched without the proxy in {proxy}" if proxy else ""
    return UnavailableError(reason + hint, host=target.authority)


def _is_data_url(source: str) -> bool:
    return source.lstrip()[:5].lower() == "data:"


def _check_path(source: str) -> None:
    """Refuse paths with NUL, `..` or a network share, also percent-encoded (up to three times)."""
    decoded = source
    for _ in range(3):
        decoded = unquote(decoded)
    if "\0" in decoded:
        raise MediaError("the path contains a NUL character")
    if decoded.startswith(("\\\\", "//")):
        raise MediaError("network paths (UNC) are not allowed")
    if ".." in re.split(r"[/\\]", decoded):
        raise MediaError("the path contains '..', which is not allowed")


def _open_below(root: Path, parts: tuple[str, ...]) -> BufferedReader:
    """Open folder by folder without following links, so that no folder can be swapped between check and use."""
    if not parts:
        raise MediaError("the path is not a regular file")
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for index, part in enumerate(parts):
            last = index == len(parts) - 1
            # A pipe would block the open without O_NONBLOCK.
            flags = os.O_RDONLY | os.O_NOFOLLOW | (os.O_NONBLOCK if last else os.O_DIRECTORY)
            onward = os.open(part, flags, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = onward
        return os.fdopen(descriptor, "rb")
    except BaseException:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        raise
