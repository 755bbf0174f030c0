"""Compare a project's queue in Label Studio with what was published; for doctor, `extend` and the run page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from usl_backend.errors import InputError, UnknownRunError
from usl_backend.runs.record import RunState
from usl_backend.sinks.queue import read_back
from usl_backend.studio import tabs
from usl_backend.studio.model_versions import is_ours, origin, versions
from usl_backend.studio.preannotations import predictions_of
from usl_backend.studio.switch import SAMPLING, whose

if TYPE_CHECKING:
    from usl_backend.instances import Queue, QueueState
    from usl_backend.runs import Run, RunStore
    from usl_backend.studio.client import StudioClient
    from usl_backend.studio.records import Project

Kind = Literal[
    "none",
    "in force",
    "foreign",
    "replaced",
    "incomplete",
    "no tab",
    "sampling",
    "order",
    "active",
    "unknown",
]


@dataclass(frozen=True, slots=True)
class Standing:
    """State of a project's queue.

    Attributes
    ----------
    kind
        `none`: nothing was published. `in force`: the queue published last is whole and served in order. `foreign`:
        the queue of another data directory is in force. `replaced`: another model version is, for instance after a
        backup was restored. `incomplete`: predictions are missing. `no tab`, `sampling`: the tab is gone, or another
        sampling was chosen. `order`: Label Studio serves other tasks first. `active`: a run is about to publish.
        `unknown`: Label Studio does not answer.
    run
        Id of the run that published last from this data directory; "" if there is none.
    detail
        Finding, for people.
    remedy
        Command that mends it; "" if there is nothing to mend.
    """

    kind: Kind
    run: str
    detail: str
    remedy: str = ""

    @property
    def ok(self) -> bool:
        """True if nothing has to be mended."""
        return self.kind in ("none", "in force", "active")


def standing(client: StudioClient, project: Project, *, store: RunStore, serve: bool = False) -> Standing:
    """Compare a project with the queue that was published to it last from this data directory.

    Parameters
    ----------
    project
        As it is now.
    store
        Runs and queue states of this data directory.
    serve
        Ask for the next task too, as an annotator does, and give it back. Otherwise nothing in Label Studio changes.
    """
    state = store.queue_state(project.key)
    if state is None:
        if not is_ours(project.model_version):
            return Standing("none", "", "no queue of this backend is in force")
        told = whose(client, project.id, project.model_version or "")
        return Standing(
            "foreign", "", f"{told}, which is not in this data directory", f"usl-backend select {project.id}"
        )
    try:
        run = store.get(state.run_id)
    except UnknownRunError:
        run = None
    if run is not None and run.state.is_active:
        return Standing("active", run.id, f"run {run.id} is {run.state.value}; its queue is not complete yet")
    found = _amiss(client, project, state, run, store=store, serve=serve)
    if found is None:
        return Standing("in force", state.run_id, f"the queue of run {state.run_id} is in force and whole")
    kind, detail = found
    return Standing(kind, state.run_id, detail, _remedy(project, run))


def standing_of(run: Run, *, client: StudioClient, store: RunStore) -> Standing:
    """Return the state of a run's queue, `none` if it published none or a later run of this data directory did."""
    into = run.published_to
    if run.state is not RunState.DONE or run.dry_run or into is None:
        return Standing("none", run.id, f"run {run.id} has published no queue")
    project = client.project(into.id)
    if project.key != into.key:
        detail = f"project {into.id} was deleted, and another project now has its id"
        return Standing("replaced", run.id, detail, f"usl-backend select {into.id}")
    found = standing(client, project, store=store)
    if found.run in ("", run.id):
        return found if found.kind != "none" else Standing("none", run.id, "its queue was reset")
    return Standing("none", run.id, f"run {found.run} has published a later queue")


def run_in_force(store: RunStore, project: Project, *, client: StudioClient) -> Run:
    """Return the run that owns a project's published queue.

    Raises
    ------
    InputError
        There is none, it is damaged, or its picks were imported from a pool outside Label Studio.
    """
    found = standing(client, project, store=store)
    if found.kind != "in force":
        remedy = found.remedy or f"usl-backend select {project.id}"
        raise InputError(
            f"project {project.id} has no published queue of usl-backend that new tasks can join ({found.detail}); "
            f"run `{remedy}` first"
        )
    run = store.get(found.run)
    if run.pool:
        raise InputError(
            f"the published queue of project {project.id} belongs to run {run.id}, which selected from {run.address} "
            f"and not from the project's tasks; run `usl-backend select {project.id}` first"
        )
    return run


