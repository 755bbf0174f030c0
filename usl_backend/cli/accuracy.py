"""`accuracy`: how accurate a run's suggestions are, and when to stop labeling."""

from __future__ import annotations

import json
from typing import Any

import click

from usl_backend.cli.options import DATA, STUDIO, host_options, host_settings, json_option, open_store
from usl_backend.cli.select import bars
from usl_backend.cli.verb import Verb


@click.command(cls=Verb)
@click.argument("target")
@click.option(
    "--target",
    "wanted",
    type=float,
    metavar="SHARE",
    help="Share right at which to stop, such as 0.9: says whether it is reached.",
)
@click.option("--control", help="Choices tag to read, if the label config has several.")
@json_option
@host_options(*STUDIO, *DATA)
def accuracy(target: str, wanted: float | None, control: str | None, as_json: bool, **flags: Any) -> None:
    """Say how many of a run's suggestions are right, by its control set, and whether that is enough.

    TARGET is a project's id or its address (its newest completed run), or a run.
    """
    from usl_backend.exports.project import exported_run
    from usl_backend.instances import RUN_ID
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.target import parse_target
    from usl_backend.suggesting.accuracy import measure_run
    from usl_backend.suggesting.labels import read_run_labels

    host = host_settings(flags)
    store = open_store(host)
    url, project_id = (None, None) if RUN_ID.fullmatch(target) else parse_target(target)
    run = store.get(target) if project_id is None else exported_run(store, project_id)
    with StudioClient.from_settings(host, url=url) as client, bars() as watch:
        progress = watch("accuracy")
        progress("reading labels", 0, 0)
        labels = read_run_labels(store, run, client=client, control=control)
        found = measure_run(store, labels, host=host, client=client, target=wanted, progress=progress)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    for number, line in enumerate(found.sentences(project=run.project)):
        click.echo(line if number else f"run {run.id}: {line}")
    for note in found.notes:
        click.echo(f"note: {note}")
