"""`select` and `resume`: compute a run in this shell, with a progress bar per stage."""

from __future__ import annotations

import json
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usl_backend.cli.options import (
    DATA,
    MEDIA,
    STUDIO,
    host_options,
    host_settings,
    json_option,
    open_store,
    run_options,
    split,
)
from usl_backend.cli.summaries import pool_lines, project_lines
from usl_backend.cli.verb import FILES, Flag, Verb
from usl_backend.errors import ActiveRunError, RunError
from usl_backend.instances import Queue
from usl_backend.runs import RunState
from usl_backend.runs.lock import held
from usl_backend.runs.published import queue_to_json
from usl_backend.runs.summary import PoolSummary
from usl_backend.settings import RunSettings

if TYPE_CHECKING:
    from usl_backend.progress import Progress, StageProgress
    from usl_backend.runs import Run, RunStore
    from usl_backend.settings import HostSettings

OUTSIDE = ("output", "import_to", "import_as", "id_key", "label_key", "roots")
"""Options of pools outside Label Studio."""


@click.command(cls=Verb)
@click.argument("target")
@click.option("--dry-run", is_flag=True, help="Select and print, but write nothing to Label Studio.")
@click.option(
    "--output",
    "-o",
    cls=Flag,
    group=FILES,
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write selection.csv to.",
)
@click.option(
    "--import-to",
    cls=Flag,
    group=FILES,
    metavar="PROJECT",
    help="Project to create tasks in, for picks only.",
)
@click.option(
    "--import-as",
    cls=Flag,
    group=FILES,
    type=click.Choice(["upload", "url", "local-files"]),
    help="Way in which these tasks refer to their pictures. Default: upload files, keep URLs.",
)
@click.option(
    "--id-key",
    cls=Flag,
    group=FILES,
    metavar="NAME",
    help='Column of ids in a manifest; "none" for no ids. Default: recognized by its name.',
)
@click.option(
    "--label-key",
    cls=Flag,
    group=FILES,
    metavar="NAME",
    help='Column of labels in a manifest, used with --keep-labels; "none" for no labels. Default: recognized by its '
    "name.",
)
@click.option(
    "--root",
    "roots",
    cls=Flag,
    group=FILES,
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Further folder in which a manifest may refer to files, besides its own.",
)
@json_option
@run_options
@host_options("ray_address", *STUDIO, *DATA, *MEDIA)
def select(target: str, dry_run: bool, as_json: bool, **flags: Any) -> None:
    """Choose which tasks of a project to label first, and queue them in Label Studio.

    TARGET is a project's id or its address, such as 12 or http://localhost:8080/projects/12/data; or a pool outside
    Label Studio: a folder of pictures, a quoted pattern, a CSV, JSON-lines or Parquet manifest, or vectors (.npy,
    .npz, .parquet). For such a pool the result is selection.csv and, with --import-to, tasks for the chosen instances.
    """
    from usl_backend.exports.usable import usable_formats
    from usl_backend.jobs.run_settings import settings_of
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.label_config import parse
    from usl_backend.studio.target import is_project, parse_target

    given = {name: flags.pop(name) for name in OUTSIDE}
    if not is_project(target):
        _select_outside(target, given, dry_run=dry_run, as_json=as_json, flags=flags)
        return
    if any(given.values()):
        flag = next("--" + name.replace("_", "-") for name, value in given.items() if value)
        raise click.UsageError(f"{flag.replace('roots', 'root')} is for pools outside Label Studio")
    url, project_id = parse_target(target)
    host, (_, explicit) = host_settings(flags), split(flags)
    # Report a bad flag before the first request or write.
    RunSettings.resolve(explicit=explicit, free_paths=True)
    with StudioClient.from_settings(host, url=url) as client:
        project = client.project(project_id)
    store = open_store(host)
    settings = settings_of(store, project.id, project.key, explicit, free_paths=True)
    if (usable := usable_formats(parse(project.label_config))).limited:
        click.echo(f"note: {usable}", err=True)
    try:
        run = store.create(
            project=project.id,
            project_key=project.key,
            settings=settings.to_json(),
            dry_run=dry_run,
            place="shell",
        )
    except ActiveRunError as error:
        raise _active(store, error) from None
    show(store, compute(store, run, host), as_json=as_json)


def _select_outside(
    text: str, given: dict[str, Any], *, dry_run: bool, as_json: bool, flags: dict[str, Any]
) -> None:
    """Run `select` for a TARGET outside Label Studio."""
    from usl_backend.cli import outside
    from usl_backend.sources import find

    host, (_, explicit) = host_settings(flags), split(flags)
    settings = RunSettings.resolve(explicit=explicit, free_paths=True)
    target = find(
        text,
        data_key=settings.data_key,
        id_key=given["id_key"],
        label_key=given["label_key"],
        roots=tuple(str(root.resolve()) for root in given["roots"]),
    )
    store = open_store(host)
    try:
        run = outside.create(
            store,
            host,
            target,
            settings,
            dry_run=dry_run,
            import_to=given["import_to"],
            import_as=given["import_as"],
        )
    except ActiveRunError as error:
        raise _active(store, error) from None
    done = compute(store, run, host)
    outside.keep_table(done, given["output"])
    show(store, done, as_json=as_json, output=given["output"])


