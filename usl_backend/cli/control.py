"""`control`: draw a control set after a run."""

from __future__ import annotations

import json
from typing import Any

import click

from usl_backend.cli.options import DATA, STUDIO, host_options, host_settings, json_option, open_store
from usl_backend.cli.select import bars
from usl_backend.cli.verb import Verb

SHOWN = 10
"""Number of tasks listed; a dry run lists all."""


@click.command(cls=Verb)
@click.argument("target")
@click.option("--tasks", type=int, default=100, show_default=True, help="Size of the whole control set.")
@click.option("--dry-run", is_flag=True, help="Draw and print, but write nothing.")
@json_option
@host_options(*STUDIO, *DATA)
def control(target: str, tasks: int, dry_run: bool, as_json: bool, **flags: Any) -> None:
    """Draw tasks uniformly from a run's pool, to measure accuracy on, and queue them right behind the picks.

    TARGET is a project's id or its address. Tasks drawn before, and those labeled already, count.
    """
    from usl_backend.pipeline.control import draw_control
    from usl_backend.sinks.standing import run_in_force
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.target import parse_target

    url, project_id = parse_target(target)
    host = host_settings(flags)
    store = open_store(host)
    with StudioClient.from_settings(host, url=url) as client:
        run = run_in_force(store, client.project(project_id), client=client)
        with bars() as watch:
            found = draw_control(
                run, tasks=tasks, store=store, client=client, progress=watch("control"), dry_run=dry_run
            )
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    click.echo(
        f"run {run.id}: {found.size} tasks in the control set, {len(found.new)} of them new; "
        f"{found.picks} are picks, {found.labeled} are labeled already"
    )
    if found.new:
        shown = found.new if dry_run else found.new[:SHOWN]
        more = f" ... ({len(found.new) - len(shown)} more)" if len(shown) < len(found.new) else ""
        click.echo("new, in labeling order: " + " ".join(map(str, shown)) + more)
        if dry_run:
            click.echo("dry run: nothing was written")
        else:
            click.echo("they are queued right behind the picks, before the reserve")
