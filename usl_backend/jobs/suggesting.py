"""Make suggestions in a child process, for the server; `runs.suggest_job` keeps its record.

`python -m usl_backend.jobs.suggesting RUN` is the child; settings come from the environment, the request from the
record.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING

from usl_backend.errors import RunError, UnknownRunError
from usl_backend.jobs.logs import log_to_stderr
from usl_backend.jobs.side_process import KeptJob, start_side_process
from usl_backend.runs import RunState, RunStore
from usl_backend.runs.suggest_job import SuggestJob
from usl_backend.settings import HostSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from usl_backend.runs import Run
    from usl_backend.suggesting.request import SuggestRequest

COMMAND: tuple[str, ...] = (sys.executable, "-m", "usl_backend.jobs.suggesting")
"""Command line that makes suggestions; the run id is appended."""


def published_run(store: RunStore, project: int) -> Run:
    """Return the run that published to a project last, by the records of this data directory; else its newest one.

    Raises
    ------
    RunError
        There is none.
    """
    state = store.queue_state(store.key_of(project))
    if state is not None:
        with suppress(UnknownRunError):
            owner = store.get(state.run_id)
            if owner.state is RunState.DONE:
                return owner
    for run in store.list(project=project, state=RunState.DONE):
        if not run.dry_run and store.files(run.id).has_published():
            return run
    raise RunError(
        f"project {project} has no completed run; run `usl-backend select {project}` or press Start Training first"
    )


def start_suggesting(store: RunStore, host: HostSettings, run: Run, request: SuggestRequest) -> SuggestJob:
    """Start a process that makes the suggestions of a run; return its record.

    Parameters
    ----------
    store, host
        Passed to the process through its environment.
    run
        A completed run of a project.
    request
        What to do with them.

    Raises
    ------
    ActiveRunError
        Suggestions for the run are being made, or a run of its project is active.
    RunError
        The run has no project of its own, or the process cannot be started.
    """
    if run.pool or run.dry_run or run.state is not RunState.DONE:
        raise RunError(f"run {run.id} gets no suggestions; they need a completed run of a project")
    store.refuse_second(project=run.project)
    job = SuggestJob(run.id, asdict(request), started_at=time.time())
    start_side_process(
        store.files(run.id),
        job,
        kind="suggest",
        command=COMMAND,
        host=host,
        busy=f"suggestions for run {run.id} are being made; wait for them",
    )
    return job


def suggest_in_child(run_id: str, host: HostSettings) -> int:
    """Carry out the request in a run's record, check the labels too, and keep the record; return the exit code."""
    with closing(RunStore(host.model_dir)) as store:
        run = store.get(run_id)
        kept = KeptJob(store.files(run_id), "suggest")
        return kept.carry_out(lambda: _suggest(run, kept, store=store, host=host), host=host)


def _suggest(run: Run, kept: KeptJob, *, store: RunStore, host: HostSettings) -> Mapping[str, Any]:
    """Make the suggestions, and check the labels."""
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.transport import PATIENT_ATTEMPTS
    from usl_backend.suggesting.doubts import find_doubts
    from usl_backend.suggesting.request import SuggestRequest
    from usl_backend.suggesting.work import carry_out

    with StudioClient.from_settings(host, attempts=PATIENT_ATTEMPTS) as client:
        outcome = carry_out(
            SuggestRequest(**kept.job.request),
            project=run.project,
            run=run,
            store=store,
            host=host,
            client=client,
            watch=kept.stage,
        )
    find_doubts(store, outcome.found.labels, host=host)
    return outcome.to_json()


if __name__ == "__main__":
    _host = HostSettings.load()
    log_to_stderr(_host)
    sys.exit(suggest_in_child(sys.argv[1], _host))
