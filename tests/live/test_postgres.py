"""Label Studio on PostgreSQL, where its locks hold for annotators who ask at the very same moment."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from live_studio import CHOICES, LiveProject, LiveStudio, choice
from postgres import cluster
from shell import FOLDER, Shell, environment_for, forget_host_settings, local

from usl_backend.demo.annotators import sign_up
from usl_backend.demo.dataset import write_images
from usl_backend.demo.studio_server import LabelStudioServer
from usl_backend.runs import RunStore
from usl_backend.studio.client import StudioClient

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

USERNAME, PASSWORD, TOKEN = (
    "owner@example.com",
    "owner-password-1",
    "0123456789abcdef0123456789abcdef01234567",
)
ANNOTATORS = 4
BUDGET, RESERVE = 40, 20


@pytest.fixture(scope="module")
def on_postgres(studio_executable: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStudio]:
    directory = tmp_path_factory.mktemp("label-studio-postgres")
    documents = directory / "documents"
    with (
        cluster() as environment,
        LabelStudioServer(
            directory,
            documents_root=documents,
            username=USERNAME,
            password=PASSWORD,
            token=TOKEN,
            executable=studio_executable,
            environment=environment,
            timeout=900,
        ) as server,
    ):
        assert not list(directory.glob("*.sqlite3"))
        write_images(documents / FOLDER)
        yield LiveStudio(server.url, TOKEN, USERNAME, PASSWORD, "", documents, directory)


def test_four_annotators_at_once__never_get_the_same_pick(
    on_postgres: LiveStudio,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forget_host_settings(monkeypatch)
    shell = Shell(environment_for(on_postgres, tmp_path), capsys, monkeypatch, RunStore(tmp_path))
    with StudioClient(on_postgres.url, TOKEN, timeout=120) as owner:
        body = {"title": "four at once", "label_config": CHOICES}
        number = int(owner.http.json("POST", "/api/projects/", body=body)["id"])
        names = sorted(path.name for path in (on_postgres.documents_root / FOLDER).iterdir())[:200]
        owner.http.json(
            "POST", f"/api/projects/{number}/import", body=[{"data": local(name)} for name in names]
        )
        project = LiveProject(owner, number, ())
        told = shell("select", number, "--budget", BUDGET, "--reserve", RESERVE)
        assert told.code == 0, told.err
        run = shell.store.latest(number)
        assert run is not None
        entries = shell.store.files(run.id).read_published().queue.places
        picks = [entry.instance for entry in entries if entry.role == "pick"]
        assert project.now.model_version == run.summary.model_version
        assert run.summary.verified.outcome == "first"

        annotators = [
            StudioClient(
                on_postgres.url, sign_up(owner, f"annotator{n}@example.com", f"annotator-password-{n}")
            )
            for n in range(ANNOTATORS)
        ]
        together = threading.Barrier(ANNOTATORS)

        def label(annotator: StudioClient) -> list[int]:
            """Ask at the same moment as the others, then submit, each round."""
            served = []
            for _ in range(BUDGET // ANNOTATORS):
                together.wait(timeout=120)
                task = annotator.next_task(number)
                assert task is not None
                served.append(int(task["id"]))
                together.wait(timeout=120)
                annotator.annotate(served[-1], [choice("cat")])
            return served

        with ThreadPoolExecutor(ANNOTATORS) as hands:
            served = list(hands.map(label, annotators))
        flat = [task for tasks in served for task in tasks]
        assert len(flat) == len(set(flat)) == BUDGET
        assert set(flat) == set(picks)
        # in each round the four get the four ranks that are next
        for round_ in range(BUDGET // ANNOTATORS):
            at_once = {tasks[round_] for tasks in served}
            assert at_once == set(picks[ANNOTATORS * round_ : ANNOTATORS * (round_ + 1)])
        for annotator in annotators:
            annotator.close()
        assert shell("reset", number).code == 0
        assert (project.now.sampling, project.model_versions()) == ("Sequential sampling", {})
    shell.close()
