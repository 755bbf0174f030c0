"""Draw the beginning of a text as an SVG, for texts that lie in files and are shown like images."""

from __future__ import annotations

import html
import re
import unicodedata
from typing import Final

_COLUMNS: Final = 26
_LINES: Final = 8
_HEIGHT: Final = 14
_NO_XML: Final = re.compile("[\x00-\x1f\ufffe\uffff]")


def draw_text(text: str) -> str:
    """Return an SVG of 160 x 120 with the first eight lines of a text, black on white."""
    lines = "".join(
        f'<text x="6" y="{_HEIGHT * number + 16}">{html.escape(line.strip())}</text>'
        for number, line in enumerate(wrapped(" ".join(_NO_XML.sub(" ", text).split())))
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 160 120" font-family="sans-serif" font-size="11">'
        f'<rect width="160" height="120" fill="#fff"/><g fill="#222">{lines}</g></svg>'
    )


def wrapped(text: str) -> list[str]:
    """Break a text between words into the lines of a picture; wide characters take two columns."""
    lines = [""]
    for char in text[: _COLUMNS * _LINES]:
        if sum(map(_width, lines[-1] + char)) > _COLUMNS:
            head, blank, tail = lines[-1].rpartition(" ")
            lines[-1:] = [head, tail] if blank else [lines[-1], ""]
        lines[-1] += char
    return lines[:_LINES]


def _width(char: str) -> int:
    """Columns that a character takes."""
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
