"""Lines about a finished run, for people."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from usl_backend.runs.columns import proper

if TYPE_CHECKING:
    from collections.abc import Iterator

    from usl_backend.runs.published import Published
    from usl_backend.runs.summary import PoolSummary, Summary

SHOWN = 10
"""Number of picks listed; a dry run over a project lists all."""


def project_lines(summary: Summary, run_id: str, published: Published) -> Iterator[str]:
    """Return the lines about a run over a project."""
    yield _chosen(summary, run_id, f"{summary.pool.readable} unlabeled tasks")
    if summary.pool.several:
        yield f"{summary.pool.several} tasks show several images or texts; the row of each is their mean"
    yield from _notes(summary)
    picks = published.queue.of_role("pick")
    shown = picks if summary.dry_run else picks[:SHOWN]
    more = f" ... ({len(picks) - len(shown)} more)" if len(shown) < len(picks) else ""
    yield "tasks, first to last: " + " ".join(str(task) for task in shown) + more
    if summary.dry_run:
        yield f"dry run: nothing was written to Label Studio; `usl-backend publish {run_id}` does it"
    elif summary.tab is not None:
        yield f"Label Studio serves them first (low score = first): {summary.tab.url}"


def pool_lines(summary: PoolSummary, run_id: str, output: Path | None) -> Iterator[str]:
    """Return the lines about a run over a pool outside Label Studio; `output` is a copy of its table, or None."""
    yield _chosen(summary, run_id, f"{summary.pool.readable:,} in {summary.project.title}")
    if summary.pool.passed_over:
        yield f"passed over: {summary.pool.passed_over}"
    yield from _notes(summary)
    table = Path(summary.selection)
    for line in table.read_text(encoding="utf-8", errors="surrogateescape").splitlines()[: SHOWN + 1]:
        yield f"  {proper(line)}"
    yield f"all of them, first to last: {output or table}"
    yield f"the report: usl-backend report {run_id} -o report.html"
    if summary.imported is not None and summary.tab is not None:
        yield f"project {summary.imported.id} serves them first (low score = first): {summary.tab.url}"


def _chosen(summary: Summary, run_id: str, pool: str) -> str:
    """Say how many were chosen, of what, and by what."""
    budget = summary.budget
    asked = "the default" if budget.default else f'"{budget.asked}"'
    control = f", {summary.control} in the control set" if summary.control else ""
    return (
        f"run {run_id}: chose {summary.picks} of {pool} (budget {asked}){control} and {summary.reserve} in reserve, "
        f"by {summary.method.described}, seed {summary.seed}"
    )


def _notes(summary: Summary) -> Iterator[str]:
    """Say how the pool was embedded, what the method says of the next round, and the warnings."""
    if summary.encoder.reason:
        yield f"{summary.encoder.reason}, so {summary.encoder.name} embedded them"
    if summary.encoder.engine:
        yield f"embeddings by {summary.encoder.name}, computed by {summary.encoder.engine}"
    if summary.method.next_round:
        yield summary.method.next_round
    for warning in summary.warnings:
        yield f"warning: {warning}"
