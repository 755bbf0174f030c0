"""What a round hands on to the next one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from digit_run import FIRST, Made

from usl_backend.instances import Pool, Queue
from usl_backend.runs import Run
from usl_backend.runs.inventory import Inventory
from usl_backend.runs.published import Published
from usl_backend.settings import RunSettings
from usl_backend.sinks.control import earlier_control


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    run = Made(tmp_path, 90, budget=10)
    yield run
    run.store.close()


def following(made: Made, *, dry_run: bool = False) -> Run:
    settings = RunSettings.resolve(explicit={"next": True}, environ={}).to_json()
    return made.store.create(project=12, project_key="12.1700000000", settings=settings, dry_run=dry_run)


def grown(made: Made, *, by: int) -> Pool:
    """The pool with tasks that were imported since."""
    n = len(made.ids) + by
    return Pool(np.arange(FIRST, FIRST + n), np.zeros((n, 2), dtype=np.float32))


def draw(made: Made, count: int) -> tuple[int, ...]:
    drawn = tuple(made.ids.tolist()[::3][:count])
    made.files.write_published(Published(Queue.of(made.queue.of_role("pick"), control=drawn)))
    return drawn


def test_earlier_control__is_handed_on_while_its_tasks_exist(made: Made) -> None:
    drawn = draw(made, 30)
    run = following(made)
    assert sorted(earlier_control(run, grown(made, by=0), store=made.store)) == sorted(drawn)
    left = Pool(made.ids[3:], np.zeros((87, 2), dtype=np.float32))
    assert sorted(earlier_control(run, left, store=made.store)) == sorted(drawn[1:])


def test_earlier_control__as_large_a_share_of_the_new_tasks_is_drawn(made: Made) -> None:
    drawn = draw(made, 30)
    found = earlier_control(following(made), grown(made, by=60), store=made.store)
    fresh = set(found) - set(drawn)
    assert len(fresh) == 20, "30 of 90, so 20 of 60"
    assert min(fresh) >= FIRST + 90


def test_earlier_control__tasks_that_could_not_be_drawn_before_do_not_count(made: Made) -> None:
    drawn = draw(made, 30)
    held = tuple(task for task in made.ids.tolist() if task not in drawn)[:30]
    made.files.write_instances(made.files.read_instances(), Inventory(title="Digits", labeled=held))
    found = earlier_control(following(made), grown(made, by=60), store=made.store)
    assert len(set(found) - set(drawn)) == 30, "30 of 60 that could be drawn, so 30 of 60"


def test_earlier_control__none_was_drawn(made: Made) -> None:
    assert earlier_control(following(made), grown(made, by=9), store=made.store) == ()


def test_earlier_control__a_project_that_took_the_id_hands_nothing_on(made: Made) -> None:
    draw(made, 30)
    run = made.store.create(project=12, project_key="12.1800000000", settings={})
    assert earlier_control(run, grown(made, by=0), store=made.store) == ()
