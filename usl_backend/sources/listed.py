"""Source for a pool outside Label Studio: a folder, a manifest or a file of vectors."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from usl_backend.errors import InputError
from usl_backend.instances import EmbeddedField, Instance, Modality
from usl_backend.runs import ManifestRow, RunFiles
from usl_backend.runs.columns import proper
from usl_backend.runs.inventory import VECTORS, Inventory, Listed
from usl_backend.sources.entries import field_of, instance_of
from usl_backend.sources.folder import describe
from usl_backend.sources.media import Media, MediaAccess, fetched_list
from usl_backend.sources.target import Target, read_manifest
from usl_backend.sources.vectors import VectorFile

if TYPE_CHECKING:
    from usl_backend.progress import Progress
    from usl_backend.settings import HostSettings, RunSettings
    from usl_backend.sources.entries import Listing

_EVERY: Final = 1_024
"""Rows between two progress reports."""


class ListSource:
    """The rows of a list; implements `Source`.

    Parameters
    ----------
    target
        The list.
    settings
        Settings of the run, of which `budget` and `keep_labels` are used.
    host
        Limits and hosts of media.
    files
        The run's artifacts; they receive a copy of a remote list, and the ids of the rows.
    classes
        Returns the choices of the project that receives the picks; called once.
    """

    def __init__(
        self,
        target: Target,
        *,
        settings: RunSettings,
        host: HostSettings,
        files: RunFiles,
        classes: Callable[[], tuple[str, ...]] = tuple,
    ) -> None:
        self.target, self.settings, self.host, self.files, self.classes = (
            target,
            settings,
            host,
            files,
            classes,
        )

    def fetch(self, files: RunFiles, progress: Progress) -> None:
        """Read the list, or scan the folder.

        Raises
        ------
        InputError
            The list cannot be read, or has too few rows that can be selected.
        """
        progress("reading the list", 0, 0)
        opened = self._opened(progress)
        if isinstance(opened, VectorFile):
            labeled = [row for row, label in enumerate(opened.labels or ()) if label is not None]
            files.write_instances([], self._inventory("", VECTORS, opened.rows, labeled))
            return
        with files.writing_rows() as put:
            reader = _EntryReader(opened)
            files.write_instances(reader.instances(put, progress), lambda: self._checked(reader))

    def labels(self, files: RunFiles) -> dict[int, str]:
        """Return the classes that the list gives."""
        return {row.row: row.label for row in files.read_rows() if row.label is not None}

    def access(self, inventory: Inventory) -> MediaAccess:
        """Return access to addresses and to files under the allowed folders."""
        assert inventory.outside is not None
        return MediaAccess.of_list(self.host, inventory.outside.roots)

    def open_media(self, inventory: Inventory) -> Media:
        """Open the media in this process."""
        return self.access(inventory).open()

    def store_vectors(self, files: RunFiles, progress: Progress) -> None:
        """Read and store the vectors.

        Raises
        ------
        InputError
            The file cannot be read.
        """
        progress("reading vectors", 0, 0)
        opened = self._opened(progress)
        assert isinstance(opened, VectorFile)
        read = opened.read(files.embeddings, progress=progress)
        _keep_rows(files, read.keys, read.labels)
        files.write_vectors(read.pool, read.digest)

    def warnings(self, inventory: Inventory, skipped: Mapping[int, str]) -> list[str]:
        """Warn about rows that could not be used and about ignored labels."""
        found = []
        if skipped:
            first = min(skipped)
            key = next((row.key for row in self.files.read_rows() if row.row == first), first)
            found.append(
                f"{len(skipped):,} of {inventory.tasks:,} could not be used and were left out; the "
                f"first is {key}: {skipped[first]}"
            )
        if inventory.outside is not None and inventory.outside.guessed_encoding:
            found.append(guess_of(inventory.title, inventory.outside.guessed_encoding))
        with_label = 0 if inventory.outside is None else inventory.outside.with_label
        if with_label and not self.settings.keep_labels:
            found.append(
                f"{with_label:,} rows have a label and could be chosen all the same; with --keep-labels "
                "they hold their clusters instead"
            )
        return found

    def _opened(self, progress: Progress) -> Listing | VectorFile:
        """Open the list, local or remote."""
        local = fetched_list(self.host, self.target, self.files.directory, progress=progress)
        return read_manifest(self.target, local=local, progress=progress)

    def _checked(self, reader: _EntryReader) -> Inventory:
        """Build the inventory of the list that was read; refuse a too small pool before anything is stored."""
        listing = reader.listing
        found = self._inventory(listing.data_key, listing.modality, reader.rows, reader.labeled, reader)
        free = reader.rows - len(reader.skipped) - len(found.labeled)
        if free < 1:
            raise InputError(_nothing_left(found, self.target.address))
        self.settings.rows_to_choose(classes=len(found.classes), pool=free)
        self.settings.check_control(free)
        return found

    def _inventory(
        self,
        data_key: str,
        modality: Modality | str,
        rows: int,
        labeled: Sequence[int],
        reader: _EntryReader | None = None,
    ) -> Inventory:
        """Build the pool's inventory; its classes are those of the project that receives the picks."""
        held = tuple(labeled) if self.settings.keep_labels else ()
        shown: Modality = "text" if modality == "text" else "image"
        return Inventory(
            title=proper(self.target.address),
            classes=self.classes(),
            data_key=data_key,
            fields=(EmbeddedField(data_key, shown, 1.0) if reader is None else field_of(reader.listing),),
            tasks=rows,
            annotated=len(held),
            labeled=held,
            skipped={} if reader is None else reader.skipped,
            outside=Listed(
                modality=VECTORS if reader is None else shown,
                roots=() if reader is None else tuple(str(root) for root in reader.listing.roots),
                passed_over="" if reader is None else describe(reader.listing.passed_over),
                with_label=len(labeled),
                guessed_encoding="" if reader is None else reader.listing.guessed_encoding,
            ),
        )


