"""Log formatters, plain text or JSON, with secrets masked by `redaction`."""

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
    """Text formatter that masks secrets in the message and the stack trace.

    Parameters
    ----------
    secrets
       Values to mask, as returned by `secrets_of`.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")
        self._secrets = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """Return the line or lines to write."""
        return redacted(super().format(record), self._secrets)


class JsonFormatter(logging.Formatter):
    """One JSON object per record: `time` (ISO 8601, UTC), `level`, `logger`, `message`, `process`, `run`, `trace`.

    `run` is in every line of a run's own process and in the server's lines about a run; `trace` is there only for
    exceptions.

    Parameters
    ----------
    secrets
       Values to mask, as returned by `secrets_of`.
    run
       Id of the run that this process computes, if any.
    """

    def __init__(self, secrets: Iterable[str], run: str | None = None) -> None:
        super().__init__()
        self._secrets = tuple(secrets)
        self._run = run

    def format(self, record: logging.LogRecord) -> str:
        """Return the line to write."""
        entry = {
            "time": datetime.fromtimestamp(record.created, tz=UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        run = _run_of(record) or self._run
        if run is not None:
            entry["run"] = run
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)
        clean = {
            name: redacted(value, self._secrets) if isinstance(value, str) else value
            for name, value in entry.items()
        }
        return json.dumps(clean)


def log_to_stderr(host: HostSettings, *, run: str | None = None, level: int = logging.INFO) -> None:
    """Log to stderr, secrets masked, in the configured format.

    Parameters
    ----------
    host
        Gives `log_format` and the secret values.
    run
       Id of the run that this process computes, if any.
    level
        Minimum level to write.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(formatter(host, run))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def formatter(host: HostSettings, run: str | None = None) -> logging.Formatter:
    """Return the formatter for the host's `log_format`; parameters as in `log_to_stderr`."""
    secrets = secrets_of(host)
    return JsonFormatter(secrets, run) if host.log_format == "json" else TextFormatter(secrets)


def _run_of(record: logging.LogRecord) -> str | None:
    """Return the run id of a log record: in this package, messages about a run begin with "run %s"."""
    if isinstance(record.args, tuple) and record.args and str(record.msg).startswith("run %s"):
        return str(record.args[0])
    return None
