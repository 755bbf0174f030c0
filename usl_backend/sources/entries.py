"""`Entry`, one row of a manifest, and the `Listing` protocol of all manifests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from usl_backend.instances import EmbeddedField, Instance, TextFile

if TYPE_CHECKING:
    from pathlib import Path

    from usl_backend.instances import Modality


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of a manifest, or one image of a folder.

    Attributes
    ----------
    row
        Row number, from 0; the instance's id in the run.
    key
        Id given by the manifest, path relative to the folder, or else the row number.
    modality
        Kind of media that `source` refers to.
    source
        Absolute path or address of an image, or the text itself; "" if the row has none.
    label
        Class given by the manifest, if any.
    fault
        Why the entry cannot be used; None if it can be tried.
    """

    row: int
    key: str
    modality: Modality
    source: str
    label: str | None = None
    fault: str | None = None


class Listing(Protocol):
    """Entries in row order, read again at each iteration."""

    @property
    def address(self) -> str:
        """Absolute path or address of the list."""
        ...

    @property
    def modality(self) -> Modality:
        """Modality of all entries."""
        ...

    @property
    def text_file(self) -> TextFile | None:
        """How the entries' texts are read from their files; None if the entries are what is embedded."""
        ...

    @property
    def data_key(self) -> str:
        """Column of images or texts; "path" for a folder."""
        ...

    @property
    def roots(self) -> tuple[Path, ...]:
        """Folders under which files may be read."""
        ...

    @property
    def passed_over(self) -> Mapping[str, int]:
        """Kind of file -> number of ignored files; complete after a full iteration."""
        ...

    @property
    def guessed_encoding(self) -> str:
        """Encoding of the list's characters if it had to be guessed, else ""."""
        ...

    def __iter__(self) -> Iterator[Entry]:
        """Yield the entries; rows are 0, 1, 2, ..."""
        ...


def instance_of(entry: Entry, listing: Listing) -> Instance:
    """Return the instance to embed for an entry of a listing."""
    if listing.text_file is None:
        return Instance(entry.row, entry.modality, entry.source)
    return Instance(entry.row, "text", entry.source, files=(listing.text_file,))


def field_of(listing: Listing) -> EmbeddedField:
    """Return the field that is embedded of a listing."""
    in_files = listing.text_file is not None
    return EmbeddedField(listing.data_key, "text" if in_files else listing.modality, 1.0, in_files)
