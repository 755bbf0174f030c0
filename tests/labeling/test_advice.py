import pytest

from usl_backend.labeling.advice import next_step
from usl_backend.labeling.state import ClassCount, LabelingState, QueueNow, RoleCount

IN_FORCE = QueueNow("12-3", True, 1.0, "in force")
BROKEN = QueueNow("12-3", False, 1.0, "sampling", "sampling was changed", "usl-backend publish 12-3")
TWO = (ClassCount("cat", 20), ClassCount("dog", 20))


def roles(pick=(20, 20), control=(0, 0)):
    return {"pick": RoleCount(*pick), "control": RoleCount(*control), "other": RoleCount(0, 9)}


@pytest.mark.parametrize(
    ("given", "suggested_from", "said"),
    [
        ({"queue": QueueNow()}, 0, "Start a run: it chooses the tasks to label first."),
        ({"queue": QueueNow(kind="foreign")}, 0, "The queue of another data directory"),
        ({"active": "12-4"}, 0, "Run 12-4 is at work"),
        ({"queue": BROKEN}, 0, "`usl-backend publish 12-3`"),
        ({"labeled": roles((8, 20))}, 0, "Label 12 more picks."),
        ({"labeled": {**roles(), "pick": RoleCount(8, 20, 11)}, "waiting": 3}, 0, "Label 1 more pick."),
        ({"labeled": roles(control=(5, 50))}, 0, "Label 45 more tasks of the control set"),
        ({"waiting": 3}, 0, "3 new tasks wait: press Extend"),
        ({"waiting": 1}, 0, "1 new task waits: press Extend"),
        ({}, 0, "Press Suggest: the labels say"),
        ({}, 10, "Press Suggest again"),
        ({}, 19, "Export the labels"),
        ({"classes": (ClassCount("cat", 20), ClassCount("dog", 0))}, 0, "Export the labels"),
        ({"queue": QueueNow("12-3", False, 1.0, "unknown")}, 0, "Press Suggest"),
    ],
)
def test_next_step__says_the_first_thing_that_is_due(given, suggested_from, said):
    state = LabelingState(**{"project": 12, "queue": IN_FORCE, "labeled": roles(), "classes": TWO, **given})
    assert said in next_step(state, suggested_from=suggested_from)
