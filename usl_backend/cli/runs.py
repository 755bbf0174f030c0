"""`status`, `cancel` and `gc`: the runs of this data directory; these verbs need no Label Studio."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from usl_backend.cli.options import DATA, host_options, host_settings, json_option, open_store
from usl_backend.cli.overview import lines, moment, overview, size
from usl_backend.cli.verb import Verb
from usl_backend.errors import InputError
from usl_backend.runs import RunState
from usl_backend.runs.lock import held
from usl_backend.runs.serving import running
from usl_backend.runs.summary import PoolSummary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from usl_backend.runs import Run, RunStore


_COLUMNS = ("run", "state", "budget", "method", "picks", "progress", "started", "took", "title")
_NARROW = ("run", "state", "picks", "progress", "title")
_WIDE = 100
"""Width in characters from which every column has room."""


@click.command(cls=Verb)
@click.argument("target", required=False)
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(min=1), help="Number of runs to list."
)
@json_option
@host_options(*DATA)
def status(target: str | None, limit: int, as_json: bool, **flags: Any) -> None:
    """Show server, queue, disk, last errors and the latest runs; or the runs of a project (12), or one run (12-7)."""
    host = host_settings(flags)
    store = open_store(host)
    if target is not None and "-" in target:
        run = store.get(target)
        if as_json:
            click.echo(json.dumps(run.to_json(), indent=1))
        else:
            for line in _details(store, run):
                click.echo(line)
        return
    runs = store.list(**_narrowed(store, target), limit=limit)
    whole = overview(store) if target is None else None
    if as_json:
        listed = [run.to_json() for run in runs]
        click.echo(json.dumps(listed if whole is None else {**asdict(whole), "list": listed}, indent=1))
        return
    if whole is not None:
        for line in lines(whole, host):
            click.echo(line)
    if runs:
        _table(store, runs)
    else:
        click.echo(
            "no runs yet; start one with `usl-backend select TARGET` or Start Training in Label Studio"
        )


@click.command(cls=Verb)
@click.argument("run_id")
@json_option
@host_options(*DATA)
def cancel(run_id: str, as_json: bool, **flags: Any) -> None:
    """Stop a queued or running run; it can be resumed."""
    store = open_store(host_settings(flags))
    run = store.cancel(run_id)
    if as_json:
        click.echo(json.dumps(run.to_json(), indent=1))
    else:
        click.echo(f"run {run.id} is cancelled; `usl-backend resume {run.id}` continues it")


@click.command(cls=Verb)
@click.option(
    "--keep",
    default=5,
    show_default=True,
    type=click.IntRange(min=1),
    help="Number of runs to keep per project.",
)
@click.option("--cache", is_flag=True, help="Remove the embeddings too; the next run computes them again.")
@click.option("--dry-run", is_flag=True, help="Only list what would be removed.")
@json_option
@host_options(*DATA)
def gc(keep: int, cache: bool, dry_run: bool, as_json: bool, **flags: Any) -> None:
    """Remove the files of old runs.

    The newest runs of every project are kept, and so are active runs, runs in force in Label Studio and the newest
    completed run; all others are removed with their records. The embeddings of all runs share one cache, which is kept
    unless --cache is given.
    """
    from usl_backend.runs.retention import collect

    store = open_store(host_settings(flags))
    removed = collect(store, keep=keep, cache=cache, dry_run=dry_run)
    if as_json:
        click.echo(
            json.dumps({"removed": [str(path) for path, _ in removed], "bytes": sum(n for _, n in removed)})
        )
        return
    for path, count in removed:
        click.echo(f"{path}  {size(count)}")
    verb = "would free" if dry_run else "freed"
    click.echo(f"{verb} {size(sum(count for _, count in removed))}")


def _narrowed(store: RunStore, target: str | None) -> dict[str, Any]:
    """Return the filter for a project, or for a pool outside Label Studio, if one is given."""
    if target is None:
        return {}
    if target.isdecimal():
        return {"project": int(target)}
    if store.list(pool=target, limit=1):
        return {"pool": target}
    raise InputError(
        f"{target!r} is not a project with runs; give a project such as 12, a run such as 12-7, or a pool with runs"
    )


def shown_state(store: RunStore, run: Run) -> str:
    """Return a run's state, for people: "interrupted" if it is running but its process is gone."""
    if run.state is RunState.RUNNING and not held(store.files(run.id).lock):
        return "interrupted"
    return run.state.value


def _table(store: RunStore, runs: Sequence[Run]) -> None:
    """Print the runs, newest first."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    shown = _COLUMNS if console.width >= _WIDE else _NARROW
    for heading in shown:
        # Only the title gives way where there is little room.
        table.add_column(heading, no_wrap=heading != "title")
    for run in runs:
        cells = _cells(run, state=shown_state(store, run))
        title = Text(cells.pop("title"), no_wrap=True, overflow="ellipsis")
        table.add_row(*(cells.get(heading, title) for heading in shown))
    console.print(table)


def _cells(run: Run, *, state: str) -> dict[str, str]:
    """Return what the table says of a run, by column."""
    running = run.state is RunState.RUNNING and run.stage
    return {
        "run": run.id + (" (dry)" if run.dry_run else ""),
        "state": state,
        "budget": str(run.settings.get("budget") or "default"),
        "method": str(run.settings.get("method", "")),
        "picks": "" if run.summary is None else str(run.summary.picks),
        "progress": f"{run.stage} {run.done}/{run.total}" if running else "",
        "started": moment(run.started_at or run.created_at),
        "took": _duration(run),
        "title": "" if run.summary is None else run.summary.project.title,
    }


def _details(store: RunStore, run: Run) -> Iterator[str]:
    """Return the lines about one run."""
    server = running(store.directory)
    yield f"run {run.id}: {shown_state(store, run)}{' (dry run)' if run.dry_run else ''}"
    yield f"{run.subject}, created {moment(run.created_at)}, attempts {run.attempts}"
    if run.state.is_active and run.stage:
        yield f"{run.stage}: {run.done} of {run.total} {run.step or ''}".rstrip()
    if run.error:
        yield f"error: {run.error.get('message')}"
    summary = run.summary
    if summary is not None:
        yield f"chose {summary.picks} of {summary.pool.readable} tasks, {summary.reserve} in reserve"
        if summary.pool.several:
            yield f"{summary.pool.several} tasks show several images or texts; the row of each is their mean"
        if isinstance(summary, PoolSummary):
            yield f"picks: {summary.selection}"
        if summary.tab is not None:
            yield f"tab: {summary.tab.url}"
        if server is not None and server.pages:
            yield f"page: {server.pages}/runs/{run.id}"
        yield "seconds: " + ", ".join(f"{stage} {taken}" for stage, taken in summary.seconds.items())
        for warning in summary.warnings:
            yield f"warning: {warning}"
    yield "settings: " + json.dumps(
        {name: value for name, value in run.settings.items() if value is not None}
    )
    skipped = _unreadable(store, run)
    if skipped:
        yield f"{len(skipped)} unreadable tasks:"
        for task, reason in sorted(skipped.items()):
            yield f"  {task}  {reason}"


def _unreadable(store: RunStore, run: Run) -> dict[int, str]:
    """Return the tasks that could not be read, with the reasons, as far as the run got."""
    files = store.files(run.id)
    if not (files.has_instances() and files.has_pool()):
        return {}
    return files.read_inventory().unread(files.read_pool()[0])


def _duration(run: Run) -> str:
    """Format the wall time of an ended run."""
    if run.started_at is None or run.finished_at is None:
        return ""
    return f"{run.finished_at - run.started_at:.0f} s"
