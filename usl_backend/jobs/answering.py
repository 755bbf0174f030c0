"""Answer what needs a run's rows in a child process, for the server: its memory is given back.

`python -m usl_backend.jobs.answering` is the child: it reads the request on its standard input, and writes the answer,
or the error, to its standard output, which is a file.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from usl_backend import errors
from usl_backend.errors import RunError, USLError
from usl_backend.jobs.environment import child_environment
from usl_backend.jobs.logs import log_to_stderr
from usl_backend.jobs.redaction import redacted, secrets_of
from usl_backend.runs import RunStore
from usl_backend.settings import HostSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from usl_backend.exports.media import Media
    from usl_backend.report.compare import Comparison
    from usl_backend.runs import Run
    from usl_backend.studio.client import StudioClient

COMMAND: Final = (sys.executable, "-m", "usl_backend.jobs.answering")
_NICENESS: Final = 10
_ONE = threading.Lock()
"""Held while a child computes: several at once could take all memory and every thread of the server."""


@dataclass(frozen=True)
class AccuracyRequest:
    """A request for the accuracy of a run's suggestions: target share right, and the Choices tag to read."""

    target: float | None = None
    control: str | None = None


@dataclass(frozen=True)
class ArchiveRequest:
    """A request for an archive of a run's split; attributes are the options of `usl-backend export`."""

    format: str = "json"
    media: Media | None = None
    include_labeled: bool = False
    control: str | None = None
    suggested: bool = False
    min_confidence: float | None = None


def accuracy_of_run(host: HostSettings, run: Run, request: AccuracyRequest) -> Mapping[str, Any]:
    """Return what `usl-backend accuracy --json` prints for a run.

    Raises
    ------
    USLError
        As that verb, or another answer is being computed.
    """
    with _answered(host, run, "accuracy", asdict(request)) as answer:
        found: Mapping[str, Any] = json.load(answer)
        return found


def archive_of_run(host: HostSettings, run: Run, request: ArchiveRequest) -> IO[bytes]:
    """Return a ZIP archive of a run's split, as an open file at its start.

    Raises
    ------
    USLError
        As `usl-backend export`, or another answer is being computed.
    """
    return _answered(host, run, "archive", asdict(request))


def comparison_of_runs(host: HostSettings, run: Run, other: Run) -> Comparison:
    """Compare two runs over one project or pool.

    Raises
    ------
    USLError
        As `usl-backend compare`, or another answer is being computed.
    """
    from usl_backend.report.compare import Comparison

    with _answered(host, run, "comparison", {"other": other.id}) as answer:
        return Comparison.from_json(json.load(answer))


def write_archive(
    stream: IO[bytes],
    run: Run,
    request: ArchiveRequest,
    *,
    store: RunStore,
    host: HostSettings,
    client: StudioClient,
) -> None:
    """Write the split of a run to a ZIP archive."""
    from usl_backend.exports import archive_split
    from usl_backend.exports.media import files_of
    from usl_backend.exports.project import project_split
    from usl_backend.sources.media import MediaAccess

    files = store.files(run.id)
    with MediaAccess.of_run(host, files, client).open(client) as stored:
        split = project_split(
            store, run, client=client, control=request.control, include_labeled=request.include_labeled
        )
        if request.suggested:
            from usl_backend.exports.suggested import suggested_split

            split = suggested_split(
                split,
                run,
                store=store,
                host=host,
                client=client,
                control=request.control,
                min_confidence=request.min_confidence,
            )
        archive_split(
            split,
            stream,
            format=request.format,
            media=request.media,
            fetch=files_of(stored, files.read_inventory()),
        )


def _answered(host: HostSettings, run: Run, what: str, request: Mapping[str, Any]) -> IO[bytes]:
    """Let a child answer; return the file with its answer, or raise its error."""
    if not _ONE.acquire(blocking=False):
        raise RunError("the server computes for another request; ask again when that is answered")
    answer = tempfile.TemporaryFile()  # noqa: SIM115 - whoever gets the answer closes it
    try:
        child = subprocess.Popen(
            COMMAND, stdin=subprocess.PIPE, stdout=answer, env=child_environment(host), start_new_session=True
        )
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, child.pid, _NICENESS)
        child.communicate(json.dumps({"run": run.id, "what": what, "request": request}).encode())
        answer.seek(0)
        if child.returncode:
            raise _told(answer.read(), child.returncode)
    except BaseException:
        answer.close()
        raise
    finally:
        _ONE.release()
    return answer


def _told(answer: bytes, code: int) -> USLError:
    """Return the error that a child wrote, as one of its class or of the nearest that takes a message alone."""
    try:
        told = json.loads(answer)
        kind, message = getattr(errors, told["type"]), str(told["message"])
    except (ValueError, KeyError, AttributeError, TypeError):
        return RunError(
            f"the process that computes the answer ended with {code}; the server's log may say why"
        )
    for family in kind.__mro__:
        with suppress(TypeError):
            error: USLError = family(message)
            return error
    raise AssertionError("unreachable: USLError takes a message")


def answer_in_child(asked: Mapping[str, Any], stream: IO[bytes], host: HostSettings) -> int:
    """Write the answer to a request, or its error as JSON; return the exit code."""
    from usl_backend.studio.client import StudioClient

    store = RunStore(host.model_dir)
    try:
        run = store.get(asked["run"])
        if asked["what"] == "comparison":
            from usl_backend.report.compare import compare_runs

            compared = compare_runs(run, store.get(asked["request"]["other"]), store=store)
            stream.write(json.dumps(compared.to_json()).encode())
            stream.flush()
            return 0
        with StudioClient.from_settings(host) as client:
            if asked["what"] == "archive":
                request = ArchiveRequest(**asked["request"])
                write_archive(stream, run, request, store=store, host=host, client=client)
            else:
                found = _accuracy(run, AccuracyRequest(**asked["request"]), store, host=host, client=client)
                stream.write(json.dumps(found).encode())
        stream.flush()
    except USLError as error:
        stream.seek(0)
        stream.truncate()
        told = {"type": type(error).__name__, "message": redacted(str(error), secrets_of(host))}
        stream.write(json.dumps(told).encode())
        stream.flush()
        return 1
    finally:
        store.close()
    return 0


def _accuracy(
    run: Run, request: AccuracyRequest, store: RunStore, *, host: HostSettings, client: StudioClient
) -> dict[str, Any]:
    """Measure the accuracy of a run's suggestions."""
    from usl_backend.suggesting.accuracy import measure_run
    from usl_backend.suggesting.labels import read_run_labels

    labels = read_run_labels(store, run, client=client, control=request.control)
    return measure_run(store, labels, host=host, client=client, target=request.target).to_json()


if __name__ == "__main__":
    _host = HostSettings.load()
    log_to_stderr(_host)
    with os.fdopen(os.dup(1), "w+b") as _stream:
        sys.exit(answer_in_child(json.load(sys.stdin), _stream, _host))
