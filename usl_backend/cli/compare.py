"""`compare`: two runs beside each other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from usl_backend.cli.options import DATA, host_options, host_settings, json_option, open_store
from usl_backend.cli.verb import Verb

if TYPE_CHECKING:
    from usl_backend.report.compare import Comparison

SHOWN = 10
"""Number of picks listed."""


@click.command(cls=Verb)
@click.argument("run_a")
@click.argument("run_b")
@json_option
@host_options(*DATA)
def compare(run_a: str, run_b: str, as_json: bool, **flags: Any) -> None:
    """Compare two runs over one project or pool: settings that differ, shared picks, and what each covers."""
    from usl_backend.report.compare import compare_runs

    store = open_store(host_settings(flags))
    found = compare_runs(store.get(run_a), store.get(run_b), store=store)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=1))
        return
    for line in lines(found):
        click.echo(line)


def lines(found: Comparison) -> Iterator[str]:
    """Return the lines of a comparison, for people."""
    for one in found.settings:
        yield f"{one.name}: {_value(one.a)} in {found.a}, {_value(one.b)} in {found.b}"
    if not found.settings:
        yield "the settings are the same"
    count = len(found.shared)
    yield f"shared picks: {count} of {count + len(found.only_a)} and {count + len(found.only_b)}"
    for run, picks in ((found.a, found.only_a), (found.b, found.only_b)):
        if picks:
            more = f" ... ({len(picks) - SHOWN} more)" if len(picks) > SHOWN else ""
            yield f"only in {run}: {' '.join(map(str, picks[:SHOWN]))}{more}"
    for covered in found.coverage:
        where = (
            "the rows of both" if found.same_encoder else f"the rows of {covered.rows} ({covered.encoder})"
        )
        yield (
            f"coverage in {where}: {covered.a:.1%} by {found.a}, {covered.b:.1%} by {found.b}, of "
            f"{covered.tasks:,} tasks"
        )


def _value(value: Any) -> str:
    """Write a setting."""
    if isinstance(value, list):
        return "1 id" if len(value) == 1 else f"{len(value)} ids"
    return "unset" if value is None else str(value)
