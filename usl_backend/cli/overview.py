"""State of the whole data directory for `status`: server, queue, disk, latest errors."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from usl_backend.runs import RunState
from usl_backend.runs.retention import CACHE, bytes_of
from usl_backend.runs.serving import running

if TYPE_CHECKING:
    from usl_backend.runs import RunStore
    from usl_backend.settings import HostSettings

_ERRORS = 3
"""Number of latest errors shown."""


@dataclass(frozen=True)
class Failure:
    """Error of a run.

    Attributes
    ----------
    run, kind, message
        Id of the run, class of the error, and its message in the run's record.
    at
        End of the run, in Unix seconds.
    """

    run: str
    kind: str
    message: str
    at: float


@dataclass(frozen=True)
class Overview:
    """State of a data directory.

    Attributes
    ----------
    directory, installation
        Path, and its name in model versions.
    server
        Process id of the server that uses it; None if there is none.
    pages
        Address of that server's pages without a trailing slash; "" if there are none.
    runs
        Number of runs by state, without zeros.
    bytes_in_runs, bytes_in_embeddings, bytes_free
        Disk use, in bytes.
    errors
        Latest failed and paused runs, newest first.
    """

    directory: str
    installation: str
    server: int | None
    pages: str
    runs: dict[str, int]
    bytes_in_runs: int
    bytes_in_embeddings: int
    bytes_free: int
    errors: tuple[Failure, ...]


def overview(store: RunStore) -> Overview:
    """Read the state of a data directory; needs neither Label Studio nor a running server."""
    server = running(store.directory)
    troubled = [
        *store.list(state=RunState.FAILED, limit=_ERRORS),
        *store.list(state=RunState.PAUSED, limit=_ERRORS),
    ]
    troubled.sort(key=lambda run: run.finished_at or run.created_at, reverse=True)
    return Overview(
        directory=str(store.directory),
        installation=store.installation,
        server=None if server is None else server.process,
        pages="" if server is None else server.pages,
        runs={state.value: count for state, count in store.count_by_state().items()},
        bytes_in_runs=bytes_of(store.directory / "runs"),
        bytes_in_embeddings=bytes_of(store.directory / CACHE),
        bytes_free=shutil.disk_usage(store.directory).free,
        errors=tuple(
            Failure(
                run=run.id,
                kind=(run.error or {}).get("type", ""),
                message=(run.error or {}).get("message", ""),
                at=run.finished_at or run.created_at,
            )
            for run in troubled[:_ERRORS]
        ),
    )


def lines(seen: Overview, host: HostSettings) -> Iterator[str]:
    """Return the lines of the overview, for people."""
    server = f"process {seen.server}" if seen.server else "not running; `usl-backend serve` starts it"
    yield f"server      {server}"
    if seen.pages:
        yield f"pages       {seen.pages}/"
    counts = ", ".join(f"{count} {state}" for state, count in sorted(seen.runs.items()))
    yield f"runs        {counts or 'none yet'}"
    yield (
        f"disk        {size(seen.bytes_in_runs)} of runs, {size(seen.bytes_in_embeddings)} of at most "
        f"{size(host.cache_max_bytes)} of embeddings, {size(seen.bytes_free)} free at {seen.directory}"
    )
    for failure in seen.errors:
        yield f"last error  run {failure.run}, {moment(failure.at)}: {failure.message}"


def moment(seconds: float) -> str:
    """Format Unix seconds as local date and time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def size(count: int) -> str:
    """Format a number of bytes, for people."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB"):
        if amount < 1024:
            return f"{amount:.0f} {unit}"
        amount /= 1024
    return f"{amount:.1f} GiB"
