"""SQLite file shared by several processes: connections, transactions and schema migration."""

from __future__ import annotations

import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from usl_backend.errors import RunError, StorageError
from usl_backend.runs.migrations import MIGRATIONS

_PATIENCE: Final = 30.0
"""Seconds to wait for another writing process."""


class Database:
    """One SQLite file (WAL) in a data directory; safe for threads and processes.

    Parameters
    ----------
    directory
        The data directory (`MODEL_DIR`); created if missing, readable by its owner only.

    Raises
    ------
    RunError
        The directory cannot be written, or was written by a newer version of this package.
    """

    FILE: Final = "usl.sqlite3"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.path = directory / self.FILE
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        # Python 3.13 warns of each connection that nobody closed.
        weakref.finalize(self, _close, self._opened)
        self._opening = threading.Lock()
        self._turn = threading.Lock()
        try:
            directory.mkdir(
                parents=True, exist_ok=True, mode=0o700
            )  # `mode` would not apply to a parent created in the same call
            (directory / "runs").mkdir(exist_ok=True, mode=0o700)
        except OSError as error:
            raise _unusable(directory, error) from None
        self._migrate()

    def close(self) -> None:
        """Close the connections of all threads; the store must not be used afterwards."""
        with self._opening:
            _close(self._opened)
        self._local = threading.local()

    @property
    def installation(self) -> str:
        """Return the directory's id: six hexadecimal digits drawn at first use."""
        ((name,),) = self._read("SELECT id FROM installation")
        return str(name)

    def _connection(self) -> sqlite3.Connection:
        """Return the connection of the calling thread."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            try:
                # close() may run in any thread; everything else stays in this one
                connection = sqlite3.connect(
                    self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
                )
                with self._opening:
                    self._opened.append(connection)
                _write_ahead(connection)
                connection.execute("PRAGMA synchronous = NORMAL")
                self.path.chmod(0o600)
            except (sqlite3.Error, OSError) as error:
                raise _unusable(self.directory, error) from None
            self._local.connection = connection
        return connection

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        try:
            return self._connection().execute(query, values).fetchall()
        except sqlite3.ProgrammingError:
            raise
        except sqlite3.DatabaseError as error:
            raise _unusable(self.directory, error) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Run the block in one write transaction, exclusive across processes."""
        connection = self._connection()
        # Serialize our own threads: SQLite's busy handler would sleep for up to a tenth of a second.
        with self._turn:
            try:
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    with suppress(sqlite3.Error):  # the failed statement may have ended the transaction
                        connection.execute("ROLLBACK")
                    raise
            except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
                raise
            except sqlite3.DatabaseError as error:
                raise _unusable(self.directory, error) from error

    def _migrate(self) -> None:
        """Migrate the file to the current schema."""
        ((version,),) = self._read("PRAGMA user_version")
        if version > len(MIGRATIONS):
            raise RunError(
                f"{self.path} has layout {version}, but this version supports at most {len(MIGRATIONS)}; "
                "upgrade usl-backend, or set MODEL_DIR to another directory"
            )
        for step in range(version, len(MIGRATIONS)):
            with self._transaction() as sql:
                # another process may have migrated in the meantime
                if sql.execute("PRAGMA user_version").fetchone() == (step,):
                    for statement in MIGRATIONS[step].split(";"):
                        sql.execute(statement)
                    sql.execute(f"PRAGMA user_version = {step + 1}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch a new file to WAL, retrying: SQLite refuses concurrent switches without waiting."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def _close(connections: list[sqlite3.Connection]) -> None:
    """Close connections and forget them."""
    while connections:
        connections.pop().close()


def _unusable(directory: Path, error: Exception) -> StorageError:
    """Build the error for an unusable data directory."""
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        return StorageError(
            f"{directory / Database.FILE} is damaged ({error}); put a copy of the data directory in its place, or set "
            "MODEL_DIR to another directory"
        )
    return StorageError(
        f"data directory {directory} cannot be used ({error}); check its rights and free space, or set "
        "MODEL_DIR to a directory on a local disk"
    )
