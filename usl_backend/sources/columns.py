"""Detection of a table's data, id and label columns, by name or else by value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from usl_backend.errors import InputError, nearest_name
from usl_backend.instances import Modality
from usl_backend.sources.folder import is_pdf_name, is_picture
from usl_backend.sources.tables import Inside

IMAGES: Final = (
    "image", "image_path", "path", "file", "filename", "file_name", "filepath", "file_path", "img", "image_url", "url",
    "uri",
)  # fmt: skip
TEXTS: Final = ("text", "sentence", "content", "body", "document", "review", "tweet", "message")
IDS: Final = ("id", "image_id", "text_id", "uid", "uuid")
LABELS: Final = ("label", "class", "category")
NONE: Final = "none"
"""Value of a column option that disables the column."""
_FLOAT: Final = re.compile(r"-?\d{1,15}\.0")
_WHOLE: Final = 2.0**53
"""Floats below this are exact whole numbers."""
_ADDRESS: Final = re.compile(r"(?:https?|s3|gs|gcs|az|abfs|file|data):", re.IGNORECASE)


@dataclass(frozen=True)
class Columns:
    """The columns to read.

    Attributes
    ----------
    data
        Column of images or texts.
    modality
        Which of the two it holds.
    id, label
        Columns of ids and labels; None if there is none.
    in_files
        True if the data are addresses of PDFs, whose texts are asked for.
    """

    data: str
    modality: Modality
    id: str | None
    label: str | None
    in_files: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Column names: data first, then id and label if present."""
        return tuple(name for name in (self.data, self.id, self.label) if name is not None)


def choose(
    names: Sequence[str],
    first: Sequence[Sequence[Any]],
    *,
    where: str,
    data_key: str | None = None,
    id_key: str | None = None,
    label_key: str | None = None,
) -> Columns:
    """Choose the columns to read.

    Parameters
    ----------
    names
        Names of all columns.
    first
        Values of the first rows, one sequence per row.
    where
        Name of the table in error messages.
    data_key, id_key, label_key
        The user's choice; "none" disables the id or label column, and `image:NAME` or `text:NAME` says what the data
        column holds.

    Raises
    ------
    InputError
        A chosen column does not exist, or not exactly one column can hold the data.
    """
    asked, _, name = (data_key or "").partition(":")
    if data_key not in names and asked in ("image", "text") and name in names:
        data_key = name
    else:
        asked = ""
    for key, flag in ((data_key, "--data-key"), (id_key, "--id-key"), (label_key, "--label-key")):
        if key is not None and key not in names and not (key == NONE and flag != "--data-key"):
            raise InputError(f'{where} has no column "{key}" ({flag}); {nearest_name(key, names)}')
    data = data_key if data_key is not None else _data_column(names, first, where)
    values = [row[names.index(data)] for row in first]
    in_files = asked == "text" and _are_pdfs(values)
    modality: Modality = _modality(data, values, known=data_key is None)
    if asked:
        modality = "image" if asked == "image" or in_files else "text"
    return Columns(
        data=data,
        modality=modality,
        id=_optional(names, IDS, id_key, besides=data),
        label=_optional(names, LABELS, label_key, besides=data),
        in_files=in_files,
    )


def is_address(value: str) -> bool:
    """Return True for an address with a scheme, False for a path."""
    return _ADDRESS.match(value) is not None


def as_text(value: object) -> str:
    """Return an id or class as text: "" if it is missing, 3.0 as "3", because a gap makes floats of whole numbers."""
    if value is None or value != value:  # NaN differs from itself
        return ""
    if isinstance(value, bytes):
        return value.decode(errors="replace").strip()
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE:
        return str(int(value))
    return str(value).strip()


def written_as_floats(values: Sequence[Any]) -> bool:
    """Return True if all texts of a column are whole numbers written as floats, such as "3.0", or empty."""
    return all(not value.strip() or _FLOAT.fullmatch(value.strip()) for value in values)


def without_fraction(value: str) -> str:
    """Return "3" for "3.0", and other texts as they are."""
    return value.strip().removesuffix(".0") if _FLOAT.fullmatch(value.strip()) else value


def _data_column(names: Sequence[str], first: Sequence[Sequence[Any]], where: str) -> str:
    """Return the only column that can hold the data."""
    lower = {name.lower(): name for name in names}
    named = [lower[name] for name in (*IMAGES, *TEXTS) if name in lower]
    if not named:
        named = [
            name
            for place, name in enumerate(names)
            if (values := [row[place] for row in first if row[place] not in (None, "")])
            and all(map(_looks_like_picture, values))
        ]
    listed = ", ".join(names) or "none"
    if len(named) > 1:
        raise InputError(
            f"{where} has several possible data columns ({', '.join(named)}); choose one: --data-key {named[0]}"
        )
    if not named:
        raise InputError(
            f"no column of {where} looks like images or texts, by name or by value (columns: {listed}); "
            "choose one: --data-key COLUMN"
        )
    return named[0]


def _modality(name: str, values: Sequence[Any], *, known: bool) -> Modality:
    """Determine what a column holds, by its name or else by its values."""
    if known and name.lower() in TEXTS:
        return "text"
    if known and name.lower() in IMAGES:
        return "image"
    texts = [
        value for value in values if isinstance(value, Inside) or (isinstance(value, str) and value.strip())
    ]
    return "image" if texts and all(map(_looks_like_picture, texts)) else "text"


def _are_pdfs(values: Sequence[Any]) -> bool:
    """Return True if all values that there are look like paths or addresses of PDFs."""
    texts = [value.strip() for value in values if isinstance(value, str) and value.strip()]
    return bool(texts) and all(
        _looks_like_picture(text) and is_pdf_name(text.partition("?")[0]) for text in texts
    )


def _looks_like_picture(value: object) -> bool:
    """Return True for a picture in the table, and for what looks like the path or address of one."""
    if not isinstance(value, str):
        return isinstance(value, Inside)
    text = value.strip()
    if len(text) > 4_096 and text[:5].lower() != "data:":
        return False
    return is_address(text) or is_picture(text.partition("?")[0])


def _optional(names: Sequence[str], usual: Sequence[str], key: str | None, *, besides: str) -> str | None:
    """Return an optional column, or None."""
    if key is not None:
        return None if key == NONE and NONE not in names else key
    lower = {name.lower(): name for name in names if name != besides}
    return next((lower[name] for name in usual if name in lower), None)
