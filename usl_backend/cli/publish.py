"""`publish`: put the queue of a finished run in force, for the first time or again."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import click

from usl_backend.cli.options import DATA, STUDIO, host_options, host_settings, json_option, open_store
from usl_backend.cli.select import bars, compute, show
from usl_backend.cli.verb import Verb


@click.command(cls=Verb)
@click.argument("run_id")
@json_option
@host_options(*STUDIO, *DATA)
def publish(run_id: str, as_json: bool, **flags: Any) -> None:
    """Put the queue of a dry run in force, or that of any run again, after a restored backup or a change by hand.

    The same tasks in the same order: nothing is selected again. `doctor` says when a queue needs it.
    """
    from usl_backend.sinks.republish import republish
    from usl_backend.studio.client import StudioClient

    host = host_settings(flags)
    store = open_store(host)
    run = store.get(run_id)
    if run.dry_run and not run.pool:
        show(store, compute(store, store.take_up(run.id, place="shell"), host), as_json=as_json)
        return
    with StudioClient.from_settings(host) as client, bars() as watch:
        done = republish(run, store=store, client=client, progress=watch("publish"))
    if as_json:
        verified = None if done.verified is None else asdict(done.verified)
        shown = {
            "run": run.id,
            "model_version": done.model_version,
            "tab": done.view_id,
            "verified": verified,
        }
        click.echo(json.dumps({**shown, "warnings": done.warnings}, indent=1))
        return
    for warning in done.warnings:
        click.echo(f"warning: {warning}")
    click.echo(f"the queue of run {run.id} is in force ({len(done.queue)} tasks, {done.model_version})")
