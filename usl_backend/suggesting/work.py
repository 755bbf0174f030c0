"""All steps of suggesting for a project: read its labels, compute, fill in, annotate. Shells and the server use it."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from usl_backend.errors import InputError, UnknownRunError
from usl_backend.runs import RunState
from usl_backend.sinks.queue import version_in_force
from usl_backend.sinks.standing import run_in_force
from usl_backend.suggesting.accuracy import accuracy_of, load_accuracy, save_accuracy
from usl_backend.suggesting.compute import suggest_for_run
from usl_backend.suggesting.labels import read_run_labels
from usl_backend.suggesting.publish import annotate_accepted, fill_in, require_accepted
from usl_backend.suggestions.acceptance import TARGET

if TYPE_CHECKING:
    from usl_backend.progress import StageProgress
    from usl_backend.runs import Run, RunStore
    from usl_backend.settings import HostSettings
    from usl_backend.studio.client import StudioClient
    from usl_backend.suggesting.compute import RunSuggestions
    from usl_backend.suggesting.publish import Filled
    from usl_backend.suggesting.request import SuggestRequest


@dataclass(frozen=True)
class SuggestOutcome:
    """Suggestions, and what was written of them.

    Attributes
    ----------
    found
        The suggestions.
    filled
        What is in force now; None for a dry run.
    annotated
        Number of tasks that were annotated.
    """

    found: RunSuggestions
    filled: Filled | None
    annotated: int

    def to_json(self) -> dict[str, Any]:
        """Return the main figures as JSON values."""
        found, acceptance = self.found, self.found.acceptance
        return {
            "run": found.labels.run.id,
            "labels": found.labels.counts,
            "control_labels": len(found.labels.controls),
            "suggestions": found.counts,
            "calibrated": found.calibrated,
            "class_names_used": found.names,
            "target": acceptance.target,
            "accepted": int(found.accepted.sum()),
            "needed": acceptance.needed,
            "missing": acceptance.missing,
            "promise": found.promise,
            "notes": list(found.notes),
            "written": None
            if self.filled is None
            else {**self.filled.to_json(), "annotated": self.annotated},
        }


def carry_out(
    request: SuggestRequest,
    *,
    project: int,
    run: Run | None,
    store: RunStore,
    host: HostSettings,
    client: StudioClient,
    watch: StageProgress,
) -> SuggestOutcome:
    """Suggest classes for the tasks of the run in force, and write them as requested; store their accuracy.

    Parameters
    ----------
    project
        Label Studio's id.
    run
        The run that is expected to be in force; None takes the one that is.
    store, host, client
        Store of the runs, directory of the encoders, and Label Studio's client.
    watch
        Receives the progress of the stages "suggest", "publish" and "annotate".

    Raises
    ------
    USLError
        There are no suggestions, they cannot be promised as requested, or Label Studio fails; nothing is half in force.
    """
    progress = watch("suggest")
    progress("reading labels", 0, 0)
    expected = _in_force(store, client, project=project, run=run)
    labels = read_run_labels(store, expected, client=client, control=request.control)
    found = suggest_for_run(
        store,
        labels,
        host=host,
        client=client,
        target=TARGET if request.accept is None else request.accept,
        progress=progress,
    )
    if request.accept is not None:
        require_accepted(found)
    if request.dry_run:
        return SuggestOutcome(found, None, 0)
    _measure(found, store)
    filled = fill_in(
        found,
        store=store,
        client=client,
        review=request.review,
        mark=request.accept is not None,
        progress=watch("publish"),
    )
    annotated = 0
    if request.annotate:
        annotated = annotate_accepted(found, filled, client=client, progress=watch("annotate"))
    return SuggestOutcome(found, filled, annotated)


def _measure(found: RunSuggestions, store: RunStore) -> None:
    """Store how accurate the suggestions are, for the run's pages; a target that was given before stays."""
    files = store.files(found.labels.run.id)
    before = load_accuracy(files)
    save_accuracy(files, accuracy_of(found, target=None if before is None else before.target))


def _in_force(store: RunStore, client: StudioClient, *, project: int, run: Run | None) -> Run:
    """Return the run in force; refuse another one that was expected."""
    if run is not None and run.pool:
        return run  # refused with its reason when its labels are read
    now = client.project(project)
    state = store.queue_state(now.key)
    found = None
    if state is not None:
        # Damage does not matter, as everything is written again: an earlier call may have been killed anywhere.
        with suppress(InputError, UnknownRunError):
            owner = store.get(state.run_id)
            version_in_force(store, owner, now)
            found = owner
    if found is None or found.pool or found.state is not RunState.DONE:
        found = run_in_force(store, now, client=client)
    if run is not None and run.id != found.id:
        raise InputError(
            f"run {run.id} is not in force in project {project}, run {found.id} is; suggestions are made for the run "
            f"in force: `usl-backend suggest {project}`"
        )
    return found
