"""Which files of old runs may go. What runs are is remembered elsewhere (`runs/store.py`) and stays."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from usl_backend.runs import RunState
from usl_backend.runs.lock import held

if TYPE_CHECKING:
    from usl_backend.runs import Run, RunStore

CACHE = "embeddings"
"""Folder of the data directory that holds the embeddings of every run and encoder."""
EVERY = 1_000_000
"""More runs than a data directory ever has."""


def collect(
    store: RunStore, *, keep: int, cache: bool = False, dry_run: bool = False
) -> list[tuple[Path, int]]:
    """Remove the directories of old runs, and with `cache` the embeddings of all.

    A run keeps its directory when it is one of the `keep` newest of its project, when it is active, when it is the
    newest completed run of its project (exports and reports need it), or when its queue is in force. Directories
    that belong to no run are removed.

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
        What was (or would be) removed, and its size in bytes.
    """
    runs = store.list(limit=EVERY)
    kept = _kept(store, runs, keep)
    folder = store.directory / "runs"
    found = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    doomed = [path for path in found if path.name not in kept and not held(path / "lock")]
    active = any(run.state.is_active for run in runs)
    if cache and not active and (store.directory / CACHE).is_dir():
        doomed.append(store.directory / CACHE)
    removed = [(path, _bytes_of(path)) for path in doomed]
    if not dry_run:
        for path in doomed:
            shutil.rmtree(path)
    return removed


def _kept(store: RunStore, runs: list[Run], keep: int) -> set[str]:
    """Ids of the runs whose directories stay; `runs` is newest first."""
    kept: set[str] = set()
    seen: dict[int, int] = {}
    completed: set[int] = set()
    for run in runs:
        seen[run.project] = seen.get(run.project, 0) + 1
        first_done = run.state is RunState.DONE and not run.dry_run and run.project not in completed
        if first_done:
            completed.add(run.project)
        key = run.summary.get("project", {}).get("key", run.project_key)
        in_force = (store.queue_state(key) or {}).get("run_id") == run.id
        if seen[run.project] <= keep or run.state.is_active or first_done or in_force:
            kept.add(run.id)
    return kept


def _bytes_of(path: Path) -> int:
    """Size of everything below a directory."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
