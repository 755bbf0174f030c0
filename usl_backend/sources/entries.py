"""One thing that a manifest names, and what every manifest offers. Nothing is read here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from usl_backend.instances import Modality


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a manifest, or one picture of a folder.

    Attributes
    ----------
    row
        Its place, 0 first; the instance's id in the run.
    key
        The manifest's own id of it, the path below a folder, or the row where there is neither.
    modality
        What `source` leads to.
    source
        Absolute path or address of a picture, or the text itself; "" where the row names none.
    label
        Its class where the manifest has one.
    fault
        Why it cannot be used; None where nothing speaks against trying.
    """

    row: int
    key: str
    modality: Modality
    source: str
    label: str | None = None
    fault: str | None = None


class Listing(Protocol):
    """Entries in row order, read from the disk each time they are asked for."""

    @property
    def address(self) -> str:
        """Absolute path or address of what is listed."""
        ...

    @property
    def modality(self) -> Modality:
        """Of all entries."""
        ...

    @property
    def data_key(self) -> str:
        """Column that holds pictures or texts; "path" for a folder."""
        ...

    @property
    def roots(self) -> tuple[Path, ...]:
        """Folders below which files may be read."""
        ...

    @property
    def passed_over(self) -> Mapping[str, int]:
        """Kind of file -> how many were passed over; complete once the entries were read through."""
        ...

    def __iter__(self) -> Iterator[Entry]:
        """The entries; rows are 0, 1, 2, ..."""
        ...
