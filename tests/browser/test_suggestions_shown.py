"""Suggestions as annotators see them: nested choices filled in, the least sure first."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from live_studio import LiveProject, LiveStudio
from shell import environment_for
from studio_ui import StudioUI

from usl_backend.demo import dataset
from usl_backend.demo import project as demo_project

NESTED = """<View><Image name="image" value="$image"/><Choices name="kind" toName="image" allowNested="true">
<Choice value="clothes"><Choice value="top"/><Choice value="shoe"/></Choice><Choice value="other"/></Choices></View>"""
TOPS, SHOES = (0, 2, 3, 4, 6), (5, 7, 9)


def path_of(label: int) -> list[str]:
    """Nested choice of a class of Fashion-MNIST."""
    return ["clothes", "top" if label in TOPS else "shoe"] if label in (*TOPS, *SHOES) else ["other"]


def test_suggestions__annotator_finds_the_choice_filled_in(
    label_studio: LiveStudio, make_project: Callable[..., LiveProject], ui: StudioUI, tmp_path: Path
) -> None:
    project = make_project(0, NESTED)
    client = project.client
    labels = dataset.load().labels
    pictures = dataset.write_images(tmp_path / "pictures", side=56)[:80]
    right = {
        task: int(labels[number]) for task, number in demo_project.fill(client, project.id, pictures).items()
    }

    def backend(*arguments: object) -> None:
        command = [sys.executable, "-m", "usl_backend", *map(str, arguments)]
        environment = os.environ | environment_for(label_studio, tmp_path / "data")
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr

    backend("select", project.id, "--budget", 12, "--reserve", 0)
    for _ in range(12):
        task = client.next_task(project.id)
        assert task is not None
        region = {
            "from_name": "kind",
            "to_name": "image",
            "type": "choices",
            "value": {"choices": [path_of(right[task["id"]])]},
        }
        client.annotate(task["id"], [region])
    backend("suggest", project.id)

    rows: list[dict[str, Any]] = client.http.json("GET", "/api/predictions/", params={"project": project.id})
    filled = {row["task"]: row["result"][0]["value"]["choices"] for row in rows if row["result"]}
    score = {row["task"]: row["score"] for row in rows}
    assert len(filled) == 80 - 12
    least_sure = sorted(filled, key=lambda task: (score[task], task))

    ui.log_in(label_studio.username, label_studio.password)
    ui.page.goto(f"{label_studio.url}/projects/{project.id}/data")
    ui.label_all_tasks()
    for expected in least_sure[:2]:
        assert ui.task_shown() == expected
        ui.page.locator(".lsf-choices input:checked").first.wait_for()
        ui.shot("filled-in")
        checked = ui.page.locator(".lsf-choices input:checked").evaluate_all(
            "nodes => nodes.map(n => n.name)"
        )
        assert checked == [filled[expected][0][-1]]
        ui.button("Submit").first.click()
        ui.page.wait_for_function(
            "before => { const node = document.querySelector('.lsf-current-task__task-id');"
            " return node && node.firstChild.textContent !== String(before) }",
            arg=expected,
        )
    (submitted,) = client.annotations(least_sure[0])
    (region,) = submitted["result"]
    assert region["value"] == {"choices": filled[least_sure[0]]}
    assert region["origin"] == "prediction"
