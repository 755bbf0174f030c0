"""What `select` does with a TARGET that is no project: a folder, a manifest, vectors. Computing it is `pipeline`'s."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usl_backend.errors import InputError
from usl_backend.runs import RunState
from usl_backend.runs.record import ImportOrder
from usl_backend.runs.summary import PoolSummary

if TYPE_CHECKING:
    from usl_backend.runs import Run, RunStore
    from usl_backend.settings import HostSettings, RunSettings
    from usl_backend.sources import Target

SHOWN = 10
"""Picks that are listed."""


def create(
    store: RunStore,
    host: HostSettings,
    target: Target,
    settings: RunSettings,
    *,
    dry_run: bool,
    import_to: str | None,
    import_as: str | None,
) -> Run:
    """Write down a run over a pool outside Label Studio; what can be refused at once is refused here.

    Raises
    ------
    InputError
        The pool cannot be read, or cannot be imported as asked.
    ActiveRunError
        The pool, or the project that it goes to, has an active run.
    """
    from usl_backend.sources import VectorFile, read_manifest

    told: dict[str, Any] = target.to_json()
    modality = None
    if not target.remote:
        opened = read_manifest(target)  # opens tables and vectors; folders are only named
        modality = "vector" if isinstance(opened, VectorFile) else opened.modality
    if import_to is not None:
        told |= _import_order(store, host, import_to, import_as, modality).to_json()
    elif import_as is not None:
        raise InputError("--import-as says how files get into a project; name that too: --import-to PROJECT")
    return store.create(
        settings=settings.to_json(),
        dry_run=dry_run,
        place="shell",
        pool=store.pool_name(target.name, target.address),
        target=told,
    )


def _import_order(
    store: RunStore, host: HostSettings, project: str, refer_by: str | None, modality: str | None
) -> ImportOrder:
    """Order an import into a project, if it can take the picks."""
    from usl_backend.sinks.tasks import check_project
    from usl_backend.studio.client import StudioClient, parse_target

    if modality == "vector":
        raise InputError(
            "vectors have nothing that a task could show, so --import-to cannot be used; select from their pictures "
            "or texts, or make tasks from selection.csv yourself"
        )
    url, number = parse_target(project)
    with StudioClient.from_settings(host, url=url) as client:
        found = client.project(number)
    store.refuse_second(project=number)
    if modality is not None:
        check_project(found, found.key, modality)
    return ImportOrder(found.id, found.key, refer_by)


def keep_table(run: Run, output: Path | None) -> None:
    """Copy selection.csv to where the user wants it.

    Raises
    ------
    InputError
        It cannot be written there.
    """
    if output is None or run.state is not RunState.DONE:
        return
    try:
        assert isinstance(run.summary, PoolSummary)
        shutil.copyfile(run.summary.selection, output)
    except OSError as error:
        raise InputError(f"{output} cannot be written ({error.strerror}); choose another file") from error


def lines(summary: PoolSummary, run: Run, output: Path | None) -> Iterator[str]:
    """The summary for people."""
    budget, pool = summary.budget, summary.pool
    asked = "the default" if budget.default else f'"{budget.asked}"'
    control = f", {summary.control} in the control set" if summary.control else ""
    preset = f" {summary.method.preset}" if summary.method.preset else ""
    yield (
        f"run {run.id}: chose {summary.picks} of {pool.readable:,} in {summary.project.title} (budget "
        f"{asked}){control} and {summary.reserve} in reserve, by {summary.method.name}{preset}, seed "
        f"{summary.seed}"
    )
    if pool.passed_over:
        yield f"passed over: {pool.passed_over}"
    for warning in summary.warnings:
        yield f"warning: {warning}"
    table = Path(summary.selection)
    for line in table.read_text(encoding="utf-8", errors="surrogateescape").splitlines()[: SHOWN + 1]:
        yield "  " + line.encode("utf-8", "backslashreplace").decode()
    yield f"all of them, first to last: {output or table}"
    yield f"the report: usl-backend report {run.id} -o report.html"
    if summary.imported is not None and summary.tab is not None:
        yield (f"project {summary.imported.id} serves them first (low score = first): {summary.tab.url}")
