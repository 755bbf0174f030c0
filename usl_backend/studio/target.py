"""A project as users name it: by its number or its address."""

from __future__ import annotations

import re

from usl_backend.errors import InputError


def parse_target(target: str) -> tuple[str | None, int]:
    """Parse a project given by a user.

    Parameters
    ----------
    target
        Id, such as `12`, or URL, such as `http://localhost:8080/projects/12/data?tab=3`.

    Returns
    -------
    (str or None, int)
        URL of Label Studio (None if only an id was given) and project id.

    Raises
    ------
    InputError
        `target` is neither.
    """
    text = target.strip()
    if re.fullmatch(r"[0-9]{1,12}", text):
        return None, int(text)
    if match := re.match(r"(https?://[^?#\s]+?)/projects/([0-9]{1,12})(?:[/?#]|$)", text):
        return match[1], int(match[2])
    raise InputError(
        f"{target!r} is not a project; give its number, such as 12, or its address,"
        " such as http://localhost:8080/projects/12"
    )


def is_project(target: str) -> bool:
    """Return True if `parse_target` accepts `target`."""
    try:
        parse_target(target)
    except InputError:
        return False
    return True
