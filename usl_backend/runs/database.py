"""The database file that several processes share: connections, transactions, layout. What it keeps is unknown here."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from usl_backend.errors import RunError

from .migrations import MIGRATIONS


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


def _unusable(directory: Path, error: Exception) -> RunError:
    """The data directory cannot be used."""
    return RunError(
        f"data directory {directory} cannot be used ({error}); check its rights and free space, or set "
        "MODEL_DIR to a directory on a local disk"
    )
