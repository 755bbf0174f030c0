"""What becomes of a published queue: told by doctor, `extend` and the run page, and mended by one command."""

import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing

import pytest
from live_studio import LiveProject, LiveStudio
from shell import Shell, local

from usl_backend.jobs import Jobs
from usl_backend.runs import Run
from usl_backend.settings import HostSettings
from usl_backend.sinks.standing import standing_of
from usl_backend.studio.preannotations import predictions
from usl_backend.studio.queue import publish
from usl_backend.studio.verification import release
from usl_backend.web import create_app

MakeProject = Callable[..., LiveProject]
BUDGET, RESERVE = 6, 3


class Told:
    """A project with a published queue, and what is said of it."""

    def __init__(self, shell: Shell, project: LiveProject) -> None:
        self.shell, self.project = shell, project

    @property
    def run(self) -> Run:
        run = self.shell.store.latest(self.project.id)
        assert run is not None
        return run

    def assert_in_force(self) -> None:
        line = self.doctor()
        assert (line["status"], line["remedy"]) == ("ok", ""), line
        assert line["detail"] == f"the queue of run {self.run.id} is in force and whole"
        queue = self.shell.store.files(self.run.id).read_published().queue
        held = sorted(predictions(self.project.client, self.project.id), key=lambda one: one.score or 0.0)
        mine = [one.task for one in held if one.model_version == self.project.now.model_version]
        assert mine[: len(queue)] == list(queue.tasks)
        assert self.project.now.model_version == self.run.summary.model_version

    def doctor(self) -> dict[str, str]:
        told = self.shell("doctor", self.project.id, "--json")
        return next(check for check in told.json if check["name"] == "queue")

    def mend(self, *words: str, kind: str, remedy: str | None = None) -> None:
        """It is told everywhere, and the command that is named mends it."""
        line = self.doctor()
        assert line["status"] == "warning", line
        assert all(word in line["detail"] for word in words), line["detail"]
        found = standing_of(self.run, client=self.project.client, store=self.shell.store)
        # all but the order, for which one has to ask for a task
        assert (found.kind, found.remedy) == ((kind, line["remedy"]) if kind != "order" else ("in force", ""))
        if kind != "order":
            told = self.shell("extend", self.project.id)
            assert told.code == 1
            assert line["detail"] in told.err
            assert line["remedy"] in told.err
        assert line["remedy"] == (remedy or f"usl-backend publish {self.run.id}")
        told = self.shell(*line["remedy"].split()[1:])
        assert told.code == 0, told.err
        self.assert_in_force()


@pytest.fixture
def told(shell: Shell, make_project: MakeProject, pictures: list[str]) -> Told:
    return Told(shell, make_project(data=[local(name) for name in pictures[:40]]))


def select(told: Told) -> None:
    asked = told.shell("select", told.project.id, "--budget", BUDGET, "--reserve", RESERVE)
    assert asked.code == 0, asked.err


def test_queue__what_is_done_to_it_by_hand(told: Told) -> None:
    project, client = told.project, told.project.client
    assert told.doctor()["detail"] == "no queue of this backend is in force"
    select(told)
    told.assert_in_force()
    run = told.run

    # a third of its predictions
    for one in predictions(client, project.id)[::3]:
        client.http.request("DELETE", f"/api/predictions/{one.id}/").close()
    told.mend("holds 6 of its 9 predictions", "3 were deleted", kind="incomplete")

    tab = told.shell.store.files(run.id).read_published().view_id
    client.http.request("DELETE", f"/api/dm/views/{tab}/").close()
    told.mend(f'its tab "USL picks {run.id}" was deleted', kind="no tab")

    client.update_project(project.id, sampling="Uniform sampling")
    told.mend("sampling was set to 'Uniform sampling'", kind="sampling")

    client.update_project(project.id, model_version="")
    told.mend("model version is none", kind="replaced")

    # somebody's script gives the last of the reserve the lowest score
    last = told.shell.store.files(run.id).read_published().queue.tasks[-1]
    row = {"task": last, "result": [], "score": 0.0, "model_version": project.now.model_version}
    first = told.shell.store.files(run.id).read_published().queue.tasks[0]
    client.annotate(first, [])
    client.http.json("POST", f"/api/projects/{project.id}/import/predictions", body=[row])
    told.mend(f"task {last} comes before task", kind="order")

    # tasks that are deleted take their predictions with them, and that is no fault
    client.http.request("DELETE", f"/api/tasks/{last}/").close()
    assert told.doctor()["status"] == "ok"


def test_queue__another_installation_takes_over(told: Told) -> None:
    select(told)
    other = publish(
        told.project.client,
        told.project.now,
        run_id=f"{told.project.id}-77",
        installation="cccccc",
        picks=told.project.tasks[:3],
    )
    told.mend(f"installation cccccc published run {told.project.id}-77 at 20", kind="foreign")
    assert list(told.project.model_versions()) == [told.run.summary.model_version, other.model_version]


def test_queue__of_a_data_directory_that_is_not_this_one(told: Told) -> None:
    publish(
        told.project.client, told.project.now, run_id=f"{told.project.id}-77", installation="cccccc",
        picks=told.project.tasks[:3],
    )  # fmt: skip
    line = told.doctor()
    assert f"installation cccccc published run {told.project.id}-77" in line["detail"]
    assert line["remedy"] == f"usl-backend select {told.project.id}"
    select(told)
    told.assert_in_force()


def test_queue__a_backup_from_before_is_restored(
    told: Told, label_studio: LiveStudio, database: Mapping[str, str] | None
) -> None:
    """Label Studio's whole database is put back, as an administrator does it."""
    if database is not None:
        pytest.skip("SQLite's way of putting a database back")
    (path,) = label_studio.data_directory.glob("*.sqlite3")
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(":memory:")) as backup:
        live.backup(backup)
        select(told)
        told.assert_in_force()
        backup.backup(live)
    assert (told.project.now.model_version or "", told.project.model_versions()) == ("", {})
    told.mend("a backup was restored", kind="replaced")
    # and one from an earlier run
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(":memory:")) as backup:
        live.backup(backup)
        select(told)
        backup.backup(live)
    told.mend("published earlier; a backup was restored", kind="replaced")


def test_queue__extended_and_looked_at_by_the_run_page(told: Told, pictures: list[str]) -> None:
    select(told)
    new = told.project.add_tasks([local(name) for name in pictures[40:43]])
    assert told.shell("extend", told.project.id).code == 0
    told.assert_in_force()
    project, client = told.project, told.project.client
    held = {one.task: one.id for one in predictions(client, project.id)}
    client.http.request("DELETE", f"/api/predictions/{held[new[0]]}/").close()
    host = HostSettings.load(environ=told.shell.environment)
    web = create_app(host, Jobs(told.shell.store, host)).test_client()
    answer = web.get(f"/usl/api/runs/{told.run.id}/queue").json
    page = web.get(f"/usl/runs/{told.run.id}").text
    assert (answer["kind"], answer["remedy"]) == ("incomplete", f"usl-backend publish {told.run.id}")
    assert f'data-url="/usl/api/runs/{told.run.id}/queue"' in page
    told.mend("holds 11 of its 12 predictions", kind="incomplete")
    # what was queued later is behind what was published
    version = project.now.model_version
    held = [one for one in predictions(client, project.id) if one.model_version == version]
    ranked = sorted(held, key=lambda one: one.score or 0.0)
    assert {one.task for one in ranked[-3:]} == set(new)
    task = client.next_task(project.id)
    assert task is not None
    release(client, task["id"])
    assert task["id"] == told.shell.store.files(told.run.id).read_published().queue.tasks[0]
