"""`extend`: queue tasks that were added after a run."""

from __future__ import annotations

import json
from typing import Any

import click

from usl_backend.cli.options import DATA, MEDIA, STUDIO, host_options, host_settings, json_option, open_store
from usl_backend.cli.select import bars
from usl_backend.cli.verb import Verb

SHOWN = 10
"""Number of tasks listed; a dry run lists all."""


@click.command(cls=Verb)
@click.argument("target")
@click.option("--dry-run", is_flag=True, help="Score and print, but write nothing to Label Studio.")
@json_option
@host_options("ray_address", *STUDIO, *DATA, *MEDIA)
def extend(target: str, dry_run: bool, as_json: bool, **flags: Any) -> None:
    """Queue a project's new tasks after the picks without a new run, and recommend a new run when it pays.

    TARGET is a project's id or its address. New tasks are ordered by how much they add: typical ones far from every
    pick come first.
    """
    from usl_backend.pipeline.extend import extend as queue_new
    from usl_backend.sinks.standing import run_in_force
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.target import parse_target

    url, project_id = parse_target(target)
    host = host_settings(flags)
    store = open_store(host)
    with StudioClient.from_settings(host, url=url) as client:
        run = run_in_force(store, client.project(project_id), client=client)
        with bars() as watch:
            found = queue_new(run, store=store, host=host, client=client, watch=watch, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    for task, why in list(found.skipped.items())[:SHOWN]:
        click.echo(f"warning: task {task} is left out: {why}")
    click.echo(f"run {run.id}: {found.reason}")
    if found.tasks:
        shown = found.tasks if dry_run else found.tasks[:SHOWN]
        more = f" ... ({len(found.tasks) - len(shown)} more)" if len(shown) < len(found.tasks) else ""
        click.echo("tasks, first to last: " + " ".join(map(str, shown)) + more)
        click.echo(
            "dry run: nothing was written to Label Studio"
            if dry_run
            else f"{found.queued} of them were queued now, after all tasks that were queued before"
        )
    if found.new_run:
        click.echo(f"`usl-backend select {project_id}` chooses again among all tasks")
