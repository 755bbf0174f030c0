"""What annotators and administrators do while a run computes: made up for, or told before anything is written."""

from collections.abc import Callable

import pytest
from live_studio import LiveProject, choice
from shell import Shell, Told, local

from usl_backend.runs import RunFiles
from usl_backend.sinks.making_up import MADE_UP
from usl_backend.studio.client import StudioClient

MakeProject = Callable[..., LiveProject]
BUDGET, RESERVE, CONTROL = 8, 4, 20


class Meanwhile:
    """A run whose picks are known, and then something happens before they are published."""

    def __init__(self, shell: Shell, project: LiveProject, monkeypatch: pytest.MonkeyPatch) -> None:
        self.shell, self.project, self.monkeypatch = shell, project, monkeypatch

    def select(self, then: Callable[[list[int]], None], **options: object) -> Told:
        wanted = [word for name, value in options.items() for word in (f"--{name}", value)]
        write, happened = RunFiles.write_selection, []

        def write_then(files: RunFiles, selection: object) -> None:
            write(files, selection)  # type: ignore[arg-type]
            if not happened:
                happened.append(True)
                pool, _ = files.read_pool()
                then(pool.ids[files.read_selection().indices].tolist())

        with self.monkeypatch.context() as patch:
            patch.setattr(RunFiles, "write_selection", write_then)
            return self.shell("select", self.project.id, "--budget", BUDGET, *wanted)


@pytest.fixture
def meanwhile(
    shell: Shell, make_project: MakeProject, pictures: list[str], monkeypatch: pytest.MonkeyPatch
) -> Meanwhile:
    return Meanwhile(shell, make_project(data=[local(name) for name in pictures[:60]]), monkeypatch)


def test_labeled_and_deleted__picks_are_replaced_from_their_clusters(
    meanwhile: Meanwhile, client: StudioClient, second_annotator: StudioClient
) -> None:
    project, shell, lost = meanwhile.project, meanwhile.shell, []

    def happen(picks: list[int]) -> None:
        client.annotate(picks[0], [choice("cat")])
        second_annotator.annotate(picks[2], [], was_cancelled=True)
        client.http.request("DELETE", f"/api/tasks/{picks[5]}/").close()
        lost.extend((picks[0], picks[2], picks[5]))

    told = meanwhile.select(happen, reserve=RESERVE, control=CONTROL)
    assert told.code == 0, told.err
    assert f"3 of {BUDGET} picks (first: task {lost[0]}) were labeled or deleted" in told.out
    run = shell.store.latest(project.id)
    assert run is not None
    files = shell.store.files(run.id)
    queue, selection, (pool, _) = files.read_published().queue, files.read_selection(), files.read_pool()
    assert (len(queue.of_role("pick")), len(queue.of_role("reserve")), len(queue.control_set)) == (
        BUDGET, RESERVE, CONTROL,
    )  # fmt: skip
    assert queue.of_role("pick") == tuple(pool.ids[selection.indices].tolist())
    assert not set(lost) & {*queue.of_role("pick"), *queue.of_role("reserve")}
    assert lost[2] not in queue.control_set
    replaced = selection.diagnostics[MADE_UP]
    assert [one["rank"] for one in replaced] == [0, 2, 5]
    assert [one["task"] for one in replaced] == lost
    rows = {int(task): row for row, task in enumerate(pool.ids)}
    for one in replaced:
        rank, mine = one["rank"], selection.cluster == one["rank"]
        others = {rows[task] for task in (*lost, *queue.of_role("pick")) if task != one["by"]}
        rest = [row for row in range(len(pool)) if mine[row] and row not in others]
        assert rows[one["by"]] == max(rest, key=lambda row: (selection.score[row], -row)), rank
    assert project.model_versions() == {run.summary.model_version: len(queue)}
    assert run.summary.verified.outcome == "first"
    served = project.serve([client, second_annotator], BUDGET)
    assert served == list(queue.of_role("pick"))


def rename_the_field(client: StudioClient, project: LiveProject, picks: list[int]) -> None:
    name = client.http.json("GET", f"/api/tasks/{picks[3]}/", params={"resolve_uri": "false"})["data"][
        "image"
    ]
    client.http.json("PATCH", f"/api/tasks/{picks[3]}/", body={"data": {"image": name, "img": name}})
    config = project.now.label_config.replace('value="$image"', 'value="$img"')
    for task in client.tasks(project.id):
        body = {"data": {**task.data, "img": task.data["image"]}}
        client.http.json("PATCH", f"/api/tasks/{task.id}/", body=body)
    client.update_project(project.id, label_config=config)


def use_an_id_again(client: StudioClient, project: LiveProject, picks: list[int]) -> None:
    other = next(task for task in client.tasks(project.id) if task.id not in picks)
    client.http.json("PATCH", f"/api/tasks/{picks[3]}/", body={"data": dict(other.data)})


def lose_a_field(client: StudioClient, project: LiveProject, picks: list[int]) -> None:
    client.http.json("PATCH", f"/api/tasks/{picks[3]}/", body={"data": {"image": ""}})


@pytest.mark.parametrize(
    ("what", "words"),
    [
        (rename_the_field, "shows the data field img now, but the run read image"),
        (use_an_id_again, "a backup was restored and its id used again"),
        (lose_a_field, "was changed while the run computed"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_another_task_under_the_id__stops_before_anything_is_written(
    meanwhile: Meanwhile, client: StudioClient, what: Callable[..., None], words: str
) -> None:
    project = meanwhile.project
    told = meanwhile.select(lambda picks: what(client, project, picks), reserve=RESERVE)
    assert told.code == 1
    assert words in told.err
    assert "start a new run" in told.err
    assert (project.now.sampling, project.model_versions(), project.views()) == (
        "Sequential sampling",
        {},
        [],
    )
