"""Read and decode pictures, videos and PDFs from paths, URLs and object stores, safely.

All untrusted locations and bytes are read here. Guards against: schemes other than http(s) and data; private,
loopback, link-local and reserved addresses (server-side request forgery), also behind redirects, DNS rebinding,
numeric and IPv6-wrapped spellings; credentials that follow a redirect to another origin; files outside their root;
answers without end in bytes or time; decompression bombs.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usl_backend.media.addresses import unused_proxies
    from usl_backend.media.hosts import PATIENCE, waiting_for
    from usl_backend.media.inside import inside_address, is_inside
    from usl_backend.media.limits import Location, MediaLimits, UnauthorizedError, UnavailableError
    from usl_backend.media.pictures import decode_image, decode_measured, make_thumbnail, squared, to_png
    from usl_backend.media.reader import MediaReader, host_of
    from usl_backend.media.several import open_several

__all__ = [
    "PATIENCE",
    "Location",
    "MediaLimits",
    "MediaReader",
    "UnauthorizedError",
    "UnavailableError",
    "decode_image",
    "decode_measured",
    "host_of",
    "inside_address",
    "is_inside",
    "make_thumbnail",
    "open_several",
    "squared",
    "to_png",
    "unused_proxies",
    "waiting_for",
]

_HOMES = {
    "PATIENCE": "hosts",
    "Location": "limits",
    "MediaLimits": "limits",
    "MediaReader": "reader",
    "UnauthorizedError": "limits",
    "UnavailableError": "limits",
    "decode_image": "pictures",
    "decode_measured": "pictures",
    "host_of": "reader",
    "inside_address": "inside",
    "is_inside": "inside",
    "make_thumbnail": "pictures",
    "open_several": "several",
    "squared": "pictures",
    "to_png": "pictures",
    "unused_proxies": "addresses",
    "waiting_for": "hosts",
}


def __getattr__(name: str) -> Any:
    """Import the module of a public name on first use: the settings need the limits and none of the libraries."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
