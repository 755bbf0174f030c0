"""What a run asks of the place that its instances come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usl_backend.progress import Progress
    from usl_backend.runs import RunFiles
    from usl_backend.runs.inventory import Inventory
    from usl_backend.sources.media import Media, MediaAccess


class Source(Protocol):
    """Where the instances of a run come from: a project, a list, or a file of vectors."""

    def fetch(self, files: RunFiles, progress: Progress) -> None:
        """List what can be chosen, and store it with what was learned of the pool.

        Raises
        ------
        InputError
            Nothing, or not enough, can be chosen; nothing is stored.
        StudioError
            Label Studio refuses or fails.
        """

    def access(self, inventory: Inventory) -> MediaAccess:
        """Say what may be read of the pool, for processes elsewhere."""

    def open_media(self, inventory: Inventory) -> Media:
        """Begin to read the pool's media here."""

    def store_vectors(self, files: RunFiles, progress: Progress) -> None:
        """Store the pool of a source that brings its embeddings (`Inventory.brings_vectors`)."""

    def warnings(self, inventory: Inventory, skipped: Mapping[int, str]) -> list[str]:
        """Say what a user should know although the run went well.

        Parameters
        ----------
        inventory
            Of the run.
        skipped
            Id -> reason of the instances that could not be read.
        """
