"""Extract the text of a file at an address that a task holds: the pages of a PDF, or what a text tag shows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from usl_backend.errors import MediaError
from usl_backend.media.pdf import PAGES, Pdf, is_pdf
from usl_backend.studio.label_config import ObjectTag
from usl_backend.studio.texts import normalized, text_of
from usl_backend.studio.values import Value

if TYPE_CHECKING:
    from usl_backend.instances import TextFile
    from usl_backend.media import MediaLimits

_GUESSED_BY: Final = 1 << 18
"""Leading bytes that tell an encoding."""


def text_in(data: bytes, *, file: TextFile, limits: MediaLimits) -> str:
    """Return the text of a file.

    Parameters
    ----------
    data
        The file's bytes.
    file
        How it is shown. A PDF is read as one whatever shows it.
    limits
        `seconds` for the pages of a PDF.

    Returns
    -------
    str
        As `texts.text_of` returns it: normalized, at most 20,000 characters, never empty.

    Raises
    ------
    MediaError
        The file is damaged, is no PDF though one is expected, or holds no text.
    """
    if is_pdf(data):
        return _text_of_pdf(data, file.key, limits)
    if file.shown_by == "Pdf":
        raise MediaError(f'"{file.key}" leads to a file that is no PDF, whose text is not read')
    tag = ObjectTag(
        "",
        file.shown_by,
        Value.field(file.key),
        encoding=file.encoding,
        name_key=file.name_key,
        text_key=file.text_key,
    )
    return text_of(tag, decoded(data))


def decoded(data: bytes) -> str:
    """Decode a text: UTF-8, which browsers take it for, or else the likeliest encoding."""
    from charset_normalizer import from_bytes

    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        best = from_bytes(data[:_GUESSED_BY]).best()
        return data.decode("utf-8" if best is None else best.encoding, errors="replace")


def _text_of_pdf(data: bytes, key: str, limits: MediaLimits) -> str:
    """Return the text of a PDF's first pages; refuse one without text."""
    text = normalized(Pdf(data, limits=limits).text())
    if not text:
        raise MediaError(
            f"the first {PAGES} pages of the PDF hold no text, as scans do; embed the pages as images instead, by "
            f"data_key image:{key}"
        )
    return text
