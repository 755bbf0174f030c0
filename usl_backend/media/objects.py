"""List and read objects of stores such as S3 through fsspec, under the same limits as files and URLs.

The store decides on access: credentials come from where its own tools find them (AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, ...), never from a manifest or a project.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from usl_backend.errors import MediaError
from usl_backend.media.hosts import BUSY
from usl_backend.media.limits import MediaLimits, UnavailableError, short_reason

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMES: Final = frozenset({"s3", "gs", "gcs", "az", "abfs"})
"""Schemes of object stores; fsspec's other schemes are never opened."""
_PACKAGES: Final = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_SCHEME: Final = re.compile(r"([A-Za-z0-9]+)://")
_REFUSED: Final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
"""OSErrors of a store that answers; the others are those of a store that is busy or away."""


def is_object(address: str) -> bool:
    """Return True for an address with a scheme of an object store."""
    match = _SCHEME.match(address)
    return match is not None and match[1].lower() in SCHEMES


def bucket(address: str) -> str:
    """Return the store and bucket of an object's address, such as `s3://photos`."""
    return "/".join(address.split("/")[:3])


class ObjectStores:
    """Reader of objects under `limits`; safe to use from several threads."""

    def __init__(self, limits: MediaLimits) -> None:
        self.limits = limits
        # Calls that hang are abandoned; at most this many can hang at once.
        self._free = threading.BoundedSemaphore(32)

    def read(self, address: str) -> bytes:
        """Read an object of at most `limits.bytes`, such as `s3://bucket/photos/1.png`.

        Raises
        ------
        UnavailableError
            The store did not answer in time, or was busy.
        MediaError
            There is no such object, it is too large, or the store refuses.
        """

        def fetch() -> bytes:
            store, path = _store(address)
            size = store.info(path).get("size")
            if size is not None and size > self.limits.bytes:
                raise MediaError(f"{size:,} bytes are more than the limit of {self.limits.bytes:,}")
            with store.open(path, "rb") as stream:
                data = bytes(stream.read(self.limits.bytes + 1))
            if len(data) > self.limits.bytes:
                raise MediaError(f"the object has more bytes than the limit of {self.limits.bytes:,}")
            return data

        data: bytes = self._in_time(fetch, address)
        return data

    def below(self, address: str) -> Iterator[str]:
        """Yield the addresses of the objects below a prefix such as `s3://bucket/photos/`, in the store's order.

        Raises
        ------
        MediaError
            There is no such bucket, or the store refuses.
        """
        scheme = address.partition("://")[0]

        def find() -> list[str]:
            store, path = _store(address)
            store.invalidate_cache()
            found: list[str] = store.find(path)
            return found

        for name in self._in_time(find, address, seconds=3_600.0):
            yield f"{scheme}://{name.lstrip('/')}"

    def _in_time(self, call: Callable[[], Any], address: str, *, seconds: float | None = None) -> Any:
        """Return the call's result within the time limit; translate the store's errors."""
        seconds = seconds or self.limits.seconds
        begun = time.monotonic()
        future: Future[Any] = Future()
        try:
            if not self._free.acquire(timeout=seconds):
                raise TimeoutError
            self._start(call, future, address)
            return future.result(max(0.0, begun + seconds - time.monotonic()))
        except TimeoutError as error:
            raise UnavailableError(f"{address} was not delivered in time", host=bucket(address)) from error
        except MediaError:
            raise
        except FileNotFoundError as error:
            raise MediaError("there is no such object") from error
        except Exception as error:  # every store raises its own exceptions
            if _may_pass(error):
                reason = f"{bucket(address)} is busy or away: {short_reason(error)}"
                raise UnavailableError(reason, host=bucket(address), busy=_status(error) == 429) from error
            raise MediaError(f"the store refuses: {short_reason(error)}") from error

    def _start(self, call: Callable[[], Any], future: Future[Any], address: str) -> None:
        """Start the thread of a call: those of a pool are waited for when the process ends, even hanging ones."""
        try:
            threading.Thread(target=self._work, args=(call, future), name="object", daemon=True).start()
        except RuntimeError as error:
            self._free.release()
            reason = f"{address} was not read: this host starts no more threads for now"
            raise UnavailableError(reason, host=bucket(address)) from error

    def _work(self, call: Callable[[], Any], future: Future[Any]) -> None:
        """Hand over the result of a call, or its error."""
        try:
            future.set_result(call())
        except BaseException as error:  # noqa: BLE001 - handed over
            future.set_exception(error)
        finally:
            self._free.release()


def _store(address: str) -> tuple[Any, str]:
    """Return the file system of an address and the path in it."""
    scheme = address.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise MediaError(f"the scheme {scheme}:// is not supported; use one of {', '.join(sorted(SCHEMES))}")
    try:
        from fsspec.core import url_to_fs

        store, path = url_to_fs(address)
    except ImportError as error:
        package = _PACKAGES.get(scheme, "fsspec")
        raise MediaError(
            f'{scheme}:// needs {package}: pip install "usl-backend[objects]" {package}'
        ) from error
    return store, path


def _may_pass(error: BaseException) -> bool:
    """Return True for failures after which the same request may succeed."""
    status = _status(error)
    if status is not None:
        return status in BUSY
    # Connections that fail are OSErrors in every store's library, or name one as their cause.
    chain = _causes(error)
    return any(isinstance(one, OSError | EOFError) and not isinstance(one, _REFUSED) for one in chain)


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that a store's library tells in one of its own ways."""
    for one in _causes(error):
        response = getattr(one, "response", None)
        told = (
            response.get("ResponseMetadata", {}).get("HTTPStatusCode") if isinstance(response, dict) else None
        )
        for value in (told, *(getattr(one, name, None) for name in ("status_code", "status", "code"))):
            with suppress(ValueError):
                if isinstance(value, int | str) and 100 <= (status := int(value)) < 600:
                    return status
    return None


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error and what it was raised from, at most ten."""
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and len(chain) < 10:
        chain.append(current)
        current = current.__cause__ or current.__context__
    return chain
