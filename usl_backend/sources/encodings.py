"""Character encodings of text files: UTF-8, UTF-16 and UTF-32 are recognized, others guessed by charset-normalizer."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_GUESSED: Final = (
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp874", "cp932", "gb18030",
    "big5", "cp949", "mac_roman", "cp850",
)  # fmt: skip
"""Encodings in which spreadsheets save; among all that exist, short texts fit too many."""
_BETWEEN: Final = re.compile(rb"[,;\t]")
_HEAD: Final = 4_096
_CHUNK: Final = 1 << 20
_ENOUGH: Final = 1_000
"""Number of lines with other characters than ASCII after which the rest of a file is not looked at."""


@dataclass(frozen=True, slots=True)
class TextEncoding:
    """Encoding of a file.

    Attributes
    ----------
    name
        Name of the codec.
    guessed
        True if nothing in the file says it, so that it may be wrong.
    """

    name: str
    guessed: bool = False

    @property
    def errors(self) -> str:
        """How bytes that do not fit are decoded: kept in UTF-8, because file names may contain them."""
        return "surrogateescape" if self.name == "utf-8-sig" else "replace"


def encoding_of(path: Path) -> TextEncoding:
    """Determine the encoding of a text file.

    UTF-8 with some lines that are not is UTF-8: those lines are faults of their own.

    Raises
    ------
    OSError
        The file cannot be read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    for mark, name in _MARKS:
        if head.startswith(mark):
            return TextEncoding(name)
    # ASCII characters, such as delimiters, have a zero byte in UTF-16.
    even, odd = head[::2].count(0), head[1::2].count(0)
    if max(even, odd) > len(head) // 8:
        return TextEncoding("utf-16-le" if odd > even else "utf-16-be", guessed=True)
    right = 0
    wrong: list[bytes] = []
    for line in _other_lines(path):
        try:
            line.decode()
            right += 1
        except UnicodeDecodeError:
            wrong.append(line)
        if right + len(wrong) >= _ENOUGH:
            break
    guess = _guess(wrong) if len(wrong) > right else None
    return TextEncoding("utf-8-sig") if guess is None else TextEncoding(guess, guessed=True)


def _other_lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file that have other characters than ASCII."""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            chunk += file.readline(_CHUNK)
            if not chunk.isascii():
                yield from (line for line in chunk.splitlines() if not line.isascii())


def _guess(lines: list[bytes]) -> str | None:
    """Return the most likely encoding of some lines, or None; cp1252 where another is as likely."""
    from charset_normalizer import from_bytes

    # A value that is often repeated, and file names beside it, would outweigh the language.
    values = {value: None for line in lines for value in _BETWEEN.split(line) if not value.isascii()}
    found = from_bytes(b"\n".join(values), cp_isolation=list(_GUESSED))
    best = found.best()
    if best is None:
        return None
    equal = [one for one in found if (one.chaos, one.coherence) == (best.chaos, best.coherence)]
    names = {name for one in equal for name in (one.encoding, *one.could_be_from_charset)}
    return "cp1252" if "cp1252" in names else best.encoding
