"""What a new queue takes over from what annotators see; tests/live/test_studio_queue.py publishes."""

import pytest

from usl_backend.instances import QueueState
from usl_backend.studio.bulk import NewPrediction
from usl_backend.studio.preannotations import Prediction
from usl_backend.studio.queue import _carry_over
from usl_backend.studio.records import Project

CONFIG = """<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="cat"/>
<Choice value="owl"/></Choices></View>"""
FORMER, LATER = "usl-12-1", "usl-12-2"


def prediction(task: int, version: str, label: str) -> Prediction:
    result = [{"from_name": "c", "to_name": "i", "type": "choices", "value": {"choices": [label]}}]
    return Prediction(task, version, 1.0, result, task)


@pytest.mark.parametrize(
    ("in_force", "carried"),
    [(LATER, {}), (FORMER, {5: "owl"})],
    ids=["replaced and kept for open tasks", "in force again: chosen by hand, or a backup was restored"],
)
def test_carry_over__from_the_version_in_force_although_it_was_replaced(
    in_force: str, carried: dict[int, str]
) -> None:
    now = Project(12, "12.100", "Pets", 100.0, CONFIG, in_force, "", 1, False, True, 9)
    state = QueueState("12-3", "", "", None, None, "", "other", replaced=(FORMER,))
    new = {1: NewPrediction(0.0, [])}
    stored = [prediction(5, FORMER, "owl")]
    tasks = _carry_over(now, {FORMER: 1, LATER: 0}, stored, new=new, state=state, warnings=[])
    assert tasks == tuple(carried)
    assert {task: one.result[0]["value"]["choices"] for task, one in new.items() if one.result} == {
        task: [label] for task, label in carried.items()
    }