def _remedy(project: Project, run: Run | None) -> str:
    """Return the command that puts a run's queue in force again."""
    if run is None:
        return f"usl-backend select {project.id}"
    return f"usl-backend {'publish' if run.state is RunState.DONE else 'resume'} {run.id}"


def _amiss(
    client: StudioClient,
    project: Project,
    state: QueueState,
    run: Run | None,
    *,
    store: RunStore,
    serve: bool,
) -> tuple[Kind, str] | None:
    """Return what is wrong with a queue, the gravest first; None if nothing is."""
    name = f"the queue of run {state.run_id}"
    if project.model_version != state.model_version:
        return _elsewhere(client, project, name, store=store)
    if run is None or run.state is not RunState.DONE:
        ended = "is gone from this data directory" if run is None else f"is {run.state.value}"
        return "incomplete", f"{state.model_version} is in force, but its run {state.run_id} {ended}"
    published = store.files(run.id).read_published()
    wanted = published.with_prediction(state.extended)
    held = versions(client, project.id).get(state.model_version, 0)
    if held != len(wanted) and (lost := _lost(client, project, state, wanted)):
        return "incomplete", (
            f"{name} is in force, but Label Studio holds {len(wanted) - lost} of its {len(wanted)} predictions;"
            f" {lost} were deleted"
        )
    if project.sampling != SAMPLING:
        return (
            "sampling",
            f"{name} is in force, but sampling was set to {project.sampling!r}: its order is not kept",
        )
    shown = tabs.views(client, project.id)
    if not any(view["id"] == state.view_id or tabs.version_of(view) == state.model_version for view in shown):
        return "no tab", f'{name} is in force, but its tab "{tabs.title(state.run_id)}" was deleted'
    return _misordered(client, project, state, published.queue, name, store=store) if serve else None


def _misordered(
    client: StudioClient,
    project: Project,
    state: QueueState,
    queue: Queue,
    name: str,
    *,
    store: RunStore,
) -> tuple[Kind, str] | None:
    """Check that the first unlabeled pick has the lowest score of the queue, and that Label Studio serves it."""
    if project.maximum_annotations > 1 or project.show_overlap_first:
        return None  # Label Studio serves other tasks first by the project's own settings
    ranked = queue.tasks
    free = {task.id for task in client.tasks_of(project.id, ranked) if task.unlabeled}
    places = zip(ranked, queue.places, strict=True)
    first = next((task for task, place in places if task in free and place.role == "pick"), None)
    if first is None:
        return None  # behind the picks, suggestions may come before the reserve
    scores = [
        (one.score, one.task)
        for one in predictions_of(client, project.id, state.model_version)
        if one.score is not None and one.task in free
    ]
    if scores and (lowest := min(scores)[1]) != first:
        return (
            "order",
            f"{name} is in force, but task {lowest} comes before task {first}, its first unlabeled pick",
        )
    found = read_back(client, project, ranked, files=store.files(state.run_id))
    return None if found.ok else ("order", f"{name} is in force, but {found.detail}")


def _elsewhere(client: StudioClient, project: Project, name: str, *, store: RunStore) -> tuple[Kind, str]:
    """Describe the model version that is in force instead of a queue."""
    found = origin(project.model_version)
    if found is None:
        shown = f'"{project.model_version}"' if project.model_version else "none"
        return "replaced", (
            f"{name} is not in force: the project's model version is {shown}; it was changed by hand, or a backup was"
            " restored"
        )
    if found.installation == store.installation:
        return "replaced", (
            f"{name} is not in force: the project uses {project.model_version}, which run {found.run_id} published"
            " earlier; a backup was restored"
        )
    return "foreign", f"{name} is not in force: {whose(client, project.id, project.model_version or '')}"


def _lost(client: StudioClient, project: Project, state: QueueState, wanted: frozenset[int]) -> int:
    """Return how many tasks that still exist have lost their prediction."""
    held = {one.task for one in predictions_of(client, project.id, state.model_version)}
    lacking = wanted - held
    return (
        len(lacking & {task.id for task in client.tasks(project.id, only_unlabeled=False)}) if lacking else 0
    )
