"""Extend, publish again or reset a project's queue, or measure budgets, in a child process for the server.

`python -m usl_backend.jobs.tending RUN` is the child; settings come from the environment, the request from the record.
"""

from __future__ import annotations

import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Literal, get_args

from usl_backend.errors import InputError, RunError
from usl_backend.jobs.logs import log_to_stderr
from usl_backend.jobs.side_process import KeptJob, start_side_process
from usl_backend.runs import RunState, RunStore
from usl_backend.runs.suggest_job import SuggestJob
from usl_backend.settings import HostSettings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from usl_backend.runs import Run
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.records import Project

Deed = Literal["extend", "publish", "reset", "measure"]

COMMAND: tuple[str, ...] = (sys.executable, "-m", "usl_backend.jobs.tending")
"""Command line of the child; the run id is appended."""


def start_tending(store: RunStore, host: HostSettings, run: Run, deed: Deed) -> SuggestJob:
    """Start a process that changes the queue that a run has published; return its record.

    Parameters
    ----------
    store, host
        Passed to the process through its environment.
    run
        A completed run that has published a queue to a project.
    deed
        "extend": queue the new tasks behind. "publish": write the queue again as it was published. "reset": restore
        the project. "measure": measure what other budgets would reach, which any completed run can.

    Raises
    ------
    ActiveRunError
        The queue is being changed, budgets are measured, or a run of its project is active.
    RunError
        The run has published nothing, or the process cannot be started.
    """
    if deed == "measure":
        if run.state is not RunState.DONE or not store.files(run.id).has_pool():
            raise RunError(
                f"run {run.id} is {run.state} or its files were removed; start a dry run to measure budgets"
            )
    elif run.state is not RunState.DONE or run.dry_run or run.published_to is None:
        raise RunError(f"run {run.id} has published no queue to a project, so there is none to {deed}")
    if deed == "extend" and run.pool:
        raise RunError(
            f"run {run.id} selected from {run.address}, whose new files are not tasks; start a new run"
        )
    store.refuse_second(project=run.project if run.published_to is None else run.published_to.id)
    job = SuggestJob(run.id, {"deed": deed}, started_at=time.time())
    busy = f"the queue of run {run.id} is being changed, or its budgets are being measured; wait for it"
    start_side_process(store.files(run.id), job, kind="tend", command=COMMAND, host=host, busy=busy)
    return job


def tend_in_child(run_id: str, host: HostSettings) -> int:
    """Carry out the request in a run's record, and keep the record; return the exit code."""
    with closing(RunStore(host.model_dir)) as store:
        run = store.get(run_id)
        kept = KeptJob(store.files(run_id), "tend")
        return kept.carry_out(lambda: _tend(run, kept, store=store, host=host), host=host)


def _tend(run: Run, kept: KeptJob, *, store: RunStore, host: HostSettings) -> Mapping[str, Any]:
    """Change the queue; return what was done."""
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.transport import PATIENT_ATTEMPTS

    deed = kept.job.request.get("deed")
    if deed not in get_args(Deed):
        raise InputError(f"{deed!r} is nothing to do with a queue; known are {', '.join(get_args(Deed))}")
    if deed == "measure":
        return _measure(run, kept, store=store)
    into = run.published_to
    if into is None:
        raise RunError(f"run {run.id} has published no queue to a project")
    with StudioClient.from_settings(host, attempts=PATIENT_ATTEMPTS) as client:
        project = client.project(into.id)
        if project.key != into.key:
            raise InputError(f"project {into.id} was deleted, and another project now has its id")
        if deed == "extend":
            return _extend(run, project, kept, store=store, host=host, client=client)
        if deed == "reset":
            return _reset(project, kept, store=store, client=client)
        from usl_backend.sinks.republish import republish

        done = republish(run, store=store, client=client, progress=kept.stage("publish"))
        return {
            "said": f"The queue of run {run.id} is in force: {len(done.queue)} tasks.",
            "notes": list(done.warnings),
        }


def _extend(
    run: Run, project: Project, kept: KeptJob, *, store: RunStore, host: HostSettings, client: StudioClient
) -> Mapping[str, Any]:
    """Queue the new tasks."""
    from usl_backend.pipeline.extend import extend
    from usl_backend.sinks.standing import run_in_force

    owner = run_in_force(store, project, client=client)
    if owner.id != run.id:
        raise InputError(f"run {run.id} is not in force in project {project.id}, run {owner.id} is")
    found = extend(run, store=store, host=host, client=client, watch=kept.stage)
    said = (
        f"{found.queued} new tasks were queued behind the others." if found.tasks else "No task was queued."
    )
    notes = [f"Task {task} is left out: {why}." for task, why in list(found.skipped.items())[:5]]
    return {"said": said, "notes": [f"{found.reason[:1].upper()}{found.reason[1:]}.", *notes]}


def _measure(run: Run, kept: KeptJob, *, store: RunStore) -> Mapping[str, Any]:
    """Measure budgets on what the run has stored."""
    from usl_backend.encoders.allocator import keep_freed_memory
    from usl_backend.pipeline.select import measure_budgets
    from usl_backend.settings import RunSettings

    keep_freed_memory()
    files = store.files(run.id)
    pool, _ = files.read_pool()
    inventory = files.read_inventory()
    curve = measure_budgets(
        files,
        pool,
        RunSettings.from_json(run.settings),
        classes=len(inventory.classes),
        labeled=pool.rows_of(inventory.labeled),
        progress=kept.stage("measure"),
    )
    if curve is None:
        return {"said": f"Budgets of run {run.id} cannot be compared: its method would have to train again."}
    return {"said": f"Budgets from 1 to {curve.budgets[-1]} were measured on the tasks of run {run.id}."}


def _reset(project: Project, kept: KeptJob, *, store: RunStore, client: StudioClient) -> Mapping[str, Any]:
    """Restore the project."""
    from usl_backend.sinks.restoring import restore

    done = restore(client, project, store=store, progress=kept.stage("reset"))
    notes = [*(f"Restored: {line}." for line in done.restored), *(f"Left: {line}." for line in done.left)]
    said = (
        "The project was restored, except for what is listed as left; the labels stay."
        if done.left
        else "The project is as it was before the first run; the labels stay."
    )
    return {"said": said, "notes": notes}


if __name__ == "__main__":
    _host = HostSettings.load()
    log_to_stderr(_host)
    sys.exit(tend_in_child(sys.argv[1], _host))