class _EntryReader:
    """Reads a listing once: yields instances and counts everything else."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.rows = 0
        self.skipped: dict[int, str] = {}
        self.labeled: list[int] = []

    def instances(self, put: Callable[[ManifestRow], None], progress: Progress) -> Iterator[Instance]:
        """Yield the usable entries as instances."""
        for entry in self.listing:
            self.rows += 1
            put(ManifestRow(entry.row, entry.key, entry.label))
            if entry.fault is not None:
                self.skipped[entry.row] = entry.fault
                continue
            if entry.label is not None:
                self.labeled.append(entry.row)
            if self.rows % _EVERY == 1:
                progress("reading the list", self.rows, 0)
            yield instance_of(entry, self.listing)


def guess_of(address: str, encoding: str) -> str:
    """Say that a table's encoding was guessed."""
    return f"{address} is not UTF-8 and was read as {encoding}, a guess; if characters look wrong, save it as UTF-8"


def _keep_rows(files: RunFiles, keys: Sequence[str] | None, labels: Sequence[str | None] | None) -> None:
    """Store the ids and classes of a vector file."""
    if keys is None and labels is None:
        return
    with files.writing_rows() as put:
        for row in range(len(keys or labels or ())):
            put(
                ManifestRow(
                    row,
                    keys[row] if keys is not None else str(row),
                    labels[row] if labels is not None else None,
                )
            )


def _nothing_left(inventory: Inventory, address: str) -> str:
    """Explain why no row of a list can be selected."""
    if inventory.annotated:
        return (
            f"every readable row of {address} has a label, so there is nothing to select; without --keep-labels, "
            "labels are ignored"
        )
    row, why = min(inventory.skipped.items())
    return f"none of the {inventory.tasks:,} rows of {address} can be used (row {row}: {why})"
