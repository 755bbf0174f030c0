from collections.abc import Callable

import pytest
from digit_run import Made

from usl_backend.errors import InputError
from usl_backend.instances import Queue
from usl_backend.report.states import (
    DISAGREE,
    SEVERAL,
    STATUSES,
    Coded,
    known_states,
    queued,
    read_states,
    states_of,
)
from usl_backend.studio.records import LabeledTask, Project

CONFIG = (
    '<View><Image name="i" value="$image"/><Choices name="c" toName="i">'
    '<Choice value="cat"/><Choice value="dog"/><Choice value="owl"/></Choices></View>'
)
TWO = CONFIG.replace("</View>", CONFIG[6:].replace('"i"', '"j"').replace('"c"', '"d"'))
QUEUE = Queue.of([11, 12], control=[13], reserve=[14])


def labeled(task: int, *choices: tuple[int | None, str], skipped: bool = False) -> LabeledTask:
    annotations = tuple(
        {
            "id": 10 * task + number,
            "completed_by": who,
            "was_cancelled": skipped,
            "result": [{"from_name": "c", "value": {"choices": [choice]}}],
        }
        for number, (who, choice) in enumerate(choices)
    )
    return LabeledTask(task, {}, annotations)


def of(coded: Coded | None, task: int) -> str:
    assert coded is not None
    code = coded.codes.get(task, coded.otherwise)
    return coded.names[code] if code >= 0 else ""


def test_queued__a_role_each_and_the_others_wait() -> None:
    states = queued(QUEUE)
    assert [of(states.status, task) for task in (11, 13, 14, 99)] == ["pick", "control", "reserve", "waiting"]
    assert states.label is None


def test_states_of__label_annotator_and_status() -> None:
    tasks = [
        labeled(11, (1, "dog")),
        labeled(13, (1, "cat"), (2, "dog")),
        labeled(20, (2, "cat"), (3, "cat")),
        labeled(21, (1, "owl"), skipped=True),
        labeled(22, (None, "owl")),
    ]
    found = states_of(QUEUE, tasks, label_config=CONFIG, names={1: "Ann"}, read_at=5.0)
    assert [of(found.label, task) for task in (11, 12, 13, 20, 21)] == ["dog", "", DISAGREE, "cat", ""]
    assert [of(found.annotator, task) for task in (11, 12, 13, 21, 22)] == [
        "Ann",
        "",
        SEVERAL,
        "",
        "imported",
    ]
    assert [of(found.status, task) for task in (11, 12, 13, 21)] == ["labeled", "pick", "labeled", "waiting"]
    assert found.label is not None
    assert found.label.names[:3] == ("cat", "dog", "owl")
    assert found.note == ""


def test_states_of__without_one_choice_per_task_the_rest_is_told() -> None:
    tasks = [labeled(11, (1, "dog")), labeled(12, (2, "cat"))]
    found = states_of(QUEUE, iter(tasks), label_config=TWO, names={}, read_at=5.0)
    assert found.label is None
    assert "several Choices" in found.note
    assert [of(found.annotator, task) for task in (11, 12)] == ["user 1", "user 2"]


class Played:
    """A Label Studio with one project."""

    def __init__(self, key: str, tasks: list[LabeledTask]) -> None:
        self.key, self.tasks = key, tasks
        self.http = self

    def project(self, project: int) -> Project:
        return Project(project, self.key, "Digits", 0.0, CONFIG, None, "", 1, False, True, 300)

    def json(self, _method: str, path: str) -> list[dict[str, object]]:
        assert path == "/api/users/"
        return [{"id": 1, "first_name": "Ann", "last_name": "", "email": "ann@studio.test"}]

    def labeled(self, _project: int) -> list[LabeledTask]:
        return self.tasks


def test_read_states__what_was_read_stays_with_the_report(make_run: Callable[..., Made]) -> None:
    made = make_run(90, budget=6, report=True)
    task = made.queue.instances[0]
    assert known_states(made.files, note="unread").note == "unread"
    studio = Played(made.run.project_key, [labeled(task, (1, "dog"))])
    found = read_states(made.run, made.files, studio)  # type: ignore[arg-type]
    assert (of(found.label, task), of(found.annotator, task)) == ("dog", "Ann")
    assert known_states(made.files, note="unread") == found
    assert STATUSES[found.status.codes[made.queue.instances[1]]] == "pick"


def test_read_states__another_project_with_the_same_id_is_refused(make_run: Callable[..., Made]) -> None:
    made = make_run(90, budget=6, report=True)
    with pytest.raises(InputError, match="another project now has its id"):
        read_states(made.run, made.files, Played("12.1", []))  # type: ignore[arg-type]
