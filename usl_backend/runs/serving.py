"""The server that uses a data directory: its lock, which says that it runs, and the address it told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from usl_backend.runs.lock import held, holder

if TYPE_CHECKING:
    from pathlib import Path

LOCK: Final = "server.lock"
_ADDRESS: Final = "server.address"


@dataclass(frozen=True, slots=True)
class Server:
    """A running server.

    Attributes
    ----------
    process
        Its process id; None if the lock does not tell.
    address
        URL of its pages without `/usl` and trailing slash; "" if it has none, as behind another framework.
    """

    process: int | None
    address: str

    @property
    def pages(self) -> str:
        """Address of the pages without a trailing slash; "" if there are none."""
        return f"{self.address}/usl" if self.address else ""


def running(directory: Path) -> Server | None:
    """Return the server that runs on a data directory; None if none does."""
    if not held(directory / LOCK):
        return None
    try:
        address = (directory / _ADDRESS).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        address = ""
    return Server(holder(directory / LOCK), address)


def announce(directory: Path, address: str) -> None:
    """Write down the address of the server that holds the lock."""
    (directory / _ADDRESS).write_text(f"{address}\n", encoding="utf-8")


def forget_address(directory: Path) -> None:
    """Remove the address of a server that ended."""
    (directory / _ADDRESS).unlink(missing_ok=True)
