import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from live_studio import LiveProject, LiveStudio
from studio_ui import StudioUI

from usl_backend.demo import dataset, project
from usl_backend.demo.backend_server import BackendServer

PICTURES = 60
BUDGET = 10


def finished(backend: BackendServer, project_id: int, *, within: float = 180.0) -> dict[str, Any]:
    """The project's only run, once it is done."""
    until = time.monotonic() + within
    while time.monotonic() < until:
        (run,) = backend.runs(project_id)
        if run["state"] == "done":
            return run
        assert run["state"] in {"queued", "running"}, run["error"]
        time.sleep(0.5)
    pytest.fail(f"the run of project {project_id} was not done within {within:.0f} s")


def test_label_stream__connected_in_the_ui_serves_ranks_in_order(
    label_studio: LiveStudio,
    backend: BackendServer,
    make_project: Callable[..., LiveProject],
    ui: StudioUI,
    tmp_path: Path,
) -> None:
    made = make_project(0, project.label_config(dataset.CLASSES), title=project.TITLE)
    pictures = dataset.write_images(tmp_path / "pictures", side=112)[:PICTURES]
    project.fill(made.client, made.id, pictures)

    ui.log_in(label_studio.username, label_studio.password)
    ui.connect_model(made.id, title="USL", url=backend.url, extra_params=f'{{"budget": {BUDGET}}}')
    ui.start_training(made.id)
    run = finished(backend, made.id)
    picks = backend.picks(run["id"])
    assert len(picks) == len(set(picks)) == BUDGET

    ui.open_tab(made.id, f"USL picks {run['id']}")
    assert ui.rows(5) == picks[:5]

    ui.label_all_tasks()
    shown = []
    for rank in range(3):
        shown.append(ui.task_shown())
        ui.shot(f"rank-{rank}")
        ui.submit(dataset.CLASSES[rank])
    assert shown == picks[:3]
