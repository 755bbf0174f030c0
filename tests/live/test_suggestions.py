"""Suggestions on a real Label Studio: from labels on the picks to choices filled in, and back."""

import itertools
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from live_studio import LiveProject, LiveStudio, choice
from proxy import Fault, FaultyProxy
from shell import Shell, local

from usl_backend.demo import dataset
from usl_backend.jobs.suggesting import start_suggesting
from usl_backend.runs.doubts import read_doubts
from usl_backend.runs.lock import Lock
from usl_backend.runs.suggest_job import SuggestJob, read_job
from usl_backend.settings import HostSettings
from usl_backend.studio import bulk, switch
from usl_backend.studio.preannotations import Prediction, predictions
from usl_backend.suggesting.request import SuggestRequest

logger = logging.getLogger(__name__)

KINDS = {0: "cat", 2: "cat", 3: "cat", 4: "cat", 6: "cat", 5: "dog", 7: "dog", 9: "dog"}
"""Three kinds of clothes: for the upper body, for the feet, and the rest ("owl")."""


def kinds(project: LiveProject) -> dict[int, str]:
    """Task -> its right class."""
    labels = dataset.load().labels[: len(project.tasks)].tolist()
    return {task: KINDS.get(label, "owl") for task, label in zip(project.tasks, labels, strict=True)}


def predicted(project: LiveProject, version: str) -> dict[int, tuple[float, str | None]]:
    """Task -> score and filled-in choice under a version."""
    rows = project.client.http.json("GET", "/api/predictions/", params={"project": project.id})
    return {
        row["task"]: (
            row["score"],
            row["result"][0]["value"]["choices"][0] if row["result"] else None,
        )
        for row in rows
        if row["model_version"] == version
    }


