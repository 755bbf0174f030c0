"""The draw of a control set after a run, without writing; tests/live/test_control_set.py writes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from digit_run import Made

from usl_backend.errors import InputError, RunError
from usl_backend.pipeline.control import draw_control
from usl_backend.runs.inventory import Inventory
from usl_backend.runs.lock import Lock
from usl_backend.studio.records import Task


@dataclass(frozen=True)
class Listing:
    """A project as it is now; it cannot be written to."""

    labeled: frozenset[int]
    there: tuple[int, ...]

    def tasks(self, _project: int, **_: Any) -> Iterator[Task]:
        return (Task(one, {}, int(one in self.labeled), 0) for one in self.there)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    run = Made(tmp_path_factory.mktemp("made"), 90, budget=30)
    yield run
    run.store.close()


def drawn(made: Made, tasks: int, *, labeled: set[int] | None = None, gone: set[int] | None = None) -> Any:
    there = tuple(one for one in (*made.ids.tolist(), 5000, 5001) if one not in (gone or set()))
    client: Any = Listing(frozenset(labeled or set()), there)
    return draw_control(made.run, tasks=tasks, store=made.store, client=client, dry_run=True)


def test_draw_control__from_the_pool_as_it_was_without_tasks_deleted_since(made: Made) -> None:
    whole = drawn(made, 90)
    assert sorted(whole.new) == made.ids.tolist(), "tasks imported since are not drawn"
    gone = set(made.ids.tolist()[::3])
    found = drawn(made, 25, gone=gone)
    assert list(found.new) == [task for task in whole.new if task not in gone][:25]
    with pytest.raises(InputError, match="tasks is 61 but run 12-1 has only 60 tasks to draw from"):
        drawn(made, 61, gone=gone)


def test_draw_control__counts_picks_and_labeled_tasks(made: Made) -> None:
    picks = set(made.queue.of_role("pick"))
    found = drawn(made, 40)
    assert (found.size, found.queued) == (40, 0)
    assert 0 < found.picks == len(picks & set(found.new)) < 40
    labeled = {*picks, *found.new[:5]}
    assert drawn(made, 40, labeled=labeled).labeled == len(labeled & set(found.new))
    assert drawn(made, 40, labeled=labeled).new == found.new, "labels change nothing about the draw"


def test_draw_control__leaves_out_what_had_a_label_at_the_run(made: Made, tmp_path: Path) -> None:
    copy = made.copied(tmp_path / "data")
    held = tuple(made.ids.tolist()[:50])
    copy.files.write_instances(copy.files.read_instances(), Inventory(title="Digits", labeled=held))
    assert sorted(drawn(copy, 40).new) == made.ids.tolist()[50:]
    copy.store.close()


def test_draw_control__while_another_process_works_on_the_run(made: Made) -> None:
    with Lock(made.files.lock), pytest.raises(RunError, match="is locked by process"):
        drawn(made, 20)


def test_draw_control__leaves_out_what_is_excluded_now(made: Made, tmp_path: Path) -> None:
    copy = made.copied(tmp_path / "data")
    inventory = Inventory(title="Digits", key="12.1700000000")
    copy.files.write_instances(copy.files.read_instances(), inventory)
    barred = made.ids.tolist()[:50]
    copy.store.add_wishes(inventory.key, barred, "exclude")
    assert sorted(drawn(copy, 40).new) == made.ids.tolist()[50:]
    copy.store.close()
