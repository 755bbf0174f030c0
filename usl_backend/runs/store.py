"""Where runs, setups and queue states are remembered: one SQLite file (WAL) that several processes share.

No secret is ever written here. Commits survive the death of any process; after a power cut the last ones
may be missing, never half written.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from usl_backend.errors import ActiveRunError, RunError, UnknownRunError

from .artifacts import RunFiles
from .record import Place, ProjectSetup, Run, RunState

_MIGRATIONS: Final = (
    """
    CREATE TABLE runs (
        id TEXT PRIMARY KEY, project INTEGER NOT NULL, project_key TEXT NOT NULL, settings TEXT NOT NULL,
        state TEXT NOT NULL, stage TEXT, step TEXT, done INTEGER NOT NULL DEFAULT 0,
        total INTEGER NOT NULL DEFAULT 0, error TEXT, pool_digest TEXT, versions TEXT NOT NULL DEFAULT '{}',
        attempts INTEGER NOT NULL DEFAULT 0, created_at REAL NOT NULL, started_at REAL, finished_at REAL,
        heartbeat REAL, dry_run INTEGER NOT NULL DEFAULT 0, summary TEXT NOT NULL DEFAULT '{}',
        place TEXT NOT NULL DEFAULT 'server', sequence INTEGER NOT NULL
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX one_active_run ON runs (project) WHERE state IN ('queued', 'running');
    CREATE INDEX runs_by_age ON runs (sequence);
    CREATE INDEX runs_by_project ON runs (project, sequence);
    CREATE TABLE numbers (project INTEGER PRIMARY KEY, last INTEGER NOT NULL);
    CREATE TABLE setups (
        project_key TEXT PRIMARY KEY, project INTEGER NOT NULL, extra_params TEXT NOT NULL,
        label_config TEXT NOT NULL, refused TEXT, updated_at REAL NOT NULL
    ) WITHOUT ROWID;
    CREATE INDEX setups_by_project ON setups (project, updated_at);
    CREATE TABLE queues (project_key TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID;
    """,
)
"""Step n brings the file from `user_version` n to n + 1. Never edit a step that was released: append one."""

Runs = list[Run]
_COLUMNS: Final = tuple(Run.__dataclass_fields__)
_JSON: Final = frozenset({"settings", "error", "versions", "summary"})


class RunStore:
    """Runs, setups and queue states of one data directory; may be shared by threads and processes.

    Parameters
    ----------
    directory
        The data directory (`MODEL_DIR`); created when missing, readable by its owner alone.

    Raises
    ------
    RunError
        The directory cannot be written, or was written by a newer version of this package.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / "usl.sqlite3"
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._opening = threading.Lock()
        try:
            (directory / "runs").mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise _unusable(directory, error) from None
        self._migrate()

    def close(self) -> None:
        """Close every thread's connection; the store is not used afterwards."""
        with self._opening:
            for connection in self._opened:
                connection.close()
            self._opened.clear()
        self._local = threading.local()

    # runs

    def create(
        self,
        *,
        project: int,
        project_key: str = "",
        settings: Mapping[str, Any],
        dry_run: bool = False,
        place: Place = "server",
        error: Mapping[str, str] | None = None,
    ) -> Run:
        """Write down a new queued run.

        Parameters
        ----------
        project, project_key, settings, dry_run, place
            As in `Run`.
        error
            Why the run cannot even start: it is written down as failed, so that the user finds out.

        Raises
        ------
        ActiveRunError
            The project has a queued or running run; nothing was written.
        """
        now = time.time()
        state = RunState.QUEUED if error is None else RunState.FAILED
        with self._transaction() as sql:
            if error is None:
                self._refuse_second(sql, project)
            (number,) = sql.execute(
                "INSERT INTO numbers VALUES (?, 1) ON CONFLICT DO UPDATE SET last = last + 1 RETURNING last",
                (project,),
            ).fetchone()
            (sequence,) = sql.execute("SELECT COALESCE(MAX(sequence), 0) + 1 FROM runs").fetchone()
            run = Run(
                id=f"{project}-{number}",
                project=project,
                project_key=project_key,
                settings=dict(settings),
                state=state,
                created_at=now,
                finished_at=None if error is None else now,
                error=error,
                dry_run=dry_run,
                place=place,
            )
            values = [_stored(name, getattr(run, name)) for name in _COLUMNS]
            names = ", ".join((*_COLUMNS, "sequence"))
            marks = ", ".join("?" * (len(_COLUMNS) + 1))
            sql.execute(f"INSERT INTO runs ({names}) VALUES ({marks})", (*values, sequence))  # noqa: S608 (constants)
        return run

    def get(self, run_id: str) -> Run:
        """The run of that id.

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

    def list(self, *, project: int | None = None, state: RunState | None = None, limit: int = 100) -> Runs:
        """Runs, newest first."""
        where, values = _conditions(project, state)
        return self._select(f"{where} ORDER BY sequence DESC LIMIT ?", (*values, limit))

    def latest(self, project: int, state: RunState | None = None) -> Run | None:
        """The project's newest run, or its newest in that state."""
        return next(iter(self.list(project=project, state=state, limit=1)), None)

    def claim_next(self, max_running: int) -> Run | None:
        """Make the oldest run queued for the server a running one; None when there is none or no room.

        Parameters
        ----------
        max_running
            Runs that may be running on this host, wherever they are computed.
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
        """Make this queued run a running one, whoever it was queued for.

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
        """Note where a running run is.

        Returns
        -------
        bool
            False when the run is not running any more: it was cancelled, and its process has to stop.
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
        """Note that a running run's process lives; False as in `progress`."""
        return self._update(run_id, (RunState.RUNNING,), heartbeat=time.time())

    def finish(
        self,
        run_id: str,
        summary: Mapping[str, Any],
        pool_digest: str | None = None,
        versions: Mapping[str, str] | None = None,
    ) -> bool:
        """Make a running run a done one; False when it was not running."""
        return self._update(
            run_id,
            (RunState.RUNNING,),
            state=RunState.DONE,
            step=None,
            error=None,
            summary=dict(summary),
            pool_digest=pool_digest,
            versions=dict(versions or {}),
            finished_at=time.time(),
        )

    def fail(self, run_id: str, kind: str, message: str) -> bool:
        """Make an active run a failed one; False when it was not active.

        Parameters
        ----------
        run_id
            The run.
        kind
            Class name of the error.
        message
            What, the value, the remedy; without secrets.
        """
        return self._update(
            run_id,
            (RunState.QUEUED, RunState.RUNNING),
            state=RunState.FAILED,
            error={"type": kind, "message": _proper(message)},
            finished_at=time.time(),
        )

    def cancel(self, run_id: str) -> Run:
        """Make an active run a cancelled one; whoever computes it sees so at its next report.

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
        """Queue a running run again after its process ended; False when it was not running.

        Parameters
        ----------
        run_id
            The run.
        blameless
            The run was stopped from outside: the attempt does not count.
        """
        with self._transaction() as sql:
            changed = sql.execute(
                "UPDATE runs SET state = 'queued', attempts = attempts - ?, heartbeat = NULL "
                "WHERE id = ? AND state = 'running'",
                (int(blameless), run_id),
            ).rowcount
        return bool(changed)

    def resume(self, run_id: str, *, place: Place = "server") -> Run:
        """Queue a failed or cancelled run again; it goes on after its last complete stage.

        Raises
        ------
        RunError
            There is no such run, or it is neither failed nor cancelled.
        ActiveRunError
            The project has another active run.
        """
        with self._transaction() as sql:
            run = self.get(run_id)
            if run.state not in (RunState.FAILED, RunState.CANCELLED):
                raise RunError(f"run {run_id} is {run.state}; only a failed or cancelled run can be resumed")
            self._refuse_second(sql, run.project)
            sql.execute(
                "UPDATE runs SET state = 'queued', attempts = 0, error = NULL, finished_at = NULL, "
                "heartbeat = ?, place = ? WHERE id = ?",
                (time.time(), place, run_id),
            )
        return self.get(run_id)

    def files(self, run_id: str) -> RunFiles:
        """The run's artifacts."""
        return RunFiles(self.run_directory(run_id))

    def run_directory(self, run_id: str) -> Path:
        """Where the run's artifacts lie: `<data directory>/runs/<id>`.

        Raises
        ------
        UnknownRunError
            The id is not shaped like one.
        """
        project, _, number = run_id.partition("-")
        if not (run_id.isascii() and project.isdecimal() and number.isdecimal()):
            raise UnknownRunError(f'"{run_id[:80]}" is no run id; it looks like 12-7')
        return self.directory / "runs" / run_id

    # setups

    def remember_setup(
        self,
        project: int,
        project_key: str,
        *,
        extra_params: Mapping[str, Any] | None = None,
        label_config: str = "",
        refused: str | None = None,
    ) -> bool:
        """Keep what /setup told; the last one wins.

        A refused setup never replaces an accepted one: Label Studio keeps the old parameters too when we
        refuse the new. It is kept where nothing was accepted before, so that Start Training can say why.

        Returns
        -------
        bool
            Whether anything changed; the same setup told again writes nothing.
        """
        known = self._setup_of("project_key = ?", (project_key,))
        params = json.dumps(dict(extra_params or {}), sort_keys=True)
        if known is not None:
            same_params = json.dumps(dict(known.extra_params), sort_keys=True) == params
            if refused is not None and known.refused is None:
                return False
            if same_params and known.label_config == label_config and known.refused == refused:
                newest = self.setup(project)
                if newest is not None and newest.project_key == project_key:
                    return False
        with self._transaction() as sql:
            sql.execute(
                "INSERT OR REPLACE INTO setups "
                "(project_key, project, extra_params, label_config, refused, updated_at) "
                "VALUES (?, ?, ?, ?, ?, ?)",
                (
                    project_key,
                    project,
                    params,
                    _proper(label_config),
                    refused and _proper(refused),
                    time.time(),
                ),
            )
        return True

    def setup(self, project: int, project_key: str = "") -> ProjectSetup | None:
        """What is known of a project: of that very key, or without a key of the newest with that id."""
        if project_key:
            return self._setup_of("project_key = ?", (project_key,))
        return self._setup_of("project = ? ORDER BY updated_at DESC LIMIT 1", (project,))

    # queue states

    def queue_state(self, project_key: str) -> dict[str, Any] | None:
        """What was published to a project, as `studio.queue` left it; None when nothing is."""
        row = (
            self._connection()
            .execute("SELECT state FROM queues WHERE project_key = ?", (project_key,))
            .fetchone()
        )
        return None if row is None else dict(json.loads(row[0]))

    def save_queue_state(self, project_key: str, state: Mapping[str, Any] | None) -> None:
        """Remember what was published to a project; None forgets it."""
        with self._transaction() as sql:
            if state is None:
                sql.execute("DELETE FROM queues WHERE project_key = ?", (project_key,))
            else:
                sql.execute(
                    "INSERT OR REPLACE INTO queues VALUES (?, ?)", (project_key, json.dumps(dict(state)))
                )

    # inside

    def _connection(self) -> sqlite3.Connection:
        """The connection of the calling thread."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            try:
                # closed by close(), from whatever thread; otherwise used by this thread alone
                connection = sqlite3.connect(
                    self.path, timeout=30, isolation_level=None, check_same_thread=False
                )
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                self.path.chmod(0o600)
            except (sqlite3.Error, OSError) as error:
                raise _unusable(self.directory, error) from None
            with self._opening:
                self._opened.append(connection)
            self._local.connection = connection
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One atomic change; two processes never interleave inside it."""
        connection = self._connection()
        try:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):  # the failed statement may have ended the transaction
                    connection.execute("ROLLBACK")
                raise
        except sqlite3.OperationalError as error:
            raise _unusable(self.directory, error) from error

    def _migrate(self) -> None:
        """Bring the file to this version's layout."""
        (version,) = self._connection().execute("PRAGMA user_version").fetchone()
        if version > len(_MIGRATIONS):
            raise RunError(
                f"{self.path} has layout {version} but this version knows {len(_MIGRATIONS)} at most; "
                "upgrade usl-backend, or set MODEL_DIR to another directory"
            )
        for step in range(version, len(_MIGRATIONS)):
            with self._transaction() as sql:
                if sql.execute("PRAGMA user_version").fetchone() == (
                    step,
                ):  # another process may have been first
                    for statement in _MIGRATIONS[step].split(";"):
                        sql.execute(statement)
                    sql.execute(f"PRAGMA user_version = {step + 1}")

    def _select(self, clause: str, values: tuple[Any, ...]) -> Runs:
        """Runs that a clause of ours finds."""
        names = ", ".join(_COLUMNS)
        rows = self._connection().execute(f"SELECT {names} FROM runs {clause}", values)  # noqa: S608 (constants)
        return [
            Run(**{name: _loaded(name, value) for name, value in zip(_COLUMNS, row, strict=True)})
            for row in rows
        ]

    def _update(self, run_id: str, states: tuple[RunState, ...], **values: Any) -> bool:
        """Set columns of a run that is in one of these states."""
        assignments = ", ".join(f"{name} = ?" for name in values)
        marks = ", ".join("?" * len(states))
        stored = [_stored(name, value) for name, value in values.items()]
        with self._transaction() as sql:
            changed = sql.execute(
                f"UPDATE runs SET {assignments} WHERE id = ? AND state IN ({marks})",  # noqa: S608 (constants)
                (*stored, run_id, *states),
            ).rowcount
        return bool(changed)

    @staticmethod
    def _begin(sql: sqlite3.Connection, run_id: str) -> bool:
        """Make a queued run a running one."""
        now = time.time()
        return bool(
            sql.execute(
                "UPDATE runs SET state = 'running', attempts = attempts + 1, heartbeat = ?, error = NULL, "
                "started_at = COALESCE(started_at, ?) WHERE id = ? AND state = 'queued'",
                (now, now, run_id),
            ).rowcount
        )

    @staticmethod
    def _refuse_second(sql: sqlite3.Connection, project: int) -> None:
        """One active run per project."""
        row = sql.execute(
            "SELECT id, state FROM runs WHERE project = ? AND state IN ('queued', 'running')", (project,)
        ).fetchone()
        if row is not None:
            raise ActiveRunError(
                f"run {row[0]} of project {project} is {row[1]}; wait for it or cancel it first",
                run_id=row[0],
            )

    def _setup_of(self, condition: str, values: tuple[Any, ...]) -> ProjectSetup | None:
        """The setup that a condition of ours finds."""
        row = (
            self._connection()
            .execute(
                "SELECT project, project_key, extra_params, label_config, refused, updated_at FROM setups "  # noqa: S608
                f"WHERE {condition}",
                values,
            )
            .fetchone()
        )
        return None if row is None else ProjectSetup(row[0], row[1], json.loads(row[2]), *row[3:])


def _conditions(project: int | None, state: RunState | None) -> tuple[str, tuple[Any, ...]]:
    """WHERE clause and its values."""
    wanted = {"project = ?": project, "state = ?": state}
    given = {clause: value for clause, value in wanted.items() if value is not None}
    return ("WHERE " + " AND ".join(given) if given else ""), tuple(given.values())


def _stored(name: str, value: Any) -> Any:
    """A value as its column holds it."""
    if name in _JSON and value is not None:
        return json.dumps(value)
    if isinstance(value, str):
        return _proper(value)
    return int(value) if isinstance(value, bool) else value


def _proper(text: str) -> str:
    """Text that SQLite can hold, whatever a foreign error put into its message."""
    return text.encode("utf-8", "backslashreplace").decode()


def _loaded(name: str, value: Any) -> Any:
    """Inverse of `_stored`."""
    if name in _JSON and value is not None:
        return json.loads(value)
    if name == "state":
        return RunState(value)
    return bool(value) if name == "dry_run" else value


def _unusable(directory: Path, error: Exception) -> RunError:
    """The data directory cannot be used."""
    return RunError(
        f"data directory {directory} cannot be used ({error}); check its rights and free space, or set "
        "MODEL_DIR to a directory on a local disk"
    )
