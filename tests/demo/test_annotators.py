from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from live_studio import LiveProject

from usl_backend.demo import annotators
from usl_backend.studio.client import StudioClient


class Queue:
    """Serves tasks in order to whoever asks, as Label Studio should."""

    def __init__(self, tasks: list[int]) -> None:
        self.tasks: Iterator[int] = iter(tasks)
        self.given: list[tuple[str, int, str]] = []

    def annotator(self, name: str) -> Any:
        queue = self

        class Annotator:
            def next_task(self, project_id: int) -> dict[str, Any] | None:
                task = next(queue.tasks, None)
                return None if task is None else {"id": task}

            def annotate(self, task_id: int, result: list[dict[str, Any]]) -> int:
                (region,) = result
                assert (region["from_name"], region["to_name"], region["type"]) == (
                    "label",
                    "image",
                    "choices",
                )
                queue.given.append((name, task_id, region["value"]["choices"][0]))
                return 1

        return Annotator()


def play(queue: Queue, turns: int) -> list[int]:
    hired = [queue.annotator("ann"), queue.annotator("bob")]
    control = {"from_name": "label", "to_name": "image"}
    return annotators.play(hired, 1, turns=turns, choice=lambda task: f"label {task}", control=control)


def test_play__takes_turns_and_labels_what_is_served() -> None:
    queue = Queue([5, 3, 9, 1])
    assert play(queue, 3) == [5, 3, 9]
    assert queue.given == [("ann", 5, "label 5"), ("bob", 3, "label 3"), ("ann", 9, "label 9")]


def test_play__ends_when_nothing_is_left() -> None:
    assert play(Queue([5, 3]), 4) == [5, 3]


@pytest.mark.live
def test_hire__new_users_of_the_same_organisation(
    client: StudioClient, make_project: Callable[..., LiveProject]
) -> None:
    made = make_project(2)
    with ExitStack() as stack:
        hired = [stack.enter_context(one) for one in annotators.hire(client, 2)]
        names = {one.whoami() for one in hired}
        assert len(names | {client.whoami()}) == 3
        served = [one.next_task(made.id) for one in hired]
    assert {task["id"] for task in served if task} == set(made.tasks)
