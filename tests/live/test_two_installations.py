"""Two installations publish to one project: whatever comes between whose requests, one whole queue is in force.

All pairs of steps, by hand: `pytest -m slow --log-cli-level=INFO tests/live/test_two_installations.py`.
"""

import itertools
import logging
import random
import threading
from collections.abc import Callable

import pytest
from live_studio import LiveProject, LiveStudio
from steps import Publisher

from usl_backend.errors import SupersededError
from usl_backend.instances import QueueState
from usl_backend.studio.model_versions import Origin, origin
from usl_backend.studio.preannotations import predictions
from usl_backend.studio.queue import Switch, publish

logger = logging.getLogger(__name__)

MakeProject = Callable[..., LiveProject]
_runs = itertools.count(1)


def two_on(
    studio: LiveStudio, project: LiveProject, memory: dict[str, QueueState] | None = None
) -> tuple[Publisher, Publisher]:
    """Two installations about to publish their runs, which have the same number."""
    known = {} if memory is None else memory
    run = f"{project.id}-{next(_runs)}"
    tasks = random.Random(project.id).sample(list(project.tasks), 8)
    return (
        Publisher(studio, project, "aaaaaa", run, tasks[:3], tasks[3:4], memory=known),
        Publisher(studio, project, "bbbbbb", run, tasks[4:7], tasks[7:], memory=known),
    )


def assert_one_whole_queue(project: LiveProject, *both: Publisher) -> Publisher:
    """Exactly one queue is in force and whole, and the other installation knows; return the one in force."""
    now = project.now
    there = {installation.outcome.model_version: installation for installation in both if won(installation)}
    assert now.model_version in there, (now, [one.outcome for one in both], [one.asked for one in both])
    winner = there[now.model_version]
    held = sorted(predictions(project.client, project.id), key=lambda one: one.score or 0.0)
    mine = [one.task for one in held if one.model_version == now.model_version]
    assert mine == [*winner.picks, *winner.reserve]
    assert now.sampling == "Uncertainty sampling"
    shown = [view["data"] for view in project.views() if view["id"] == winner.outcome.view_id]
    assert [data["filters"]["items"][0]["value"] for data in shown] == [now.model_version]
    assert sum(view["data"]["title"] == "Default" for view in project.views()) == 1
    switched = max(
        at for at, asked in zip(winner.moments, winner.asked, strict=True) if asked.startswith("PATCH")
    )
    for loser in both:
        if loser is winner:
            continue
        if won(loser):
            assert max(loser.moments) < switched, "it was over before, so it need not know"
        else:
            wrote = Origin(loser.run_id, loser.installation)
            assert not [one for one in held if origin(one.model_version) == wrote], "something of it is left"
            assert isinstance(loser.outcome, SupersededError), loser.outcome
            assert f"installation {winner.installation} published run {winner.run_id} at 20" in str(
                loser.outcome
            )
    return winner


def won(publisher: Publisher) -> bool:
    return isinstance(publisher.outcome, Switch)


def is_switch(request: str) -> bool:
    return request.startswith("PATCH /api/projects/")


def interleave(
    studio: LiveStudio, project: LiveProject, first: int, second: int, *, memory: dict[str, QueueState]
) -> tuple[int, int]:
    """A sends `first` requests, B `second`, A its others, B its others; return how many each sent."""
    a, b = two_on(studio, project, memory)
    a.start()
    a.steps(first)
    b.start()
    b.steps(second)
    a.finish()
    b.finish()
    winner = assert_one_whole_queue(project, a, b)
    left = set(project.model_versions()) - {winner.outcome.model_version}
    spared = {version for state in memory.values() for version in state.replaced}
    assert left <= spared, "nothing earlier is left than what each has replaced last"
    assert len(left) <= 2
    return len(a.asked), len(b.asked)


@pytest.mark.parametrize(
    ("first", "second"),
    [(0, 25), (5, 99), (8, 8), (8, 99), (11, 11), (12, 99), (14, 15)],
)
def test_interleaved__one_whole_queue_is_in_force(
    label_studio: LiveStudio, make_project: MakeProject, first: int, second: int
) -> None:
    project = make_project(12)
    earlier = f"{project.id}-999"
    published = publish(
        project.client, project.now, run_id=earlier, installation="aaaaaa", picks=project.tasks[:2]
    )
    interleave(label_studio, project, first, second, memory={"aaaaaa": published.state})


def test_switched_while_the_other_makes_its_tab__the_other_withdraws(
    label_studio: LiveStudio, make_project: MakeProject
) -> None:
    project = make_project(12)
    a, b = two_on(label_studio, project)
    a.start()
    while not any(map(is_switch, a.asked)):
        a.step()
    b.start()
    b.finish()
    a.finish()
    assert assert_one_whole_queue(project, a, b) is b
    assert "usl-backend resume" in str(a.outcome)
    assert project.model_versions() == {b.outcome.model_version: 4}
    # resumed, it takes its turn
    again = Publisher(label_studio, project, a.installation, a.run_id, a.picks, a.reserve)
    again.publish()
    assert assert_one_whole_queue(project, again) is again
    assert project.model_versions() == {again.outcome.model_version: 4, b.outcome.model_version: 4}
    assert sum("USL picks" in view["data"]["title"] for view in project.views()) == 1


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_interleaved__every_pair_of_steps(label_studio: LiveStudio, make_project: MakeProject) -> None:
    """Each pair begins with the queue that the pair before has left in force."""
    project = make_project(12)
    memory: dict[str, QueueState] = {}
    interleave(label_studio, project, 99, 0, memory=memory)
    longest = interleave(label_studio, project, 99, 0, memory=memory)
    for first in range(longest[0] + 1):
        for second in range(longest[1] + 1):
            interleave(label_studio, project, first, second, memory=memory)
        logger.info(
            "whole with B at any of %d steps while A is at step %d of %d", longest[1] + 1, first, longest[0]
        )


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_free_rounds__one_whole_queue_is_in_force(
    label_studio: LiveStudio, make_project: MakeProject
) -> None:
    chance, told = random.Random(16), []
    for _ in range(20):
        project = make_project(12)
        both = two_on(label_studio, project)
        threads = [threading.Timer(chance.random() * 0.3, one.publish) for one in both]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        winner = assert_one_whole_queue(project, *both)
        told.append((winner.installation, sum(map(won, both))))
    logger.info("20 rounds, %d with one that said that it lost", sum(count == 1 for _, count in told))
