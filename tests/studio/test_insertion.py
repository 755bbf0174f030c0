"""Places within a queue in force, on played predictions; tests/live/test_steering.py asks Label Studio to serve it."""

from dataclasses import dataclass, field
from typing import Any

import pytest

from usl_backend.studio.insertion import insert, take_out
from usl_backend.studio.queue import append
from usl_backend.studio.records import Project

QUEUE = "usl-12-1"
SUGGESTING = "usl-suggest-12-1"


@dataclass
class Played:
    """A project's predictions, which can be read, imported, changed and deleted one by one."""

    version: str
    rows: list[dict[str, Any]] = field(default_factory=list)

    @property
    def http(self) -> "Played":
        return self

    @property
    def project(self) -> Project:
        return Project(12, "12.100", "Pets", 100.0, "", self.version, "", 1, False, True, 9)

    def json(self, method: str, path: str, *, body: Any = None, params: Any = None) -> Any:
        if method == "GET":
            return [dict(row) for row in self.rows]
        if method == "POST":
            self.rows += [{**row, "id": len(self.rows) + place} for place, row in enumerate(body, 1)]
            return {"created": len(body)}
        (row,) = (row for row in self.rows if path == f"/api/predictions/{row['id']}/")
        if method == "PATCH":
            row.update(body)
        else:
            self.rows.remove(row)
        return None

    def served(self) -> list[int]:
        return [row["task"] for row in sorted(self.rows, key=lambda row: row["score"])]


def suggested(task: int) -> list[dict[str, Any]]:
    return [{"id": f"usl-suggested-{task}", "value": {"choices": ["cat"]}}]


def played(version: str, scores: dict[int, float]) -> Any:
    rows = [
        {
            "id": task,
            "task": task,
            "score": score,
            "model_version": version,
            "result": suggested(task) if score >= 0.01 and version == SUGGESTING else [],
        }
        for task, score in scores.items()
    ]
    return Played(version, rows)


@pytest.mark.parametrize("version", [QUEUE, SUGGESTING])
def test_insert__within_the_queue_whatever_comes_behind_it(version: str) -> None:
    """Tasks 3 and 4 are suggestions, which have their confidence as score, or an ordinary queue's spares."""
    client = played(version, {1: 0.0, 2: 0.002, 3: 0.3, 4: 0.6})
    assert insert(client, client.project, version=version, tasks=[7, 4], after=[1, 2]) == 2
    assert client.served() == [1, 2, 7, 4, 3]
    assert insert(client, client.project, version=version, tasks=[7, 4], after=[1, 2]) == 0, "repeated"
    assert insert(client, client.project, version=version, tasks=[8], after=[1, 2, 7, 4]) == 1
    assert append(client, client.project, version=version, tasks=[9]) == 1
    assert client.served() == ([1, 2, 7, 4, 8, 9, 3] if version == SUGGESTING else [1, 2, 7, 4, 8, 3, 9])
    assert take_out(client, client.project, version=version, tasks=[7, 4, 8]) == 3
    assert client.served()[:3] == ([1, 2, 9] if version == SUGGESTING else [1, 2, 3])
