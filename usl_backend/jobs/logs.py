"""How a process of ours writes its log: lines for people, or JSON for machines. What is masked is `redaction.py`'s."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from usl_backend.jobs.redaction import redacted, secrets_of

if TYPE_CHECKING:
    from usl_backend.settings import HostSettings


class TextFormatter(logging.Formatter):
    """Formats a record with its trace, then removes what must not be read.

    Parameters
    ----------
    secrets
        As `secrets_of` gives them.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._secrets = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """The line or lines to write."""
        return redacted(super().format(record), self._secrets)


class JsonFormatter(logging.Formatter):
    """One JSON object per record: `time` (ISO 8601, UTC), `level`, `logger`, `message`, `process`, `run`, `trace`.

    `run` stands in every line of a run's own process, and in those lines of the server that are about a run;
    `trace` only where there is one.

    Parameters
    ----------
    secrets
        As `secrets_of` gives them.
    run
        The run that this process computes, if it does.
    """

    def __init__(self, secrets: Iterable[str], run: str | None = None) -> None:
        super().__init__()
        self._secrets = tuple(secrets)
        self._run = run

    def format(self, record: logging.LogRecord) -> str:
        """The line to write."""
        told = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        run = _run_of(record) or self._run
        if run is not None:
            told["run"] = run
        if record.exc_info:
            told["trace"] = self.formatException(record.exc_info)
        clean = {
            name: redacted(value, self._secrets) if isinstance(value, str) else value
            for name, value in told.items()
        }
        return json.dumps(clean)


def log_to_stderr(host: HostSettings, *, run: str | None = None, level: int = logging.INFO) -> None:
    """Send this process's log to stderr, without secrets, in the format that the host asks for.

    Parameters
    ----------
    host
        Its `log_format`, and which values are secret.
    run
        The run that this process computes, if it does.
    level
        Least level that is written.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(host, run))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def formatter(host: HostSettings, run: str | None = None) -> logging.Formatter:
    """What makes lines of a log, in the format that the host asks for; parameters as in `log_to_stderr`."""
    secrets = secrets_of(host)
    return JsonFormatter(secrets, run) if host.log_format == "json" else TextFormatter(secrets)


def _run_of(record: logging.LogRecord) -> str | None:
    """The run that a line is about: in this package such lines begin with "run %s"."""
    if isinstance(record.args, tuple) and record.args and str(record.msg).startswith("run %s"):
        return str(record.args[0])
    return None
