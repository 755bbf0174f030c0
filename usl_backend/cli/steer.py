"""`pin`, `exclude`, `queue` and `like`: what people wish of a project's queue, now or for the next run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from usl_backend.cli.options import DATA, STUDIO, host_options, host_settings, json_option, open_store
from usl_backend.cli.verb import Verb

if TYPE_CHECKING:
    from usl_backend.runs.projects import StandingWishes, Wish
    from usl_backend.sinks.asked import Asked

F = TypeVar("F", bound=Callable[..., Any])
SHOWN = 10
"""Number of tasks listed."""


def _tasks(function: F) -> F:
    """Add the arguments and flags that these verbs share."""
    for decorate in (
        host_options(*STUDIO, *DATA),
        json_option,
        click.option("--remove", is_flag=True, help="Take it back for these tasks."),
        click.argument("tasks", nargs=-1, type=int, metavar="[TASK]..."),
        click.argument("target"),
    ):
        function = decorate(function)
    return function


@click.command(cls=Verb)
@_tasks
def pin(target: str, tasks: tuple[int, ...], remove: bool, as_json: bool, **flags: Any) -> None:
    """Pin tasks of a project: every new run picks them, first and in this order. Without tasks, list them.

    TARGET is a project's id or its address. A run's settings name what was pinned when it was started.
    """
    _wish("pin", target, tasks, remove=remove, as_json=as_json, flags=flags)


@click.command(cls=Verb)
@_tasks
def exclude(target: str, tasks: tuple[int, ...], remove: bool, as_json: bool, **flags: Any) -> None:
    """Exclude tasks of a project: no new run queues them. Without tasks, list them.

    TARGET is a project's id or its address. The queue that is in force stays as it is.
    """
    _wish("exclude", target, tasks, remove=remove, as_json=as_json, flags=flags)


@click.command(cls=Verb)
@_tasks
@click.option("--dry-run", is_flag=True, help="Print, but write nothing to Label Studio.")
def queue(
    target: str, tasks: tuple[int, ...], remove: bool, dry_run: bool, as_json: bool, **flags: Any
) -> None:
    """Queue tasks behind the picks and the control set of the run in force, in this order.

    TARGET is a project's id or its address. Picks stay first; tasks that were asked for before keep their place.
    """
    from usl_backend.sinks.asked import queue_tasks, unqueue_tasks
    from usl_backend.sinks.standing import run_in_force
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.target import parse_target

    url, project_id = parse_target(target)
    host = host_settings(flags)
    store = open_store(host)
    with StudioClient.from_settings(host, url=url) as client:
        run = run_in_force(store, client.project(project_id), client=client)
        if remove:
            found = unqueue_tasks(run, tasks, store=store, client=client, dry_run=dry_run)
        else:
            found = queue_tasks(run, tasks, store=store, client=client, dry_run=dry_run)
    _show(found, dry_run=dry_run, as_json=as_json)


@click.command(cls=Verb)
@click.argument("target")
@click.argument("task", type=int)
@click.option("--tasks", type=int, default=20, show_default=True, help="Number of tasks.")
@click.option("--dry-run", is_flag=True, help="Print, but write nothing to Label Studio.")
@json_option
@host_options(*STUDIO, *DATA)
def like(target: str, task: int, tasks: int, dry_run: bool, as_json: bool, **flags: Any) -> None:
    """Queue the unlabeled tasks most like one, behind the picks and the control set, nearest first.

    TARGET is a project's id or its address. Those that are queued already count and keep their place;
    `usl-backend queue TARGET TASK... --remove` takes the others out again.
    """
    from usl_backend.sinks.asked import queue_tasks, similar_tasks
    from usl_backend.sinks.standing import run_in_force
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.target import parse_target

    url, project_id = parse_target(target)
    host = host_settings(flags)
    store = open_store(host)
    with StudioClient.from_settings(host, url=url) as client:
        run = run_in_force(store, client.project(project_id), client=client)
        near = similar_tasks(run, task, tasks, store=store, client=client)
        found = queue_tasks(run, near, store=store, client=client, dry_run=dry_run)
    _show(found, dry_run=dry_run, as_json=as_json)


def _wish(
    wish: Wish, target: str, tasks: tuple[int, ...], *, remove: bool, as_json: bool, flags: dict[str, Any]
) -> None:
    """Change or list the standing wishes of a project."""
    from usl_backend.sources.wishes import check_tasks
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.target import parse_target

    if remove and not tasks:
        raise click.UsageError("--remove needs tasks")
    url, project_id = parse_target(target)
    host = host_settings(flags)
    store = open_store(host)
    with StudioClient.from_settings(host, url=url) as client:
        key = client.project(project_id).key
        if tasks and not remove:
            check_tasks(client, project_id, tasks, pinned=wish == "pin")
    change = store.remove_wishes if remove else store.add_wishes
    stand = change(key, tasks, wish) if tasks else store.wishes(key)
    if as_json:
        click.echo(json.dumps({"project": project_id, "tasks": list(_of(stand, wish))}))
        return
    told = "pinned" if wish == "pin" else "excluded"
    listed = _of(stand, wish)
    click.echo(
        f"project {project_id}: {len(listed)} tasks are {told}" + (f": {_list(listed)}" if listed else "")
    )
    if tasks:
        click.echo(f"the next run goes by it: usl-backend select {project_id}")


def _of(stand: StandingWishes, wish: Wish) -> tuple[int, ...]:
    """Return the tasks of one kind of wish."""
    return stand.pinned if wish == "pin" else stand.excluded


def _show(found: Asked, *, dry_run: bool, as_json: bool) -> None:
    """Print what became of tasks that were asked for."""
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    for task, why in list(found.passed_over.items())[:SHOWN]:
        click.echo(f"warning: task {task} is passed over: {why}")
    if len(found.passed_over) > SHOWN:
        click.echo(f"warning: {len(found.passed_over) - SHOWN} more are passed over")
    if found.tasks:
        click.echo(f"run {found.run}: tasks, first to last: {_list(found.tasks)}")
        click.echo(f"{len(found.new)} of them were queued by this, behind the picks and the control set")
    if found.removed:
        click.echo(f"run {found.run}: taken out of the queue: {_list(found.removed)}")
    if dry_run:
        click.echo("dry run: nothing was written to Label Studio")


def _list(tasks: tuple[int, ...]) -> str:
    """List the first tasks."""
    more = f" ... ({len(tasks) - SHOWN} more)" if len(tasks) > SHOWN else ""
    return " ".join(map(str, tasks[:SHOWN])) + more