@click.command(cls=Verb)
@click.argument("run_id")
@json_option
@host_options("ray_address", *STUDIO, *DATA, *MEDIA)
def resume(run_id: str, as_json: bool, **flags: Any) -> None:
    """Continue a run that failed, was cancelled or was interrupted; completed stages are kept."""
    host = host_settings(flags)
    store = open_store(host)
    run = store.get(run_id)
    if not run.settings:
        raise RunError(f"run {run_id} has no valid settings; correct them and start a new one")
    if run.state is RunState.RUNNING and not held(store.files(run_id).lock):
        # The process died without recording it.
        store.fail(run_id, "ProcessDied", "the process that computed the run is gone; resume it")
        run = store.get(run_id)
    if run.state is not RunState.QUEUED:
        run = store.resume(run_id, place="shell")
    show(store, compute(store, run, host), as_json=as_json)


def compute(store: RunStore, run: Run, host: HostSettings) -> Run:
    """Compute a queued run here, with progress bars; log messages go to the run's log file."""
    from usl_backend.encoders.allocator import keep_freed_memory
    from usl_backend.jobs import run_here
    from usl_backend.jobs.logs import formatter

    keep_freed_memory()  # before the bars have a thread, which would get an arena of its own
    log = logging.FileHandler(store.files(run.id).log, encoding="utf-8")
    log.setFormatter(formatter(host, run.id))
    ours = logging.getLogger("usl_backend")
    level = ours.level
    ours.addHandler(log)
    ours.setLevel(min(logging.INFO, ours.getEffectiveLevel()))
    # SIGTERM does the same as Ctrl-C: cancel, and leave nothing half-written.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with bars() as watch:
            return run_here(store, run, host=host, watch=watch)
    finally:
        signal.signal(signal.SIGTERM, before)
        ours.setLevel(level)
        ours.removeHandler(log)
        log.close()


def _active(store: RunStore, error: ActiveRunError) -> RunError:
    """Return the error for another active run of the same project, with commands for it."""
    run = store.get(error.run_id)
    if run.state is RunState.RUNNING and not held(store.files(run.id).lock):
        return RunError(
            f"run {run.id} of {run.subject} was interrupted and is not finished; "
            f"`usl-backend resume {run.id}` continues it, `usl-backend cancel {run.id}` drops it"
        )
    return RunError(f"{error} (`usl-backend status {run.id}`, `usl-backend cancel {run.id}`)")


@contextmanager
def bars() -> Iterator[StageProgress]:
    """Show a progress bar per stage on stderr."""
    from rich import progress as rich
    from rich.console import Console

    columns = (
        rich.TextColumn("{task.description:<8}"),
        rich.BarColumn(),
        rich.MofNCompleteColumn(),
        rich.TimeElapsedColumn(),
        rich.TextColumn("{task.fields[step]}"),
    )
    bars: dict[str, rich.TaskID] = {}
    with rich.Progress(*columns, console=Console(stderr=True)) as progress:

        def watch(stage: str, /) -> Progress:
            if stage not in bars:
                _complete(progress, bars)
                bars[stage] = progress.add_task(stage, total=None, step="")

            def report(step: str, done: int, total: int, /) -> None:
                progress.update(bars[stage], completed=done, total=total or None, step=step)

            return report

        yield watch
        _complete(progress, bars)


def _complete(progress: Any, bars: dict[str, Any]) -> None:
    """Stop the clock of the earlier stages."""
    for task in bars.values():
        progress.stop_task(task)
        progress.update(task, step="")


def show(store: RunStore, run: Run, *, as_json: bool, output: Path | None = None) -> None:
    """Print the result of a run; raise RunError unless it is done."""
    if as_json:
        queue = store.files(run.id).read_published().queue if run.state is RunState.DONE else Queue()
        click.echo(json.dumps({**run.to_json(), "queue": queue_to_json(queue)}, indent=1))
    if run.state in (RunState.FAILED, RunState.PAUSED):
        message = str((run.error or {}).get("message", "it failed"))
        raise RunError(f"{message} (run {run.id})" if run.id not in message else message)
    if run.state is not RunState.DONE:
        raise RunError(f"run {run.id} was {run.state}; `usl-backend resume {run.id}` continues it")
    if not as_json:
        assert run.summary is not None, "a completed run has a summary"
        shown = (
            pool_lines(run.summary, run.id, output)
            if isinstance(run.summary, PoolSummary)
            else project_lines(run.summary, run.id, store.files(run.id).read_published())
        )
        for line in shown:
            click.echo(line)
