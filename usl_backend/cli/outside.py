"""`select` for a TARGET outside Label Studio: a folder, a manifest or vectors."""

from __future__ import annotations

import shutil
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
    """Create a run over a pool outside Label Studio, and refuse early what cannot work.

    Raises
    ------
    InputError
        The pool cannot be read, or cannot be imported as asked.
    ActiveRunError
        The pool, or the project to import to, has an active run.
    """
    from usl_backend.sources import VectorFile, read_manifest

    entry: dict[str, Any] = target.to_json()
    modality = None
    if not target.remote:
        opened = read_manifest(target)  # opens tables and vectors, but not the files of a folder
        modality = "vector" if isinstance(opened, VectorFile) else opened.modality
    if import_to is not None:
        entry |= _import_order(store, host, import_to, import_as, modality).to_json()
    elif import_as is not None:
        raise InputError(
            "--import-as is given without --import-to; give the project too: --import-to PROJECT"
        )
    return store.create(
        settings=settings.to_json(),
        dry_run=dry_run,
        place="shell",
        pool=store.pool_name(target.name, target.address),
        target=entry,
    )


def _import_order(
    store: RunStore, host: HostSettings, project: str, refer_by: str | None, modality: str | None
) -> ImportOrder:
    """Return the order to import the picks into a project, after checking that the project can take them."""
    from usl_backend.sinks.tasks import check_project
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.target import parse_target

    if modality == "vector":
        raise InputError(
            "--import-to cannot be used with vectors, since a task has to show a picture or text; select from the "
            "pictures or texts, or create tasks from selection.csv yourself"
        )
    url, number = parse_target(project)
    with StudioClient.from_settings(host, url=url) as client:
        found = client.project(number)
    store.refuse_second(project=number)
    if modality is not None:
        check_project(found, found.key, modality)
    return ImportOrder(found.id, found.key, refer_by)


def keep_table(run: Run, output: Path | None) -> None:
    """Copy selection.csv to the file that the user named.

    Raises
    ------
    InputError
        The file cannot be written.
    """
    if output is None or run.state is not RunState.DONE:
        return
    try:
        assert isinstance(run.summary, PoolSummary)
        shutil.copyfile(run.summary.selection, output)
    except OSError as error:
        raise InputError(f"{output} cannot be written ({error.strerror}); choose another file") from error
