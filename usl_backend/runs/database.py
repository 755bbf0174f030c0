"""The database file that several processes share: connections, transactions, layout. What it keeps is unknown here."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from usl_backend.errors import RunError, StorageError
from usl_backend.runs.migrations import MIGRATIONS

_PATIENCE: Final = 30.0
"""Seconds to wait for another process that writes."""


class Database:
    """One SQLite file (WAL) in a data directory; may be shared by threads and processes.

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
        self._turn = threading.Lock()
        try:
            directory.mkdir(
                parents=True, exist_ok=True, mode=0o700
            )  # a parent that is made here too would get no mode
            (directory / "runs").mkdir(exist_ok=True, mode=0o700)
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

    @property
    def installation(self) -> str:
        """Six hexadecimal digits, drawn when the directory was first used: tells it from every other."""
        (name,) = self._connection().execute("SELECT id FROM installation").fetchone()
        return str(name)

    def _connection(self) -> sqlite3.Connection:
        """The connection of the calling thread."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            try:
                # closed by close(), from whatever thread; otherwise used by this thread alone
                connection = sqlite3.connect(
                    self.path, timeout=_PATIENCE, isolation_level=None, check_same_thread=False
                )
                _write_ahead(connection)
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
        # Threads of ours take turns here: SQLite lets whoever finds it busy sleep up to a tenth of a second.
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
            except sqlite3.OperationalError as error:
                raise _unusable(self.directory, error) from error

    def _migrate(self) -> None:
        """Bring the file to this version's layout."""
        (version,) = self._connection().execute("PRAGMA user_version").fetchone()
        if version > len(MIGRATIONS):
            raise RunError(
                f"{self.path} has layout {version} but this version knows {len(MIGRATIONS)} at most; "
                "upgrade usl-backend, or set MODEL_DIR to another directory"
            )
        for step in range(version, len(MIGRATIONS)):
            with self._transaction() as sql:
                # another process may have been first
                if sql.execute("PRAGMA user_version").fetchone() == (step,):
                    for statement in MIGRATIONS[step].split(";"):
                        sql.execute(statement)
                    sql.execute(f"PRAGMA user_version = {step + 1}")


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch a new file to WAL; of several that do it at once, SQLite refuses all but one without waiting."""
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


def _unusable(directory: Path, error: Exception) -> StorageError:
    """The data directory cannot be used."""
    return StorageError(
        f"data directory {directory} cannot be used ({error}); check its rights and free space, or set "
        "MODEL_DIR to a directory on a local disk"
    )
