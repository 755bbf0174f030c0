"""What the live tests hold in their hands: a running Label Studio, a fresh project, another user."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from usl_backend.studio.client import StudioClient
from usl_backend.studio.records import Project

CHOICES = """<View><Image name="image" value="$image"/>
<Choices name="choice" toName="image"><Choice value="cat"/><Choice value="dog"/><Choice value="owl"/></Choices>
</View>"""


@dataclass(frozen=True)
class LiveStudio:
    """A running Label Studio: address, the administrator's credentials and what its disk serves."""

    url: str
    token: str
    username: str
    password: str
    version: str
    documents_root: Path
    data_directory: Path


@dataclass(frozen=True)
class LiveProject:
    """A fresh project and the ids of its tasks in the order of their import."""

    client: StudioClient
    id: int
    tasks: tuple[int, ...]

    @property
    def now(self) -> Project:
        """The project as Label Studio has it now."""
        return self.client.project(self.id)

    def predict(self, tasks: Sequence[int], *, version: str, label: str = "cat", score: float = 0.5) -> None:
        """Import pre-annotations of another model."""
        result = [choice(label)]
        rows = [{"task": t, "result": result, "score": score, "model_version": version} for t in tasks]
        path = f"/api/projects/{self.id}/import/predictions"
        assert self.client.http.json("POST", path, body=rows)["created"] == len(rows)

    def add_tasks(self, data: Sequence[dict[str, Any]]) -> tuple[int, ...]:
        """Import more tasks; their ids."""
        known = {task.id for task in self.client.tasks(self.id, only_unlabeled=False)}
        self.client.http.json("POST", f"/api/projects/{self.id}/import", body=[{"data": d} for d in data])
        return tuple(t.id for t in self.client.tasks(self.id, only_unlabeled=False) if t.id not in known)

    def views(self) -> list[dict[str, Any]]:
        """The project's Data Manager tabs."""
        return self.client.http.json("GET", "/api/dm/views/", params={"project": self.id})

    def model_versions(self) -> dict[str, int]:
        """Predictions per model version."""
        return self.client.http.json("GET", f"/api/projects/{self.id}/model-versions/")

    def serve(self, annotators: Sequence[StudioClient], count: int, *, label: str = "cat") -> list[int]:
        """Let the annotators take turns: next task, label it. The task ids in the order served."""
        served = []
        for turn in range(count):
            annotator = annotators[turn % len(annotators)]
            task = annotator.next_task(self.id)
            if task is None:
                break
            served.append(int(task["id"]))
            annotator.annotate(task["id"], [choice(label)])
        return served


def choice(label: str) -> dict[str, Any]:
    """A classification result for the CHOICES config."""
    return {"from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": [label]}}


def make_personal_token(client: StudioClient) -> str:
    """Let Label Studio issue personal access tokens beside legacy ones, and make one."""
    settings = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}
    client.http.json("POST", "/api/jwt/settings", body=settings)
    return str(client.http.json("POST", "/api/token/", body={})["token"])
