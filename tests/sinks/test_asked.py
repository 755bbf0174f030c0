"""Tasks asked for, without writing; tests/live/test_steering.py writes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
from digit_run import Made

from usl_backend.errors import InputError, RunError
from usl_backend.runs.lock import Lock
from usl_backend.sinks.asked import nearest_rows, queue_tasks, similar_tasks, unqueue_tasks
from usl_backend.studio.records import Task


@dataclass
class Listing:
    """A project as it is now; it cannot be written to."""

    there: frozenset[int]
    labeled: frozenset[int] = frozenset()
    asked: list[int] = field(default_factory=list)

    def tasks_of(self, _project: int, ids: Sequence[int]) -> Iterator[Task]:
        self.asked.extend(ids)
        return (Task(one, {}, int(one in self.labeled), 0) for one in sorted(ids) if one in self.there)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    run = Made(tmp_path_factory.mktemp("made"), 90, budget=10, exclude="1005")
    yield run
    run.store.close()


def listing(made: Made, *, gone: Sequence[int] = (), labeled: Sequence[int] = ()) -> Any:
    return Listing(frozenset(made.ids.tolist()) - {*gone}, frozenset(labeled))


def nearest(made: Made, task: int) -> list[int]:
    """All other tasks by distance, compared in float64."""
    rows = made.files.read_pool()[0].embeddings.astype(np.float64)
    apart = ((rows - rows[task - 1001]) ** 2).sum(axis=1)
    return [int(one) for one in made.ids[np.argsort(apart, kind="stable")] if one != task]


@pytest.mark.parametrize("task", [1001, 1044, 1090])
def test_similar_tasks__nearest_unlabeled_ones(made: Made, task: int) -> None:
    order = nearest(made, task)
    labeled, gone, excluded = order[0:12:3], order[1:40:7], order[2:60:11]
    client = listing(made, gone=gone, labeled=[task, *labeled])
    made.store.add_wishes(made.run.published_to.key, excluded, "exclude")
    found = similar_tasks(made.run, task, 30, store=made.store, client=client)
    out = {*labeled, *gone, *excluded, 1005}
    assert list(found) == [one for one in order if one not in out][:30]
    some = similar_tasks(made.run, task, 3, store=made.store, client=client)
    assert some == found[:3]
    every = similar_tasks(made.run, task, 1000, store=made.store, client=client)
    assert list(every) == [one for one in order if one not in out]
    with pytest.raises(InputError, match=f"no unlabeled task is left that is like task {task}"):
        similar_tasks(made.run, task, 3, store=made.store, client=listing(made, labeled=made.ids.tolist()))
    made.store.remove_wishes(made.run.published_to.key, excluded, "exclude")


def test_similar_tasks__of_a_task_that_was_not_read(made: Made) -> None:
    with pytest.raises(InputError, match="task 5 is not among the 90 tasks that run 12-1 has read"):
        similar_tasks(made.run, 5, 3, store=made.store, client=listing(made))
    with pytest.raises(InputError, match="tasks is 0; give 1 to 10,000"):
        similar_tasks(made.run, 1001, 0, store=made.store, client=listing(made))


def test_nearest_rows__ties_by_row() -> None:
    rows = np.array([[0.0, 1], [1, 0], [0, 1], [0, -1], [1, 0]], dtype=np.float16)
    assert nearest_rows(rows, 2).tolist() == [0, 2, 1, 4, 3]


def test_queue_tasks__what_cannot_be_queued_is_told(made: Made) -> None:
    pick = made.queue.instances[0]
    others = [one for one in made.ids.tolist() if one not in {*made.queue.instances, 1005}]
    first, labeled, gone, barred, second, *_ = others
    client = listing(made, gone=[gone], labeled=[labeled])
    wanted = [second, labeled, gone, 1005, barred, 77, first, pick, second]
    made.store.add_wishes(made.run.published_to.key, [barred], "exclude")
    found = queue_tasks(made.run, wanted, store=made.store, client=client, dry_run=True)
    made.store.remove_wishes(made.run.published_to.key, [barred], "exclude")
    assert found.tasks == (pick, second, first), "in labeling order"
    assert found.new == (second, first)
    assert found.passed_over == {
        labeled: "it has a label",
        gone: "it was deleted",
        1005: "it is excluded",
        barred: "it is excluded",
        77: "it is not in the pool of run 12-1",
    }
    assert made.files.read_published().queue == made.queue, "a dry run"
    for none in ([], range(10_001)):
        with pytest.raises(InputError, match="named"):
            queue_tasks(made.run, none, store=made.store, client=client)
    with Lock(made.files.lock), pytest.raises(RunError, match="is locked by process"):
        queue_tasks(made.run, [first], store=made.store, client=client)


def test_unqueue_tasks__only_what_was_asked_for(made: Made) -> None:
    pick = made.queue.instances[0]
    one, two = [one for one in made.ids.tolist() if one not in made.queue.instances][:2]
    before = made.files.read_published()
    made.files.write_published(replace(before, queue=before.queue.with_asked([one])))
    found = unqueue_tasks(made.run, [pick, one, two], store=made.store, client=listing(made), dry_run=True)
    assert found.removed == (one,)
    assert found.passed_over == {pick: "nobody asked for it", two: "nobody asked for it"}
    made.files.write_published(before)
