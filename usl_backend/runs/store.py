"""Store of run records; `database.py` handles the file and `projects.py` the records of projects.

No secret is ever stored. Commits survive a crash of any process; after a power cut the last ones may be
missing, but never half written.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usl_backend.errors import ActiveRunError, RunError, UnknownRunError
from usl_backend.instances import RUN_ID
from usl_backend.runs.columns import COLUMNS, loaded, proper, stored
from usl_backend.runs.counters import Counters
from usl_backend.runs.projects import ProjectRecords
from usl_backend.runs.record import Run, Runner, RunState
from usl_backend.runs.summary import Summary

if TYPE_CHECKING:
    from usl_backend.runs.artifacts import RunFiles

Runs = list[Run]


class RunStore(ProjectRecords, Counters):
    """Runs, setups, queue states and counters of one data directory; safe for threads and processes.

    Parameters
    ----------
    directory
        The data directory (`MODEL_DIR`); created if missing, readable by its owner only.

    Raises
    ------
    RunError
        The directory cannot be written, or was written by a newer version of this package.
    """

    def create(
        self,
        *,
        project: int = 0,
        project_key: str = "",
        settings: Mapping[str, Any],
        dry_run: bool = False,
        place: Runner = "server",
        error: Mapping[str, str] | None = None,
        pool: str = "",
        target: Mapping[str, Any] | None = None,
    ) -> Run:
        """Create a queued run.

        Parameters
        ----------
        project, project_key, settings, dry_run, place
            As in `Run`.
        error
            Why the run cannot start; it is then stored as failed, so the user sees the reason.
        pool, target
            As in `Run`; `pool` is a name from `pool_name`.

        Raises
        ------
        ActiveRunError
            The project or pool has a queued or running run; nothing was written.
        """
        now = time.time()
        state = RunState.QUEUED if error is None else RunState.FAILED
        with self._transaction() as sql:
            if error is None:
                self.refuse_second(project=project, pool=pool)
            (number,) = sql.execute(
                "UPDATE pools SET last = last + 1 WHERE name = ? RETURNING last"
                if pool
                else "INSERT INTO numbers VALUES (?, 1) ON CONFLICT DO UPDATE SET last = last + 1 RETURNING last",
                (pool or project,),
            ).fetchone()
            (sequence,) = sql.execute("SELECT COALESCE(MAX(sequence), 0) + 1 FROM runs").fetchone()
            run = Run(
                id=f"{pool or project}-{number}",
                project=project,
                project_key=project_key,
                settings=dict(settings),
                state=state,
                created_at=now,
                finished_at=None if error is None else now,
                error=error,
                dry_run=dry_run,
                place=place,
                pool=pool,
                target=dict(target or {}),
            )
            values = [stored(name, getattr(run, name)) for name in COLUMNS]
            names = ", ".join((*COLUMNS, "sequence"))
            marks = ", ".join("?" * (len(COLUMNS) + 1))
            sql.execute(f"INSERT INTO runs ({names}) VALUES ({marks})", (*values, sequence))  # noqa: S608 (constants)  # nosec B608
        return run

    def get(self, run_id: str) -> Run:
        """Return the run with this id.

        Raises
        ------
        UnknownRunError
            There is none.
        """
        runs = self._select("WHERE id = ?", (run_id,))
        if not runs:
            raise UnknownRunError(
                f'there is no run "{run_id[:80]}"; `usl-backend status` lists the runs of this data directory'
            )
        return runs[0]

    def pool_name(self, wanted: str, address: str) -> str:
        """Return the name of the pool at an address; a new pool gets `wanted`, or "<wanted>_2" and so on if taken.

        Parameters
        ----------
        wanted
            Lower-case letters, digits and underscores, a letter first.
        address
            Absolute path or URL; two addresses never share a name.
        """
        with self._transaction() as sql:
            known = sql.execute("SELECT name FROM pools WHERE address = ?", (proper(address),)).fetchone()
            if known is not None:
                return str(known[0])
            names = {name for (name,) in sql.execute("SELECT name FROM pools")}
            free = next(
                name
                for number in range(1, len(names) + 2)
                if (name := wanted if number == 1 else f"{wanted}_{number}") not in names
            )
            sql.execute("INSERT INTO pools VALUES (?, ?, 0)", (free, proper(address)))
        return free

    def list(
        self,
        *,
        project: int | None = None,
        state: RunState | None = None,
        limit: int = 100,
        pool: str | None = None,
    ) -> Runs:
        """Return runs, newest first."""
        where, values = _conditions(project, state, pool)
        return self._select(f"{where} ORDER BY sequence DESC LIMIT ?", (*values, limit))

    def key_of(self, project: int) -> str:
        """Return a project's key as its last connection, its newest runs or its wishes know it; "" if none does."""
        setup = self.setup(project)
        if setup is not None:
            return setup.project_key
        for run in self.list(project=project, limit=10):
            key = run.project_key or (run.summary.project.key if run.summary is not None else "")
            if key:
                return key
        return self.wished_key(project)

    def count_by_state(self) -> dict[RunState, int]:
        """Return the number of runs in each state; empty states are left out."""
        rows = self._read("SELECT state, COUNT(*) FROM runs GROUP BY state")
        return {RunState(state): number for state, number in rows}

    def latest(self, project: int, state: RunState | None = None) -> Run | None:
        """Return the project's newest run, or its newest in a state."""
        return next(iter(self.list(project=project, state=state, limit=1)), None)

    def active(self, *, project: int = 0, pool: str = "") -> Run | None:
        """Return the queued or running run of a project or of a pool outside Label Studio; at most one exists."""
        found = self._select(
            "WHERE project = ? AND pool = ? AND state IN ('queued', 'running')", (project, pool)
        )
        return next(iter(found), None)

    def refuse_second(self, *, project: int = 0, pool: str = "") -> None:
        """Refuse a second active run of a project or pool.

        Raises
        ------
        ActiveRunError
            The project or pool has an active run.
        """
        run = self.active(project=project, pool=pool)
        if run is not None:
            raise ActiveRunError(
                f"run {run.id} of {run.subject} is {run.state}; wait for it or cancel it first", run_id=run.id
            )

    def claim_next(self, max_running: int) -> Run | None:
        """Start the oldest run queued for the server; None if there is none or `max_running` is reached.

        Parameters
        ----------
        max_running
            Maximum number of running runs on this host, in the server and in shells.
        """
        with self._transaction() as sql:
            (running,) = sql.execute("SELECT COUNT(*) FROM runs WHERE state = 'running'").fetchone()
            row = sql.execute(
                "SELECT id FROM runs WHERE state = 'queued' AND place = 'server' ORDER BY sequence LIMIT 1"
            ).fetchone()
            if row is None or running >= max_running:
                return None
            self._begin(sql, row[0])
        return self.get(row[0])

    def claim(self, run_id: str) -> Run:
        """Start this queued run, wherever it is to be computed.

        Raises
        ------
        RunError
            It is not queued.
        """
        with self._transaction() as sql:
            if not self._begin(sql, run_id):
                raise RunError(f"run {run_id} is {self.get(run_id).state}, not queued; resume it first")
        return self.get(run_id)

    def progress(self, run_id: str, stage: str, done: int, total: int, step: str | None = None) -> bool:
        """Record the progress of a running run.

        Returns
        -------
        bool
            False if the run is no longer running: it was cancelled, and its process has to stop.
        """
        return self._update(
            run_id,
            (RunState.RUNNING,),
            stage=stage,
            done=int(done),
            total=int(total),
            step=step,
            heartbeat=time.time(),
        )

    def beat(self, run_id: str) -> bool:
        """Record a heartbeat of a running run; return False as `progress` does."""
        return self._update(run_id, (RunState.RUNNING,), heartbeat=time.time())

    def finish(
        self,
        run_id: str,
        summary: Summary,
        pool_digest: str | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> bool:
        """Mark a running run as done; return False if it was not running."""
        return self._update(
            run_id,
            (RunState.RUNNING,),
            state=RunState.DONE,
            step=None,
            error=None,
            summary=summary,
            pool_digest=pool_digest,
            versions=dict(versions or {}),
            finished_at=time.time(),
        )

    def amend(self, run_id: str, **changes: Any) -> bool:
        """Change attributes of the summary of a run that is done, as it is now; return False if it is not done."""
        with self._transaction() as sql:
            run = self.get(run_id)
            if run.state is not RunState.DONE or run.summary is None:
                return False
            sql.execute(
                "UPDATE runs SET summary = ? WHERE id = ?",
                (stored("summary", replace(run.summary, **changes)), run_id),
            )
        return True

    def fail(self, run_id: str, kind: str, message: str) -> bool:
        """Mark an active run as failed; return False if it was not active.

        Parameters
        ----------
        run_id
            Id of the run.
        kind
            Class name of the error.
        message
            Error message without secrets.
        """
        return self._update(
            run_id,
            (RunState.QUEUED, RunState.RUNNING),
            state=RunState.FAILED,
            error={"type": kind, "message": proper(message)},
            finished_at=time.time(),
        )

    def pause(self, run_id: str, kind: str, message: str) -> bool:
        """Mark a running run as paused; parameters as in `fail`. Return False if it was not running."""
        return self._update(
            run_id,
            (RunState.RUNNING,),
            state=RunState.PAUSED,
            error={"type": kind, "message": proper(message)},
            finished_at=time.time(),
        )

    def kept(self, run_id: str) -> None:
        """Record that a running run stored a result, which resets its attempts."""
        self._update(run_id, (RunState.RUNNING,), attempts=1)

    def cancel(self, run_id: str) -> Run:
        """Cancel an active run; its process notices at its next report.

        Raises
        ------
        RunError
            There is no such run, or it is over.
        """
        active = (RunState.QUEUED, RunState.RUNNING)
        if not self._update(run_id, active, state=RunState.CANCELLED, finished_at=time.time()):
            raise RunError(
                f"run {run_id} is {self.get(run_id).state}; only a queued or running run can be cancelled"
            )
        return self.get(run_id)

    def requeue(self, run_id: str, *, blameless: bool = False) -> bool:
        """Queue a running run again after its process ended; return False if it was not running.

        Parameters
        ----------
        run_id
            Id of the run.
        blameless
            The run was stopped from outside, so the attempt does not count.
        """
        with self._transaction() as sql:
            changed = sql.execute(
                "UPDATE runs SET state = 'queued', attempts = attempts - ?, heartbeat = NULL "
                "WHERE id = ? AND state = 'running'",
                (int(blameless), run_id),
            ).rowcount
        return bool(changed)

    def resume(self, run_id: str, *, place: Runner = "server") -> Run:
        """Queue a paused, failed or cancelled run again; it continues from its last artifact.

        Raises
        ------
        RunError
            There is no such run, or it is not paused, failed or cancelled.
        ActiveRunError
            The project has another active run.
        """
        with self._transaction() as sql:
            run = self.get(run_id)
            if not run.state.is_resumable:
                raise RunError(
                    f"run {run_id} is {run.state}; only a paused, failed or cancelled run can be resumed"
                )
            self.refuse_second(project=run.project, pool=run.pool)
            sql.execute(
                "UPDATE runs SET state = 'queued', attempts = 0, error = NULL, finished_at = NULL, "
                "heartbeat = ?, place = ? WHERE id = ?",
                (time.time(), place, run_id),
            )
        return self.get(run_id)

    def take_up(self, run_id: str, *, place: Runner = "server") -> Run:
        """Queue a finished dry run again, to publish what it has chosen.

        Parameters
        ----------
        run_id
            The dry run.
        place
            Process that shall publish it.

        Raises
        ------
        RunError
            There is no such run, or it is no finished dry run of a project.
        ActiveRunError
            The project has another active run.
        """
        with self._transaction() as sql:
            run = self.get(run_id)
            if run.state is not RunState.DONE or not run.dry_run or run.pool:
                what = (
                    f"selected from {run.address}, outside Label Studio"
                    if run.pool
                    else f"is {'a dry run' if run.dry_run else 'no dry run'} and {run.state}"
                )
                raise RunError(
                    f"run {run_id} {what}; only a finished dry run of a project can be published so"
                )
            self.refuse_second(project=run.project)
            sql.execute(
                "UPDATE runs SET state = 'queued', dry_run = 0, attempts = 0, finished_at = NULL, heartbeat = ?, "
                "place = ? WHERE id = ?",
                (time.time(), place, run_id),
            )
        return self.get(run_id)

    def forget(self, run_id: str) -> bool:
        """Delete the record of a finished run; return False if it is not finished. Its number is not reused."""
        with self._transaction() as sql:
            removed = sql.execute(
                "DELETE FROM runs WHERE id = ? AND state IN ('done', 'failed', 'cancelled')", (run_id,)
            ).rowcount
        return bool(removed)

    def files(self, run_id: str) -> RunFiles:
        """Return the run's artifacts."""
        from usl_backend.runs.artifacts import RunFiles  # loads numpy, which the records of runs need not

        return RunFiles(self.run_directory(run_id))

    def run_directory(self, run_id: str) -> Path:
        """Return the directory of the run's artifacts: `<data directory>/runs/<id>`.

        Raises
        ------
        UnknownRunError
            The id is malformed.
        """
        if not RUN_ID.fullmatch(run_id):
            raise UnknownRunError(f'"{run_id[:80]}" is not a run id; run ids look like 12-7 or photos-3')
        return self.directory / "runs" / run_id

    # inside

    def _select(self, clause: str, values: tuple[Any, ...]) -> Runs:
        """Return the runs that match an SQL clause (a constant of this module)."""
        names = ", ".join(COLUMNS)
        rows = self._read(f"SELECT {names} FROM runs {clause}", values)  # noqa: S608 (constants)  # nosec B608
        return [
            Run(**{name: loaded(name, value) for name, value in zip(COLUMNS, row, strict=True)})
            for row in rows
        ]

    def _update(self, run_id: str, states: tuple[RunState, ...], **values: Any) -> bool:
        """Set columns of a run if it is in one of these states; return True if it was."""
        assignments = ", ".join(f"{name} = ?" for name in values)
        marks = ", ".join("?" * len(states))
        kept = [stored(name, value) for name, value in values.items()]
        with self._transaction() as sql:
            changed = sql.execute(
                f"UPDATE runs SET {assignments} WHERE id = ? AND state IN ({marks})",  # noqa: S608 (constants)  # nosec B608
                (*kept, run_id, *states),
            ).rowcount
        return bool(changed)

    @staticmethod
    def _begin(sql: sqlite3.Connection, run_id: str) -> bool:
        """Mark a queued run as running; return False if it was not queued."""
        now = time.time()
        return bool(
            sql.execute(
                "UPDATE runs SET state = 'running', attempts = attempts + 1, heartbeat = ?, error = NULL, "
                "started_at = COALESCE(started_at, ?) WHERE id = ? AND state = 'queued'",
                (now, now, run_id),
            ).rowcount
        )


def _conditions(project: int | None, state: RunState | None, pool: str | None) -> tuple[str, tuple[Any, ...]]:
    """Build a WHERE clause and its values."""
    wanted = {"project = ?": project, "state = ?": state, "pool = ?": pool}
    given = {clause: value for clause, value in wanted.items() if value is not None}
    return ("WHERE " + " AND ".join(given) if given else ""), tuple(given.values())
