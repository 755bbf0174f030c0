"""`suggest`: what the labels of a run say about its other tasks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from usl_backend.cli.options import DATA, STUDIO, host_options, host_settings, json_option, open_store
from usl_backend.cli.select import bars
from usl_backend.cli.verb import Verb
from usl_backend.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usl_backend.runs import Run, RunStore
    from usl_backend.studio.client import StudioClient
    from usl_backend.suggesting.compute import RunSuggestions


@click.command(cls=Verb)
@click.argument("target")
@click.option("--dry-run", is_flag=True, help="Compute and print, but write nothing to Label Studio.")
@click.option("--control", help="Choices tag to read, if the label config has several.")
@json_option
@host_options(*STUDIO, *DATA)
def suggest(target: str, dry_run: bool, control: str | None, as_json: bool, **flags: Any) -> None:
    """Suggest a class for every task of a project's run that has none, from the labels that are there.

    TARGET is a project's id or its address, or its run in force.
    """
    from usl_backend.studio.client import StudioClient, parse_target
    from usl_backend.suggesting.compute import suggest_for_run
    from usl_backend.suggesting.labels import read_run_labels

    if not dry_run:
        raise click.UsageError("only --dry-run is there yet")
    host = host_settings(flags)
    store = open_store(host)
    url, project_id = (None, store.get(target).project) if _is_run(target) else parse_target(target)
    with StudioClient.from_settings(host, url=url) as client, bars() as watch:
        progress = watch("suggest")
        run = named_run(store, client, target=target, project_id=project_id)
        progress("reading labels", 0, 0)
        labels = read_run_labels(store, run, client=client, control=control)
        found = suggest_for_run(store, labels, host=host, client=client, progress=progress)
    if as_json:
        click.echo(json.dumps(summary_of(found), indent=1))
        return
    for line in lines(found):
        click.echo(line)
    click.echo("dry run: nothing was written to Label Studio")


def named_run(store: RunStore, client: StudioClient, *, target: str, project_id: int) -> Run:
    """Return the run in force of a project; refuse a target that names another run."""
    from usl_backend.pipeline.extend import run_in_force

    if _is_run(target) and (run := store.get(target)).pool:
        return run  # refused with its reason when its labels are read
    run = run_in_force(store, client.project(project_id), client=client)
    if _is_run(target) and run.id != target:
        raise InputError(
            f"run {target} is not in force in project {project_id}, run {run.id} is; suggestions are made for the run "
            f"in force: `usl-backend suggest {project_id}`"
        )
    return run


def summary_of(found: RunSuggestions) -> dict[str, Any]:
    """Return the main figures as JSON values."""
    acceptance = found.acceptance
    return {
        "run": found.labels.run.id,
        "labels": found.labels.counts,
        "control_labels": len(found.labels.controls),
        "suggestions": found.counts,
        "calibrated": found.calibrated,
        "class_names_used": found.names,
        "target": acceptance.target,
        "accepted": acceptance.count,
        "needed": acceptance.needed,
        "missing": acceptance.missing,
        "promise": str(acceptance),
        "notes": list(found.notes),
    }


def lines(found: RunSuggestions) -> Iterator[str]:
    """Return the lines about suggestions, for people."""
    labels = found.labels
    controls = len(labels.controls)
    yield (
        f"run {labels.run.id}: {sum(labels.counts.values())} labels, {controls} more in the control set; "
        f"{sum(found.counts.values())} suggestions" + (", class names used" if found.names else "")
    )
    width = max(map(len, labels.classes))
    yield f"{'class':<{width}}  {'labels':>7}  {'suggested':>9}"
    for name, count in labels.counts.items():
        yield f"{name:<{width}}  {count:>7}  {found.counts.get(name, 0):>9}"
    yield (
        f"confidence: the chance of being right, from {found.acceptance.controls} control labels"
        if found.calibrated
        else "confidence: an order only; a labeled control set makes it the chance of being right"
    )
    yield f"promise: {found.acceptance}"
    for note in found.notes:
        yield f"note: {note}"


def _is_run(target: str) -> bool:
    """Return True if the target is a run's id."""
    from usl_backend.runs.record import RUN_ID

    return RUN_ID.fullmatch(target) is not None
