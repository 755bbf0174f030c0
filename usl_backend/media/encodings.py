"""Undo what hosts do to an answer (Content-Encoding) and what addresses do to a picture (`data:`), as browsers do."""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Final
from urllib.parse import unquote_to_bytes

from usl_backend.errors import MediaError

_GZIP: Final = 16 + zlib.MAX_WBITS
_INFLATED: Final = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": zlib.MAX_WBITS}
_UNREADABLE: Final = frozenset({"br", "compress", "x-compress", "dcb", "dcz", "zstd"})
"""Encodings that are not undone; no answer in them was asked for."""
_STEP: Final = 1 << 18
_BLANKS: Final = re.compile(rb"[ \t\n\f\r]+")
_BASE64: Final = re.compile(r"; *base64 *$", re.IGNORECASE)


def decoded(pieces: Iterable[bytes], encoding: str, *, host: str) -> Iterator[bytes]:
    """Yield the pieces of an answer as they were before the host encoded them, each of 256 KiB at most.

    Names that are no encodings (none at all, `aws-chunked`, a character set) change nothing, as in Chromium.

    Parameters
    ----------
    encoding
        The header Content-Encoding.
    host
        Named in errors.

    Raises
    ------
    MediaError
        The encoding is not supported, or the content is not in it.
    """
    for name in reversed([part.strip().lower() for part in encoding.split(",")]):
        if name in _UNREADABLE:
            raise MediaError(f"{host} sent an answer compressed by {name}, which was not requested")
        if name in _INFLATED:
            pieces = _inflated(pieces, name, host=host)
    yield from pieces


def _inflated(pieces: Iterable[bytes], name: str, *, host: str) -> Iterator[bytes]:
    """Inflate one layer; what follows the compressed data is left out, and it may lack its end."""
    inflater = zlib.decompressobj(_INFLATED[name])
    fresh = True
    for piece in pieces:
        data = piece
        while data and not inflater.eof:
            try:
                out = inflater.decompress(data, _STEP)
            except zlib.error as error:
                if fresh and name == "deflate":
                    # Some servers leave out zlib's envelope; Chromium reads both.
                    inflater, fresh = zlib.decompressobj(-zlib.MAX_WBITS), False
                    continue
                raise MediaError(f"{host} sent an answer that is not {name}, though it says so") from error
            fresh, data = False, inflater.unconsumed_tail
            if out:
                yield out


def data_url_content(url: str, *, limit: int) -> bytes:
    """Return the content of a data URL, read as forgivingly as browsers do (WHATWG's URL, Fetch and Infra standards).

    Parameters
    ----------
    url
        Begins with `data:`, in any case.
    limit
        Most bytes.

    Raises
    ------
    MediaError
        It has no comma, is too large, or its base64 has other characters or an impossible length.
    """
    header, comma, payload = url[5:].partition(",")
    if not comma:
        raise MediaError("the data URL has no comma between its type and its content")
    payload = payload.partition("#")[0]
    if len(payload) > 4 * limit:
        raise _too_large(len(payload) // 4, limit)
    raw = unquote_to_bytes(payload)
    data = _from_base64(raw) if _BASE64.search(header.strip()) else raw
    if len(data) > limit:
        raise _too_large(len(data), limit)
    return data


def _from_base64(raw: bytes) -> bytes:
    """Decode base64 with blanks and line breaks in it, and with or without padding."""
    text = _BLANKS.sub(b"", raw)
    if len(text) % 4 == 0:
        text = re.sub(rb"={1,2}$", b"", text)
    try:
        if b"=" in text:
            raise binascii.Error("padding in the middle, or too much of it")
        return base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise MediaError(f"the data URL is not valid base64: {error}") from error


def _too_large(size: int, limit: int) -> MediaError:
    return MediaError(f"at least {size:,} bytes are more than the limit of {limit:,}")