def test_suggest__choices_are_filled_in_behind_the_queue_until_reset(
    shell: Shell,
    make_project: Callable[..., LiveProject],
    pictures: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    project = make_project(data=[local(name) for name in pictures[:160]])
    client, right = project.client, kinds(project)
    told = shell("suggest", project.id)
    assert told.code == 1
    assert "has no published queue of usl-backend" in told.err
    told = shell("select", project.id, "--budget", 12, "--control", 60, "--reserve", 3)
    assert told.code == 0, told.err
    run = shell.store.latest(project.id)
    assert run is not None
    queue = shell.store.files(run.id).read_published().queue
    picks, control = queue.of_role("pick"), queue.of_role("control")
    spare = queue.of_role("reserve")

    # No labels, then labels that say nothing: nothing is written.
    before = project.model_versions(), project.now
    told = shell("suggest", project.id)
    assert told.code == 1
    assert f"run {run.id}: no task has a label; label some of its picks, of two classes at least" in told.err
    for task in picks[:10]:
        client.annotate(task, [choice(right[task])])
    told = shell("suggest", project.id, "--accept", 0.95)
    assert told.code == 1
    assert told.err.strip().endswith(
        "error: none can be accepted at 95 %: 0 control labels, 45 more needed at least (95 % takes 45 without a "
        "mistake); nothing was written"
    )
    told = shell("suggest", project.id, "--dry-run", "--json")
    assert told.code == 0, told.err
    assert sum(told.json["labels"].values()) == 10
    assert (project.model_versions(), project.now) == before

    # Killed in the midst of writing: nothing is in force, and what was written is not written again.
    pre_annotated = [task for task in project.tasks if task not in queue.instances][:2]
    project.predict(pre_annotated, version="other", label="owl")

    class Killed(BaseException):
        pass

    real, calls = bulk.import_predictions, itertools.count()

    def dies(*given: Any) -> int:
        if next(calls) == 2:
            raise Killed
        return real(*given)

    monkeypatch.setattr(bulk, "_BATCH", 40)
    with monkeypatch.context() as patch:
        patch.setattr(bulk, "import_predictions", dies)
        with pytest.raises(Killed):
            shell("suggest", project.id)
    assert project.now.model_version == run.summary.model_version
    (half,) = {v for v in project.model_versions() if v.startswith(f"usl-suggest-{run.id}-")}
    assert project.model_versions()[half] == 80

    # Killed right before the switch: the queue is the old one, and the next call finds everything written.
    with monkeypatch.context() as patch:
        patch.setattr(switch, "_refuse_late", lambda *_: (_ for _ in ()).throw(Killed()))
        patch.setattr(bulk, "import_predictions", lambda *given: next(calls) and real(*given))
        with pytest.raises(Killed):
            shell("suggest", project.id)
    assert project.now.model_version == run.summary.model_version
    assert next(calls) == 3 + 2  # 80 of 160 were kept

    told = shell("suggest", project.id, "--json")
    assert told.code == 0, told.err
    assert project.now.model_version == told.json["written"]["model_version"] == half
    shown = predicted(project, half)
    open_tasks = set(project.tasks) - set(picks[:10]) - set(queue.control_set)
    assert {task for task, (_, filled) in shown.items() if filled} == open_tasks
    assert told.json["written"]["carried_over"] == sorted(pre_annotated)
    assert all(shown[task][1] == "owl" for task in pre_annotated)
    hits = [shown[task][1] == right[task] for task in open_tasks - set(pre_annotated)]
    assert sum(hits) / len(hits) > 0.7
    assert shell("suggest", project.id, "--json").json["written"]["model_version"] == half  # nothing new

    # The queue comes first, as before; `control` and `extend` go on with it.
    told = shell("doctor", project.id, "--json")
    (check,) = [one for one in told.json if one["name"] == "queue"]
    assert check["status"] == "ok", check
    served = project.serve([client], 2)
    assert served == list(picks[10:])
    for task in control:
        client.annotate(task, [choice(right[task])])

    # With control labels the confidence is a chance; the review starts with the least sure, spares among them.
    told = shell("suggest", project.id, "--review", "--json")
    assert told.code == 0, told.err
    assert told.json["calibrated"]
    version = told.json["written"]["model_version"]
    assert {v: n for v, n in project.model_versions().items() if n}.keys() == {version, half, "other"}
    shown = predicted(project, version)
    rest = sorted(
        (task for task, (_, filled) in shown.items() if filled), key=lambda task: (shown[task][0], task)
    )
    assert set(spare) <= set(rest)
    first = client.next_task(project.id)
    assert first is not None
    assert first["id"] == rest[0]
    (seen,) = first["predictions"]
    assert seen["result"][0]["value"]["choices"] == [shown[rest[0]][1]]
    assert [view["data"]["title"] for view in project.views()] == ["Default", f"USL picks {run.id}"]

    # 99 % would take more; what can be promised is annotated, and its annotations are no labels for later.
    told = shell("suggest", project.id, "--accept", 0.99, "--annotate")
    assert told.code == 1
    assert "none can be accepted at 99 %" in told.err
    assert "(99 % takes 230 without a mistake); nothing was written" in told.err
    told = shell("suggest", project.id, "--accept", 0.6, "--annotate", "--json")
    assert told.code == 0, told.err
    accepted = told.json["written"]["accepted"]
    assert 0 < accepted == told.json["written"]["annotated"]
    labels = told.json["labels"]
    annotated = {task.id for task in client.tasks(project.id, only_unlabeled=False) if not task.unlabeled}
    made = annotated - set(picks) - set(control)
    assert len(made) == accepted
    (one,) = client.annotations(min(made))
    assert one["result"][0]["id"] == f"usl-accepted-{min(made)}"
    told = shell("suggest", project.id, "--dry-run", "--json")
    assert told.json["labels"] == labels
    assert sum(told.json["suggestions"].values()) == len(rest) - accepted

    # The server's process does the same, and checks the labels.
    host = HostSettings.load({}, environ=shell.environment)
    job: SuggestJob | None = start_suggesting(shell.store, host, run, SuggestRequest(review=True))
    files = shell.store.files(run.id)
    while (job := read_job(files)) is not None and job.state == "running":
        time.sleep(0.2)
    assert job is not None
    assert job.error is None
    assert job.result is not None
    assert job.result["labels"] == labels
    written = job.result["written"]
    assert written["suggestions"] == len(rest) - accepted - len(written["carried_over"])
    doubts = shell("doubts", run.id, "--json").json
    assert doubts["judged"] == 12 + len(control)
    assert {**doubts, "read_at": 0} == {
        **read_doubts(files).to_json(),
        "read_at": 0,
        "address": doubts["address"],
    }

    with Lock(files.lock):
        told = shell("reset", project.id)
        assert told.code == 1
        assert "which is still at work" in told.err
    told = shell("reset", project.id, "--json")
    assert told.code == 0, told.err
    now = project.now
    assert (now.sampling, now.model_version) == ("Sequential sampling", "")
    assert {v: n for v, n in project.model_versions().items() if n} == {"other": 2}
    assert project.views() == []


SMALL_BATCHES = """import sys
from usl_backend.cli import main
from usl_backend.studio import annotating, bulk
bulk._BATCH, annotating._BATCH = 40, 10
main(sys.argv[1:])"""
"""The command line, with several batches for few tasks."""
WRITE, SWITCH = ("POST", r"/import/predictions"), ("PATCH", r"/api/projects/\d+/")
REMOVE, ANNOTATE = ("DELETE", r"/model-versions/"), ("POST", r"/api/dm/actions/")


@dataclass
class Killer:
    """Stands between `suggest` and Label Studio, and kills it at a request."""

    shell: Shell
    proxy: FaultyProxy
    victims: list[subprocess.Popen[str]] = field(default_factory=list)

    def kill(self, request: tuple[str, str], nth: int, *words: object, arrives: bool) -> None:
        """Start `suggest` and kill it right before its nth such request is passed on, or once it was answered."""
        blow = Fault(*request, times=1, reset=True)
        if arrives:
            blow.delivered, blow.after = True, self._strike
        else:
            blow.before = self._strike
        with self.proxy.misbehaving(*[Fault(*request, times=nth - 1)] * (nth > 1), blow):
            victim = subprocess.Popen(
                [sys.executable, "-c", SMALL_BATCHES, "suggest", *map(str, words)],
                env=os.environ | self.shell.environment,
                text=True,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            self.shell.children.append(victim)
            self.victims.append(victim)
            _, told = victim.communicate(timeout=120)
        assert victim.returncode == -signal.SIGKILL, told

    def _strike(self) -> None:
        self.victims[-1].kill()


@pytest.fixture
def killer(shell: Shell, label_studio: LiveStudio) -> Iterator[Killer]:
    proxy = FaultyProxy(label_studio.url)
    proxy.listen()
    shell.environment["LABEL_STUDIO_URL"] = proxy.url
    yield Killer(shell, proxy)
    proxy.hang_up()


def stored(project: LiveProject, version: str | None) -> list[Prediction]:
    """Predictions of a version, in the order in which they are served."""
    held = [one for one in predictions(project.client, project.id) if one.model_version == version]
    return sorted(held, key=lambda one: (one.score or 0.0, one.task))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_suggest__killed_at_every_step_and_repeated(
    shell: Shell, killer: Killer, make_project: Callable[..., LiveProject], pictures: list[str]
) -> None:
    """By hand: `pytest -m slow --log-cli-level=INFO tests/live/test_suggestions.py`."""
    project = make_project(data=[local(name) for name in pictures[:160]])
    client, right = project.client, kinds(project)
    foreign = project.tasks[:2]
    project.predict(foreign, version="other", label="owl")
    client.update_project(project.id, model_version="other")
    before = project.now, project.views(), project.model_versions()
    told = shell("select", project.id, "--budget", 16, "--control", 60, "--reserve", 3)
    assert told.code == 0, told.err
    run = shell.store.latest(project.id)
    assert run is not None
    queue = shell.store.files(run.id).read_published().queue
    picks = list(queue.of_role("pick"))
    labeled = picks[:7]
    for task in labeled:
        client.annotate(task, [choice(right[task])])

    def assert_whole(held: list[Prediction], *, without: Collection[int] = ()) -> None:
        """The queue in its order, then all other tasks, each once."""
        tasks, front = [one.task for one in held], list(queue.instances)
        assert tasks[: len(front)] == front
        assert sorted(tasks[len(front) :]) == sorted(set(project.tasks) - {*front, *without})

    def next_served() -> int:
        served = client.next_task(project.id)
        assert served is not None
        return int(served["id"])

    def repeated(*words: object) -> str:
        """Once more, in peace: one set of suggestions and nothing beside it."""
        told = shell("suggest", project.id, *words, "--json")
        assert told.code == 0, told.err
        version = str(told.json["written"]["model_version"])
        assert project.now.model_version == version
        others = {v for v, n in project.model_versions().items() if n} - {version, "other"}
        assert len(others) == 1, "the one just replaced"
        assert [v["data"]["title"] for v in project.views() if "USL" in v["data"]["title"]] == [
            f"USL picks {run.id}"
        ]
        return version

    told = shell("suggest", project.id, "--json")
    assert told.code == 0, told.err
    for request, nth, arrives, is_switched in (
        (WRITE, 1, False, False),
        (WRITE, 1, True, False),
        (WRITE, 3, False, False),
        (WRITE, 4, True, False),
        (SWITCH, 1, False, False),
        (SWITCH, 1, True, True),
        (REMOVE, 1, False, True),
        (REMOVE, 1, True, True),
    ):
        client.annotate(picks[len(labeled)], [choice(right[picks[len(labeled)]])])
        labeled.append(picks[len(labeled)])
        in_force = str(project.now.model_version)
        rows = stored(project, in_force)
        killer.kill(request, nth, project.id, arrives=arrives)
        now = str(project.now.model_version)
        assert (now != in_force) == is_switched, (request, nth, arrives)
        assert_whole(stored(project, now))
        assert is_switched or stored(project, now) == rows
        assert next_served() == picks[len(labeled)]

        version = repeated()
        assert version != in_force
        assert not is_switched or version == now
        final = stored(project, version)
        assert_whole(final)
        filled = {one.task for one in final if one.result}
        assert filled == set(project.tasks) - set(labeled) - set(queue.control_set) | set(foreign)
        assert repeated() == version
        assert stored(project, version) == final
        logger.info("killed at %s %d%s, repeated", request, nth, " (arrived)" * arrives)

    # Killed while annotating: nobody is annotated twice, and the repetition goes on with the others.
    people = {*queue.of_role("control"), *picks}
    for task in people - set(labeled):
        client.annotate(task, [choice(right[task])])

    def annotated() -> set[int]:
        return {t.id for t in client.tasks(project.id, only_unlabeled=False) if not t.unlabeled} - people

    accepting = (project.id, "--accept", 0.6)
    told = shell("suggest", *accepting, "--dry-run", "--json")
    assert told.code == 0, told.err
    accepted = told.json["accepted"] - len(set(foreign) - people)
    killer.kill(ANNOTATE, 1, *accepting, "--annotate", arrives=False)
    assert annotated() == set()
    assert_whole(stored(project, project.now.model_version))
    killer.kill(ANNOTATE, 2, *accepting, "--annotate", arrives=True)
    done = annotated()
    assert len(done) == 20 < accepted
    assert_whole(stored(project, project.now.model_version))
    version = repeated("--accept", 0.6, "--annotate")
    assert_whole(stored(project, version), without=done)
    made = annotated()
    assert done < made
    assert len(made) == accepted
    assert all(len(client.annotations(task)) == 1 for task in made)
    logger.info("%d kills; %d tasks annotated", len(killer.victims), len(made))

    told = shell("reset", project.id)
    assert told.code == 0, told.err
    now = project.now
    assert (now.sampling, now.model_version) == (before[0].sampling, "other")
    assert project.views() == before[1]
    assert {v: n for v, n in project.model_versions().items() if n} == before[2] == {"other": 2}
