"""The `Source` protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usl_backend.progress import Progress
    from usl_backend.runs import RunFiles
    from usl_backend.runs.inventory import Inventory
    from usl_backend.sources.media import Media, MediaAccess


class Source(Protocol):
    """Source of a run's instances: a project, a list, or a file of vectors."""

    def fetch(self, files: RunFiles, progress: Progress) -> None:
        """List the instances that can be selected and store them with the pool's inventory.

        Raises
        ------
        InputError
            There are too few instances, or none; nothing is stored.
        StudioError
            Label Studio refuses the request or fails.
        """

    def labels(self, files: RunFiles) -> dict[int, str]:
        """Return the class of each labeled instance, by id.

        Raises
        ------
        InputError
            Instances have no single class.
        StudioError
            Label Studio refuses the request or fails.
        """

    def access(self, inventory: Inventory) -> MediaAccess:
        """Return the access rights to the pool's media, which can be sent to other processes."""

    def open_media(self, inventory: Inventory) -> Media:
        """Open the pool's media in this process."""

    def store_vectors(self, files: RunFiles, progress: Progress) -> None:
        """Store the pool of a source that provides its embeddings (`Inventory.brings_vectors`)."""

    def warnings(self, inventory: Inventory, skipped: Mapping[int, str]) -> list[str]:
        """Return the warnings of a successful run.

        Parameters
        ----------
        inventory
            Inventory of the run.
        skipped
            Id -> reason of the instances that could not be read.
        """
