"""Extract the plain text that a Text, HyperText, Paragraphs or Chat tag shows of a task."""

from __future__ import annotations

import base64
import json
import re
import unicodedata
from typing import TYPE_CHECKING, Any, Final

from usl_backend.errors import MediaError
from usl_backend.instances import MAX_CHARACTERS
from usl_backend.studio.chats import chat_text, is_chat
from usl_backend.studio.html import visible_text
from usl_backend.studio.values import written

if TYPE_CHECKING:
    from usl_backend.studio.label_config import ObjectTag

_MAX_RAW: Final = 100 * MAX_CHARACTERS
"""Most characters of HTML to parse; there is usually far more markup than text."""
# Control characters except white space, and the lone surrogates that JSON permits.
_NOISE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")


def text_of(tag: ObjectTag, value: object) -> str:
    """Return the text that a tag shows of a task.

    Parameters
    ----------
    tag
        A Text, HyperText, Paragraphs or Chat, or a tag of type "" for a field that no tag shows.
    value
        What its value leads to in the task's data.

    Returns
    -------
    str
        Normalised (Unicode NFC, white space collapsed within lines), at most 20,000 characters, never empty.

    Raises
    ------
    MediaError
        The value holds no text; the message says why.
    """
    if tag.type == "Paragraphs":
        raw = _dialogue(tag, value)
    elif tag.type in {"Chat", ""} and is_chat(value):
        raw = chat_text(value)
    elif isinstance(value, list) and all(isinstance(part, str | int | float) for part in value):
        raw = " ".join(map(written, value))  # Text shows a list of words as one text
    elif isinstance(value, str) or _is_number(value):
        raw = _decoded(tag, written(value))
    elif value is None:
        raw = ""
    else:
        what = "a list of messages with role and content" if tag.type == "Chat" else "a text"
        raise MediaError(f'"{tag.data_key}" is a {type(value).__name__}, not {what}')
    text = normalized(
        visible_text(raw[:_MAX_RAW], most=2 * MAX_CHARACTERS) if tag.type == "HyperText" else raw
    )
    if not text:
        raise MediaError(
            f'"{tag.data_key}" is empty' if not raw.strip() else f'"{tag.data_key}" shows no text'
        )
    return text


def _decoded(tag: ObjectTag, text: str) -> str:
    """Decode a text that the tag says is base64."""
    if not tag.encoding.startswith("base64"):
        return text
    try:
        return base64.b64decode(text, validate=True).decode(
            "utf-8" if tag.encoding == "base64unicode" else "latin-1"
        )
    except ValueError as error:
        raise MediaError(f'"{tag.data_key}" is not a text in {tag.encoding}: {error}') from None


def normalized(text: str) -> str:
    """Normalize Unicode and white space, so that texts that look equal share an entry of the cache.

    Only the first 2 million characters are read; at most 20,000 are returned.
    """
    text = _NOISE.sub("", unicodedata.normalize("NFC", text[:_MAX_RAW]))
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)[:MAX_CHARACTERS].strip()


def _dialogue(tag: ObjectTag, value: object) -> str:
    """Format Paragraphs as lines of `author: text`."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise MediaError(f'"{tag.data_key}" is a text, not a list of paragraphs') from None
    if not isinstance(value, list):
        raise MediaError(f'"{tag.data_key}" is a {type(value).__name__}, not a list of paragraphs')
    return "\n".join(line for line in (_paragraph(tag, one) for one in value) if line)


def _paragraph(tag: ObjectTag, paragraph: Any) -> str:
    """Format one line of a dialogue; "" without text."""
    if isinstance(paragraph, str):
        return paragraph
    if not isinstance(paragraph, dict):
        return ""
    author, text = (
        written(value) if isinstance(value, str) or _is_number(value) else ""
        for value in (paragraph.get(key) for key in (tag.name_key, tag.text_key))
    )
    if not text.strip():
        return ""
    return f"{author}: {text}" if author.strip() else text


def _is_number(value: object) -> bool:
    """Return True for a number of JSON."""
    return isinstance(value, int | float) and not isinstance(value, bool)
