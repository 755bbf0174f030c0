"""Removal of old runs, their records and their cached embeddings."""

from __future__ import annotations

import logging
import shutil
import stat
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from usl_backend.errors import USLError
from usl_backend.runs import RunState
from usl_backend.runs.lock import held

if TYPE_CHECKING:
    from usl_backend.runs import Run, RunStore

logger = logging.getLogger(__name__)

CACHE = "embeddings"
"""Folder of the data directory that holds the embeddings of every run and encoder."""
EVERY = 1_000_000
"""Limit that lists every run: more than a data directory ever has."""


def collect(
    store: RunStore, *, keep: int, cache: bool = False, dry_run: bool = False
) -> list[tuple[Path, int]]:
    """Remove old runs with their records, and with `cache` all cached embeddings.

    A run is kept if it is one of the `keep` newest of its project or pool, active or paused, the newest completed
    run of its project or pool (exports and reports need it), or the owner of the published queue. Directories
    that belong to no run are removed. Run numbers are not reused.

    Parameters
    ----------
    store
        Runs of one data directory.
    keep
        Newest runs of each project that are kept, at least 1.
    cache
        Remove the cached embeddings too, unless a run is active.
    dry_run
        Remove nothing.

    Returns
    -------
    list of (Path, int)
        Paths that were (or would be) removed, and their sizes in bytes.
    """
    folder = store.directory / "runs"
    # Directories before records: that of a run created meanwhile must not pass for one without a record.
    found = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    runs = store.list(limit=EVERY)
    kept = _kept(store, runs, keep) | {path.name for path in found if any(map(held, path.glob("*lock")))}
    doomed = [path for path in found if path.name not in kept]
    active = any(run.state.is_active for run in runs)
    if cache and not active and (store.directory / CACHE).is_dir():
        doomed.append(store.directory / CACHE)
    removed = [(path, bytes_of(path)) for path in doomed]
    if dry_run:
        return removed
    # Records first: a run that was resumed meanwhile keeps its record, and then its files too.
    staying = {run.id for run in runs if run.id not in kept and not store.forget(run.id)}
    removed = [(path, size) for path, size in removed if path.name not in staying]
    for path, _ in removed:
        _remove(path)
    return removed


def tidy(store: RunStore, *, keep: int, cache_bytes: int) -> None:
    """Enforce the size limits of a data directory; errors are logged and never fail a run.

    Parameters
    ----------
    store
        Runs of one data directory.
    keep
        As in `collect`.
    cache_bytes
        Maximum size of the cached embeddings of all encoders, in bytes.
    """
    try:
        freed = [*collect(store, keep=keep), *trim(store, limit=cache_bytes)]
    except (OSError, USLError) as error:
        logger.warning("old runs could not be removed (%s); run `usl-backend gc`", error)
        return
    if freed:
        logger.info(
            "removed %d files and folders of old runs, %d bytes", len(freed), sum(n for _, n in freed)
        )


def trim(store: RunStore, *, limit: int) -> list[tuple[Path, int]]:
    """Remove the oldest cached embeddings until the rest fits a limit; nothing while a run is queued or running.

    Parameters
    ----------
    store
        Runs of one data directory.
    limit
        Bytes.

    Returns
    -------
    list of (Path, int)
        Removed shards and their sizes in bytes.
    """
    if any(store.count_by_state().get(state) for state in (RunState.QUEUED, RunState.RUNNING)):
        return []
    # a shard exists if and only if its JSON does, so the JSON is removed first
    shards = sorted((store.directory / CACHE).glob("*/*.json"), key=lambda path: path.stat().st_mtime)
    sizes = {shard: _size_of(shard) + _size_of(shard.with_suffix(".npy")) for shard in shards}
    total, removed = sum(sizes.values()), []
    for shard in shards:
        if total <= limit:
            break
        shard.unlink(missing_ok=True)
        shard.with_suffix(".npy").unlink(missing_ok=True)
        total -= sizes[shard]
        removed.append((shard, sizes[shard]))
    return removed


def _kept(store: RunStore, runs: list[Run], keep: int) -> set[str]:
    """Return the ids of the runs to keep; `runs` is newest first."""
    kept: set[str] = set()
    seen: Counter[str] = Counter()
    completed: set[str] = set()
    for run in runs:
        seen[run.subject] += 1
        first_done = run.state is RunState.DONE and not run.dry_run and run.subject not in completed
        if first_done:
            completed.add(run.subject)
        into = run.published_to
        state = store.queue_state(run.project_key if into is None else into.key)
        in_force = state is not None and state.run_id == run.id
        unfinished = run.state.is_active or run.state is RunState.PAUSED
        if seen[run.subject] <= keep or unfinished or first_done or in_force:
            kept.add(run.id)
    return kept


def _remove(folder: Path) -> None:
    """Remove a folder; one that is linked here, for instance from a larger disk, is emptied."""
    if not folder.is_symlink():
        shutil.rmtree(folder)
        return
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def bytes_of(path: Path) -> int:
    """Return the size of all files under a directory; files that vanish meanwhile do not count."""
    return sum(_size_of(file) for file in path.rglob("*"))


def _size_of(path: Path) -> int:
    """Return the size of a regular file, else 0."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0
