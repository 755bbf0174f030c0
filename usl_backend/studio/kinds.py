"""Tell what a field of the data holds from its values: pictures, texts, or something that cannot be embedded."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final, Literal
from urllib.parse import unquote

Kind = Literal["image", "text", "audio", "video", "pdf", "table"]

_LONGEST_ADDRESS: Final = 4_096
_SUFFIXES: Final[dict[Kind, str]] = {
    "image": "jpg jpeg jpe jfif png apng gif webp bmp tif tiff avif ppm pgm pbm",
    "audio": "mp3 wav ogg oga opus flac m4a aac wma aiff amr",
    "video": "mp4 m4v mov avi mkv webm mpg mpeg wmv ogv",
    "pdf": "pdf",
    "table": "csv tsv",
}
_BY_SUFFIX: Final[dict[str, Kind]] = {
    suffix: kind for kind, suffixes in _SUFFIXES.items() for suffix in suffixes.split()
}
_BY_TYPE: Final[dict[str, Kind]] = {
    "image/": "image", "audio/": "audio", "video/": "video", "application/pdf": "pdf", "text/csv": "table"
}  # fmt: skip
_SCHEME: Final = re.compile(r"(?:https?|s3s?|gs|azure-blob|azure_spi|redis):", re.IGNORECASE)


def kind_of(values: Iterable[Any]) -> Kind | None:
    """Tell what a field holds.

    Parameters
    ----------
    values
        Its values in some tasks. A list counts as its items.

    Returns
    -------
    Kind or None
        What all of them are; "text" where they differ or look like nothing else, None without any value.
    """
    found = {_kind(one) for one in _leaves(values)}
    if not found:
        return None
    return found.pop() if len(found) == 1 else "text"


def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    """Yield the values that say something, lists item by item."""
    for value in values:
        if isinstance(value, list):
            yield from _leaves(value)
        elif value is not None and value != "" and not (isinstance(value, str) and value.isspace()):
            yield value


def _kind(value: Any) -> Kind:
    """Tell what one value looks like."""
    if not isinstance(value, str):
        return "text"
    text = value.strip()
    if text[:5].lower() == "data:":
        return next(
            (kind for named, kind in _BY_TYPE.items() if text[5:40].lower().startswith(named)), "text"
        )
    if len(text) > _LONGEST_ADDRESS or "\n" in text:
        return "text"
    address = _SCHEME.match(text) is not None
    if re.search(r"\s", text) and not (address or text.startswith("/")):
        return "text"
    # Label Studio's own addresses name the file in the query: /data/local-files/?d=a/b.png
    names = [text.partition("?")[0], text] if address or text.startswith("/") else [text]
    for name in names:
        suffix = unquote(name).rpartition(".")[2].partition("&")[0].lower()
        if suffix in _BY_SUFFIX:
            return _BY_SUFFIX[suffix]
    # Services of pictures often name no format.
    return "image" if address else "text"
