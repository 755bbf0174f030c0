"""`doubts`: labels of a run's tasks that look wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from usl_backend.cli.options import DATA, STUDIO, host_options, host_settings, json_option, open_store
from usl_backend.cli.verb import Verb
from usl_backend.instances import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from usl_backend.runs.doubts import Doubts


@click.command(cls=Verb)
@click.argument("target")
@click.option(
    "--limit", default=20, show_default=True, type=click.IntRange(min=1), help="Number of labels to list."
)
@click.option("--control", help="Choices tag to read, if the label config has several.")
@json_option
@host_options(*STUDIO, *DATA)
def doubts(target: str, limit: int, control: str | None, as_json: bool, **flags: Any) -> None:
    """List the labels that look wrong, and the tasks whose annotators disagree; nothing is corrected.

    TARGET is a project's id or its address, or a run. A label is doubted if its task looks more like another class,
    going by the other labels: from 4 labels per class on, or with a labeled control set.
    """
    from usl_backend.report.view import studio_links
    from usl_backend.sinks.standing import run_in_force
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.target import parse_target
    from usl_backend.suggesting.doubts import find_doubts
    from usl_backend.suggesting.labels import read_run_labels

    host = host_settings(flags)
    store = open_store(host)
    run = store.get(target) if RUN_ID.fullmatch(target) else None
    url, project = (None, run.project) if run is not None else parse_target(target)
    with StudioClient.from_settings(host, url=url) as client:
        if run is None:
            run = run_in_force(store, client.project(project), client=client)
        labels = read_run_labels(store, run, client=client, control=control)
    found = find_doubts(store, labels, host=host)
    address = studio_links(run, host.browser_url)
    if as_json:
        click.echo(json.dumps({**found.to_json(), "address": address(0)}, indent=1))
        return
    for line in _lines(found, address, limit=limit):
        click.echo(line)


def _lines(found: Doubts, address: Callable[[int], str | None], *, limit: int) -> Iterator[str]:
    """Return the lines about doubts, for people."""
    yield (
        f"run {found.run}: {found.reason}"
        if found.reason
        else f"run {found.run}: {len(found.doubts)} of {found.judged} labels look wrong, most doubtful first"
    )
    for one in found.doubts[:limit]:
        yield (
            f"{one.doubt:.2f}  task {one.task}: labeled {one.label}, others say {one.likely}  {address(one.task) or ''}"
        ).rstrip()
    if len(found.doubts) > limit:
        yield f"... ({len(found.doubts) - limit} more; --limit shows them)"
    if found.unjudged:
        yield f"{found.unjudged} labels are the only ones of their class and cannot be judged"
    for dispute in found.disputes[:limit]:
        says = f", others say {dispute.likely}" if dispute.likely else ""
        given = " or ".join(dispute.labels)
        yield (
            f"task {dispute.task}: annotators disagree ({given}){says}  {address(dispute.task) or ''}"
        ).rstrip()
