"""Start, watch and stop one child process of our own; what the child is, its owner knows."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

logger = logging.getLogger(__name__)

PATIENCE = 15.0


def spawn(
    command: Sequence[str], *, environment: Mapping[str, str], log_path: Path
) -> subprocess.Popen[bytes]:
    """Start a command in a process group of its own, so that our terminal's Ctrl-C reaches it only through `stop`.

    Parameters
    ----------
    command
        Program and arguments.
    environment
        The child's whole environment.
    log_path
        File that takes its output and errors, begun anew; its folder is the child's working directory.

    Returns
    -------
    subprocess.Popen
        The running child; its process id is also its group's.
    """
    with log_path.open("wb") as log:
        return subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=log_path.parent,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes], *, name: str) -> None:
    """Stop a child and its group, and nothing else: first asked, then made.

    Parameters
    ----------
    process
        From `spawn`; may have ended by itself.
    name
        What to call it in a warning.
    """
    for sent in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sent)
        try:
            process.wait(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            logger.warning("%s (process %d) did not stop within %.0f s", name, process.pid, PATIENCE)
        else:
            return


def tail(log_path: Path, lines: int = 25) -> str:
    """The last lines of a child's log, joined by newlines; empty when there is none."""
    if not log_path.exists():
        return ""
    return "\n".join(log_path.read_text("utf-8", errors="replace").splitlines()[-lines:])
