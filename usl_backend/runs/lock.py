"""Who holds what: flock on files, so that a lock never outlives its process. No run state is kept here.

An flock belongs to the open file and is inherited with it: the server opens and locks a run's file and
hands the descriptor to the child, so there is no moment at which a living run looks dead.
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
    """An exclusive flock on a file that is created when needed and left in place.

    The file's text is the holder's process id; it only informs, and only while the lock is held.

    Parameters
    ----------
    path
        The lock file; its folder must exist.

    Raises
    ------
    RunError
        Somebody else holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = _open(path)
        if not _locked(self._descriptor):
            os.close(self._descriptor)
            raise RunError(f"{path} is locked by process {holder(path) or 'unknown'}, which is still at work")
        self.sign(os.getpid())

    @property
    def descriptor(self) -> int:
        """The open file, to be inherited by a child that shall hold the lock too."""
        return self._descriptor

    def sign(self, process: int) -> None:
        """Write down who holds the lock."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(process).encode(), 0)

    def close(self) -> None:
        """Let go; the lock is free when no child holds the same descriptor."""
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
    """Whether a living process holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def holder(path: Path) -> int | None:
    """Process id written by the holder; None when nothing usable stands there."""
    try:
        text = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return None
    return int(text) if text.isdecimal() else None


def _locked(descriptor: int) -> bool:
    """Take the lock; `held` asks by taking it for an instant, so one refusal is not believed."""
    for attempt in range(_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.01 if attempt + 1 < _ATTEMPTS else 0)
        else:
            return True
    return False


def _open(path: Path) -> int:
    """The lock file, readable by its owner alone."""
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StorageError(
            f"cannot write {path}: {error.strerror}; check MODEL_DIR, its rights and disk space"
        ) from None
