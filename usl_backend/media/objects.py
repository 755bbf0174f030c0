"""Objects of stores such as S3, through fsspec: listed and read under the same caps as everything else.

Who may read what is the store's matter: credentials come from where its own tools find them (AWS_ACCESS_KEY_ID,
AWS_ENDPOINT_URL, GOOGLE_APPLICATION_CREDENTIALS, ...), never from a manifest or a project.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from usl_backend.errors import MediaError
from usl_backend.media.limits import MediaLimits, UnavailableError, short_reason

if TYPE_CHECKING:
    from collections.abc import Callable

SCHEMES: Final = frozenset({"s3", "gs", "gcs", "az", "abfs"})
"""Schemes that lead to an object store; no other of fsspec's is ever opened."""
_PACKAGES: Final = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_SCHEME: Final = re.compile(r"([A-Za-z0-9]+)://")


def is_object(address: str) -> bool:
    """Whether an address leads to an object store."""
    match = _SCHEME.match(address)
    return match is not None and match[1].lower() in SCHEMES


class ObjectStores:
    """Reads objects under `limits`; safe to use from many threads at once.

    Parameters
    ----------
    limits
        Caps on bytes and seconds of one object.
    """

    def __init__(self, limits: MediaLimits) -> None:
        self.limits = limits
        # a call that hangs is left behind; so many may hang at once
        self._threads = ThreadPoolExecutor(32, thread_name_prefix="object")

    def close(self) -> None:
        """Begin no further calls; those that hang are not waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def read(self, address: str) -> bytes:
        """Read one object.

        Parameters
        ----------
        address
            Such as `s3://bucket/photos/1.png`.

        Returns
        -------
        bytes
            At most `limits.bytes`.

        Raises
        ------
        UnavailableError
            The store did not answer in time.
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
        """List what lies below a prefix.

        Parameters
        ----------
        address
            Such as `s3://bucket/photos/`.

        Yields
        ------
        str
            Address of each object, in the store's order.

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
        """The call's result, unless it takes too long; foreign errors are translated."""
        future = self._threads.submit(call)
        try:
            return future.result(seconds or self.limits.seconds)
        except TimeoutError as error:
            future.cancel()
            raise UnavailableError(f"{address} was not delivered in time") from error
        except MediaError:
            raise
        except FileNotFoundError as error:
            raise MediaError("there is no such object") from error
        except Exception as error:  # every store has errors of its own
            raise MediaError(f"the store refuses: {short_reason(error)}") from error


def _store(address: str) -> tuple[Any, str]:
    """The file system of an address and the path there."""
    scheme = address.partition("://")[0].lower()
    if scheme not in SCHEMES:
        raise MediaError(f"addresses of {scheme}:// are not read")
    try:
        from fsspec.core import url_to_fs

        store, path = url_to_fs(address)
    except ImportError as error:
        package = _PACKAGES.get(scheme, "fsspec")
        raise MediaError(
            f'{scheme}:// needs {package}: pip install "usl-backend[objects]" {package}'
        ) from error
    return store, path
