"""`suggest`: what the labels of a run say about its other tasks."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from usl_backend.cli.options import DATA, STUDIO, host_options, host_settings, json_option, open_store
from usl_backend.cli.select import bars
from usl_backend.cli.verb import Verb
from usl_backend.instances import RUN_ID

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usl_backend.suggesting.compute import RunSuggestions
    from usl_backend.suggesting.work import SuggestOutcome


@click.command(cls=Verb)
@click.argument("target")
@click.option("--dry-run", is_flag=True, help="Compute and print, but write nothing to Label Studio.")
@click.option(
    "--review",
    is_flag=True,
    help="Serve the suggestions, least sure first, right after the picks and the control set: the reserve waits.",
)
@click.option(
    "--accept",
    type=float,
    metavar="SHARE",
    help="Mark the suggestions of which such a share is right, as far as the control set can promise it, such as 0.95.",
)
@click.option(
    "--annotate", is_flag=True, help="With --accept: annotate the accepted tasks, as the token's user."
)
@click.option("--control", help="Choices tag to read, if the label config has several.")
@json_option
@host_options(*STUDIO, *DATA)
def suggest(
    target: str,
    dry_run: bool,
    review: bool,
    accept: float | None,
    annotate: bool,
    control: str | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Suggest a class for every task of a project's run that has none, from the labels that are there.

    TARGET is a project's id or its address, or its run in force. Annotators see the suggested choice filled in; the
    queue's tasks still come first, then all others, the least sure first. `reset` takes everything back.
    """
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.target import parse_target
    from usl_backend.suggesting.request import SuggestRequest
    from usl_backend.suggesting.work import carry_out

    if annotate and accept is None:
        raise click.UsageError("--annotate needs --accept: only what can be promised is annotated")
    request = SuggestRequest(
        dry_run=dry_run, review=review, accept=accept, annotate=annotate, control=control
    )
    host = host_settings(flags)
    store = open_store(host)
    run = store.get(target) if RUN_ID.fullmatch(target) else None
    url, project = (None, run.project) if run is not None else parse_target(target)
    with StudioClient.from_settings(host, url=url) as client, bars() as watch:
        found = carry_out(
            request, project=project, run=run, store=store, host=host, client=client, watch=watch
        )
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    for line in lines(found):
        click.echo(line)


def lines(outcome: SuggestOutcome) -> Iterator[str]:
    """Return the lines about suggestions and what was written of them, for people."""
    yield from _found(outcome.found)
    filled = outcome.filled
    if filled is None:
        yield "dry run: nothing was written to Label Studio"
        return
    for warning in filled.warnings:
        yield f"warning: {warning}"
    yield (
        f"{filled.suggestions} choices are filled in under {filled.model_version}; {filled.queued} tasks of the queue "
        "come first, then all others, the least sure first"
    )
    if filled.carried_over:
        yield f"on {len(filled.carried_over)} tasks annotators see another model's pre-annotation instead"
    if filled.accepted:
        yield (
            f"{filled.accepted} are marked as accepted: filter the Data Manager by Prediction results containing "
            "usl-accepted"
        )
    if outcome.annotated:
        yield f"{outcome.annotated} tasks were annotated, as the user of the token"


def _found(found: RunSuggestions) -> Iterator[str]:
    """Return the lines about suggestions."""
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
    yield f"promise: {found.promise}"
    for note in found.notes:
        if note != found.promise:
            yield f"note: {note}"
