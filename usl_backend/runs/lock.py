"""Process locks based on flock, released by the kernel when their process dies.

An flock belongs to the open file and is inherited with it: the server opens and locks a run's file and
hands the descriptor to the child, so a living run never looks dead.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from usl_backend.errors import RunError, StorageError

_ATTEMPTS = 10


class Lock:
    """An exclusive flock on a file that is created if missing and never removed.

    The file contains the holder's process id, for information, and only valid while the lock is held.

    Parameters
    ----------
    path
        The lock file; its folder must exist.

    Raises
    ------
    RunError
        Another process holds it.
    StorageError
        The file cannot be written, or its file system has no locks.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = _open(path)
        try:
            locked = _locked(self._descriptor)
        except OSError as error:
            os.close(self._descriptor)
            raise _no_locks(path, error) from None
        if not locked:
            os.close(self._descriptor)
            raise RunError(f"{path} is locked by process {holder(path) or 'unknown'}, which is still at work")
        self.sign(os.getpid())

    @property
    def descriptor(self) -> int:
        """File descriptor, to be inherited by a child that must hold the lock too."""
        return self._descriptor

    def sign(self, process: int) -> None:
        """Write the holder's process id into the file."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(process).encode(), 0)

    def close(self) -> None:
        """Release the lock; it stays taken while a child holds the same descriptor."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def held(path: Path) -> bool:
    """Return True if a living process holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        raise _no_locks(path, error) from None
    finally:
        os.close(descriptor)
    return False


def holder(path: Path) -> int | None:
    """Return the process id written by the holder, or None if the file has no valid one."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdecimal() else None


def _locked(descriptor: int) -> bool:
    """Try to take the lock, several times: `held` tests by taking it for an instant."""
    for attempt in range(_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01 if attempt + 1 < _ATTEMPTS else 0)
        else:
            return True
    return False


def _no_locks(path: Path, error: OSError) -> StorageError:
    """Build the error for a file system without locks, such as many that are mounted over a network."""
    return StorageError(
        f"{path} cannot be locked ({error.strerror or error}): its file system has no file locks, as many network file "
        "systems; set MODEL_DIR to a directory on a local disk"
    )


def _open(path: Path) -> int:
    """Open the lock file, readable by its owner only."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror}; check MODEL_DIR, its permissions and free disk space"
        ) from None
