"""What people wish of a project's queue, as JSON: pins and exclusions of runs to come, tasks for the queue."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flask import Blueprint, request

from usl_backend.errors import InputError
from usl_backend.runs import parse_project_key
from usl_backend.web.services import STUDIO_SECONDS, json_body, services

if TYPE_CHECKING:
    from usl_backend.runs.projects import Wish
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.records import Project

blueprint = Blueprint("api_steering", __name__)


@blueprint.get("/projects/<int:project>/pins")
def list_pins(project: int) -> Mapping[str, Any]:
    """List the tasks that every new run of a project picks."""
    return _listed(project, "pin")


@blueprint.post("/projects/<int:project>/pins")
def add_pins(project: int) -> Mapping[str, Any]:
    """Pin tasks for the next runs: `{"tasks": [4711]}`."""
    return _changed(project, "pin")


@blueprint.delete("/projects/<int:project>/pins")
def remove_pins(project: int) -> Mapping[str, Any]:
    """Take pins back: `{"tasks": [4711]}`."""
    return _changed(project, "pin")


@blueprint.get("/projects/<int:project>/exclusions")
def list_exclusions(project: int) -> Mapping[str, Any]:
    """List the tasks that no new run of a project queues."""
    return _listed(project, "exclude")


@blueprint.post("/projects/<int:project>/exclusions")
def add_exclusions(project: int) -> Mapping[str, Any]:
    """Exclude tasks from the next runs: `{"tasks": [4711]}`."""
    return _changed(project, "exclude")


@blueprint.delete("/projects/<int:project>/exclusions")
def remove_exclusions(project: int) -> Mapping[str, Any]:
    """Take exclusions back: `{"tasks": [4711]}`."""
    return _changed(project, "exclude")


@blueprint.get("/projects/<int:project>/queue")
def show_queue(project: int) -> Mapping[str, Any]:
    """List the tasks that people asked for in the queue published last, in labeling order."""
    store = services().store
    state = store.queue_state(_key(project))
    if state is None:
        return {"run": "", "tasks": ()}
    return {"run": state.run_id, "tasks": store.files(state.run_id).read_published().queue.asked}


@blueprint.post("/projects/<int:project>/queue")
def queue(project: int) -> Mapping[str, Any]:
    """Queue tasks behind the picks and the control set: `{"tasks": [4711], "dry_run": false}`."""
    from usl_backend.sinks.asked import queue_tasks
    from usl_backend.sinks.standing import run_in_force

    body = json_body()
    tasks, dry_run = _tasks(body, "dry_run"), _switch(body)
    store = services().store
    with _project(project) as (client, now):
        run = run_in_force(store, now, client=client)
        found = queue_tasks(run, tasks, store=store, client=client, dry_run=dry_run)
    return found.to_json()


@blueprint.delete("/projects/<int:project>/queue")
def unqueue(project: int) -> Mapping[str, Any]:
    """Take tasks out of the queue that people asked for: `{"tasks": [4711], "dry_run": false}`."""
    from usl_backend.sinks.asked import unqueue_tasks
    from usl_backend.sinks.standing import run_in_force

    body = json_body()
    tasks, dry_run = _tasks(body, "dry_run"), _switch(body)
    store = services().store
    with _project(project) as (client, now):
        run = run_in_force(store, now, client=client)
        return unqueue_tasks(run, tasks, store=store, client=client, dry_run=dry_run).to_json()


@blueprint.post("/projects/<int:project>/similar")
def similar(project: int) -> Mapping[str, Any]:
    """Queue the unlabeled tasks most like one: `{"task": 4711, "tasks": 20, "dry_run": false}`."""
    from usl_backend.sinks.asked import queue_tasks, similar_tasks
    from usl_backend.sinks.standing import run_in_force

    body = json_body()
    task, count, dry_run = body.get("task"), body.get("tasks", 20), _switch(body)
    _known(body, {"task", "tasks", "dry_run"})
    for name, value in (("task", task), ("tasks", count)):
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 2**63:
            raise InputError(f"{name} is {str(value)[:40]!r}; give a whole number")
    assert isinstance(task, int), "checked above"
    store = services().store
    with _project(project) as (client, now):
        run = run_in_force(store, now, client=client)
        near = similar_tasks(run, task, count, store=store, client=client)
        found = queue_tasks(run, near, store=store, client=client, dry_run=dry_run)
    return found.to_json()


def _listed(project: int, wish: Wish) -> Mapping[str, Any]:
    """Return the standing wishes of one kind."""
    stand = services().store.wishes(_key(project))
    return {"project": project, "tasks": stand.pinned if wish == "pin" else stand.excluded}


def _key(project: int) -> str:
    """Return the key of a project, as its newest run or connection knows it; Label Studio is not asked."""
    return services().store.key_of(parse_project_key(project)[0])


def _changed(project: int, wish: Wish) -> Mapping[str, Any]:
    """Add the wishes of a body or take them back; return what stands now."""
    from usl_backend.sources.wishes import check_tasks

    tasks, store = _tasks(json_body()), services().store
    with _project(project) as (client, now):
        if request.method == "DELETE":
            stand = store.remove_wishes(now.key, tasks, wish)
        else:
            check_tasks(client, project, tasks, pinned=wish == "pin")
            stand = store.add_wishes(now.key, tasks, wish)
    return {"project": project, "tasks": stand.pinned if wish == "pin" else stand.excluded}


@contextmanager
def _project(project: int) -> Iterator[tuple[StudioClient, Project]]:
    """Open Label Studio for one request; yield the client and the project as it is now."""
    from usl_backend.studio.client import StudioClient

    with StudioClient.from_settings(services().host, attempts=1, timeout=STUDIO_SECONDS) as client:
        yield client, client.project(parse_project_key(project)[0])


def _tasks(body: Mapping[str, Any], *further: str) -> list[int]:
    """Return the tasks of a body."""
    from usl_backend.sinks.asked import MOST

    _known(body, {"tasks", *further})
    tasks = body.get("tasks")
    if not isinstance(tasks, list) or not tasks or len(tasks) > MOST:
        raise InputError(
            f'tasks is {str(tasks)[:40]!r}; give a list of 1 to {MOST:,} ids such as {{"tasks": [4711]}}'
        )
    for one in tasks:
        if isinstance(one, bool) or not isinstance(one, int) or not 0 < one < 2**63:
            raise InputError(f"tasks holds {str(one)[:40]!r}; give ids of tasks")
    return tasks


def _switch(body: Mapping[str, Any]) -> bool:
    """Return true if nothing is to be written."""
    dry_run = body.get("dry_run", False)
    if not isinstance(dry_run, bool):
        raise InputError(f"dry_run is {str(dry_run)[:40]!r}; give true or false")
    return dry_run


def _known(body: Mapping[str, Any], names: set[str]) -> None:
    """Refuse unknown names."""
    unknown = sorted(set(body) - names)
    if unknown:
        raise InputError(f'"{unknown[0][:40]}" is unknown; known are {", ".join(sorted(names))}')
