"""A Label Studio played by a project and its annotations; odd tasks are cats, even ones dogs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from usl_backend.studio.records import LabeledTask, Project, Task

CHOICES = """<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="cat"/>
<Choice value="dog"/></Choices></View>"""
N = 200
"""Rows of the pool: task 1 is row 0; odd tasks are cats, even ones dogs."""


def annotation(*chosen: Any, who: int = 1, cancelled: bool = False) -> dict[str, Any]:
    result = [{"from_name": "c", "to_name": "i", "type": "choices", "value": {"choices": list(chosen)}}]
    return {"result": result if chosen else [], "completed_by": who, "was_cancelled": cancelled, "id": who}


@dataclass
class Studio:
    annotations: dict[int, list[dict[str, Any]]]
    label_config: str = CHOICES
    key: str = "12.100"
    tasks_now: range = range(1, N + 1)
    data: dict[int, dict[str, Any]] = field(default_factory=dict)

    def project(self, project_id: int) -> Project:
        number = len(self.tasks_now)
        return Project(project_id, self.key, "Pets", 100.0, self.label_config, "", "", 1, False, True, number)

    def tasks(self, project_id: int, *, data_key: str, only_unlabeled: bool) -> Iterator[Task]:
        assert not only_unlabeled
        return (Task(task, self.data.get(task, {}), 0, 0) for task in self.tasks_now)

    def newest_task(self, project_id: int) -> int:
        return max(self.tasks_now)

    def labeled(self, project_id: int) -> Iterator[LabeledTask]:
        for task, entries in self.annotations.items():
            yield LabeledTask(task, {"image": f"{task}.png"}, tuple(entries))


def truth(task: int) -> str:
    return "cat" if task % 2 else "dog"


def labeled(*tasks: int) -> dict[int, list[dict[str, Any]]]:
    """Right labels of these tasks."""
    return {task: [annotation(truth(task))] for task in tasks}
