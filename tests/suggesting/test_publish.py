"""Predictions that suggestions become; that Label Studio takes and serves them is tested in tests/live."""

from dataclasses import replace
from typing import Any

import pytest
from played_project import Studio, labeled

from usl_backend.errors import InputError, RunError
from usl_backend.instances import QueueState
from usl_backend.runs import Run, RunStore
from usl_backend.settings import HostSettings
from usl_backend.studio.bulk import FRONT_SCORE
from usl_backend.suggesting.compute import suggest_for_run
from usl_backend.suggesting.labels import read_run_labels
from usl_backend.suggesting.publish import _front, _predictions, fill_in, require_accepted

CONTROL = range(101, 161)


def found(store: RunStore, run: Run, *tasks: int, **options: Any) -> Any:
    host = HostSettings.load({"model_dir": store.directory}, environ={})
    studio: Any = Studio(labeled(*tasks))
    labels = read_run_labels(store, run, client=studio)
    return suggest_for_run(store, labels, host=host, client=studio, **options)


def state(extended: tuple[int, ...]) -> QueueState:
    return QueueState("12-1", "usl-12-1", "", None, None, "", None, extended=extended)


def test_front__is_the_queue_and_what_was_queued_later(store: RunStore, run: Run) -> None:
    told = found(store, run, 1, 2)
    queue = [1, 2, 3, 4, *CONTROL, 5]
    assert _front(told, None, review=False) == queue
    assert _front(told, state((300, 301)), review=False) == [*queue, 300, 301]
    assert _front(told, state((300,)), review=True) == [*queue[:-1], 300]


class Switched(Studio):
    """A project that uses a version of ours; what is written to it is an AttributeError."""

    version = "usl-12-1"

    def project(self, project_id: int) -> Any:
        return replace(super().project(project_id), model_version=self.version)


def test_fill_in__refused_where_the_queue_was_changed_meanwhile(store: RunStore, run: Run) -> None:
    told, client, files = found(store, run, 1, 2), Switched({}), store.files(run.id)
    published = files.read_published()
    for changed in (published.queue.with_control([7]), published.queue.with_asked([9])):
        files.write_published(replace(published, queue=changed))
        with pytest.raises(RunError, match="run 12-1 was changed while its suggestions were computed"):
            fill_in(told, store=store, client=client)
    files.write_published(published)
    with pytest.raises(AttributeError):
        fill_in(told, store=store, client=client)


def test_fill_in__refused_where_another_run_has_published_meanwhile(store: RunStore, run: Run) -> None:
    told, client = found(store, run, 1, 2), Switched({})
    client.version = "usl-12-2"
    with pytest.raises(InputError, match='is "usl-12-2", which is not of run 12-1; start a new run'):
        fill_in(told, store=store, client=client)


def test_predictions__ranks_lie_below_confidences_and_control_tasks_are_blank(
    store: RunStore, run: Run
) -> None:
    told = found(store, run, 1, 2)
    front = _front(told, None, review=False)
    made = _predictions(told, front, mark=False)
    assert sorted(front, key=lambda task: made[task].score) == front
    assert max(made[task].score for task in front) < FRONT_SCORE
    assert all(not made[task].result for task in (1, 2, *CONTROL, 4))
    behind = [task for task in made if task not in front]
    assert set(behind) | set(front) == set(range(1, 201))
    row = {task: number for number, task in enumerate(told.labels.pool.ids.tolist())}
    for task in (3, 5, *behind):
        (region,) = made[task].result
        assert region["id"] == f"usl-suggested-{task}"
        assert region["value"] == {"choices": ["cat" if task % 2 else "dog"]}
    for task in behind:
        assert made[task].score == pytest.approx(told.confidence[row[task]])
        assert FRONT_SCORE <= made[task].score < 1


def test_predictions__what_is_accepted_is_marked(store: RunStore, run: Run) -> None:
    told = found(store, run, 1, 2, *CONTROL)
    made = _predictions(told, _front(told, None, review=True), mark=True)
    marked = {
        task for task, one in made.items() if one.result and one.result[0]["id"] == f"usl-accepted-{task}"
    }
    assert marked == set(told.labels.pool.ids[told.accepted].tolist())
    assert len(marked) > 100
    require_accepted(told)


def test_require_accepted__says_the_number_that_is_missing(store: RunStore, run: Run) -> None:
    with pytest.raises(InputError, match=r"none can be accepted at 99 %: 60 control labels, 170 more needed"):
        require_accepted(found(store, run, 1, 2, *CONTROL, target=0.99))
