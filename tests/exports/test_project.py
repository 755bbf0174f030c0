"""Labels over a run's pool; Label Studio is played by a project and its annotations."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from usl_backend.errors import ExportError
from usl_backend.exports import export_split, read_manifest
from usl_backend.exports.project import exported_run, project_split
from usl_backend.instances import EmbeddedField, Instance, Pool, Queue
from usl_backend.runs import Run, RunStore
from usl_backend.runs.inventory import Inventory
from usl_backend.runs.published import Published
from usl_backend.runs.summary import EncoderNote, MethodNote, PoolNote, ProjectNote, SkippedNote, Summary
from usl_backend.studio.records import LabeledTask, Project, Task

CHOICES = """<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="cat"/>
<Choice value="dog"/></Choices></View>"""


def annotation(
    label: str | None, who: int = 1, *, cancelled: bool = False, truth: bool = False
) -> dict[str, Any]:
    result = [] if label is None else [{"from_name": "c", "value": {"choices": label.split("+")}}]
    return {
        "result": result,
        "completed_by": who,
        "was_cancelled": cancelled,
        "ground_truth": truth,
        "id": who,
    }


@dataclass
class Studio:
    annotations: dict[int, list[dict[str, Any]]]
    label_config: str = CHOICES
    key: str = "12.100"
    tasks_now: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8, 9)
    several: bool = False

    def project(self, project_id: int) -> Project:
        return Project(
            project_id,
            self.key,
            "Pets",
            100.0,
            self.label_config,
            "",
            "",
            1,
            False,
            True,
            len(self.tasks_now),
        )

    def tasks(self, project_id: int, *, data_key: str, only_unlabeled: bool) -> Iterator[Task]:
        assert (data_key, only_unlabeled) == ("image", False)
        return (Task(task, {}, 0, 0) for task in self.tasks_now)

    def newest_task(self, project_id: int) -> int:
        return max(self.tasks_now)

    def labeled(self, project_id: int) -> Iterator[LabeledTask]:
        for task, entries in self.annotations.items():
            image = [f"{task}.png", f"{task}b.png"] if self.several else f"{task}.png"
            yield LabeledTask(task, {"image": image}, tuple(entries))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RunStore]:
    store = RunStore(tmp_path)
    yield store
    store.close()


def completed(store: RunStore, *, dry_run: bool = False) -> Run:
    """A run over tasks 1-6, of which 6 could not be read: picks 4 and 2, reserve 5."""
    run = store.claim(store.create(project=12, settings={"seed": 3}, dry_run=dry_run).id)
    files = store.files(run.id)
    files.write_instances([Instance(task, "image", f"{task}.png") for task in range(1, 7)], Inventory())
    files.write_pool(
        Pool(np.arange(1, 6), np.ones((5, 2), np.float32), {6: "the file is empty"}), ["00" * 32] * 5
    )
    files.write_published(Published(Queue.of([4, 2], reserve=[5])))
    summary = Summary(
        project=ProjectNote(12, "12.100", data_key="image"),
        pool=PoolNote(tasks=9),
        method=MethodNote("usl", parameters={"k": 20}),
        seed=3,
        encoder=EncoderNote(key="lite0-128px"),
        skipped=SkippedNote(1),
    )
    store.finish(run.id, summary, "ab" * 32, {"numpy": "2"})
    return store.get(run.id)


def split_of(store: RunStore, studio: Studio, **options: Any) -> Any:
    return project_split(store, completed(store), client=studio, **options)  # type: ignore[arg-type]


EVERYTHING = {
    4: [annotation("cat", 1), annotation("dog", 2), annotation("cat", 3)],
    2: [annotation("cat", 1), annotation("dog", 2)],
    5: [annotation("dog", 1, cancelled=True)],
    1: [annotation("dog", 1), annotation("dog", 2), annotation("cat", 3, truth=True)],
    3: [annotation(None, 1), annotation("cat", 2, cancelled=True)],
    9: [annotation("dog", 1)],
    8: [annotation("cat+dog", 1)],
}


def test_project_split__every_kind_of_annotation_finds_its_place(store: RunStore) -> None:
    split = split_of(store, Studio(EVERYTHING))
    assert [(row.index, row.task, row.role, row.rank, row.label) for row in split.labeled] == [
        (0, 1, "pool", None, "cat"),
        (3, 4, "pick", 0, "cat"),
        (6, 9, "outside", None, "dog"),
    ]
    assert [(row.index, row.task, row.role, row.rank) for row in split.unlabeled] == [
        (2, 3, "pool", None),
        (4, 5, "reserve", 2),
    ]
    assert split.classes == ("cat", "dog")
    manifest = split.manifest
    assert manifest["counts"] == {
        "rows": 7, "labeled": 3, "unlabeled": 2, "conflicts": 2, "skipped": 1, "empty": 1, "cancelled": 2,
        "ground_truth": 1, "unreadable": 1, "deleted": 0, "retired": 0,
    }  # fmt: skip
    assert manifest["conflicts"] == [
        {"task": 2, "labels": [["cat"], ["dog"]]},
        {"task": 8, "labels": [["cat", "dog"]]},
    ]
    assert (manifest["run"], manifest["seed"], manifest["encoder"], manifest["pool_digest"]) == (
        "12-1", 3, "lite0-128px", "ab" * 32,
    )  # fmt: skip


def test_project_split__manifest_names_every_row_and_its_part(store: RunStore, tmp_path: Path) -> None:
    directory = export_split(split_of(store, Studio(EVERYTHING)), tmp_path / "out")
    manifest = read_manifest(directory)
    assert [(row["index"], row["task"], row["source"], row["part"]) for row in manifest["rows"]] == [
        (0, 1, "1.png", "labeled"),
        (1, 2, "2.png", "conflict"),
        (2, 3, "3.png", "unlabeled"),
        (3, 4, "4.png", "labeled"),
        (4, 5, "5.png", "unlabeled"),
        (5, 8, "8.png", "conflict"),
        (6, 9, "9.png", "labeled"),
    ]


def test_project_split__tasks_deleted_since_are_named_and_left_out(store: RunStore) -> None:
    studio = Studio({4: [annotation("dog")]}, tasks_now=(1, 2, 4, 6, 7, 8, 9))
    split = split_of(store, studio)
    assert [row.task for row in split.labeled] == [4]
    assert [row.task for row in split.unlabeled] == [1, 2]
    assert split.manifest["deleted"] == [3, 5]
    assert split.manifest["counts"]["deleted"] == 2
    studio.tasks_now = (1, 2, 4, 6, 7, 8, 9, 10, 11)
    split = split_of(store, studio)
    assert split.manifest["deleted"] == [3, 5], "others came in their place"


def test_project_split__labeled_rows_among_the_unlabeled_only_when_asked(store: RunStore) -> None:
    split = split_of(store, Studio({4: [annotation("dog")]}), include_labeled=True)
    assert [row.task for row in split.labeled] == [4]
    assert [(row.task, row.label) for row in split.unlabeled] == [(task, None) for task in range(1, 6)]
    assert split.manifest["labeled_rows_are_also_unlabeled"] is True


def test_project_split__choice_that_left_the_label_config_is_still_a_class(store: RunStore) -> None:
    split = split_of(store, Studio({4: [annotation("owl")]}))
    assert (split.classes, split.labeled[0].label) == (("cat", "dog", "owl"), "owl")
    assert (split.manifest["retired_classes"], split.manifest["counts"]["retired"]) == ({"owl": 1}, 1)


BRUSH = '<View><Image name="i" value="$image"/><BrushLabels name="b" toName="i"><Label value="x"/></BrushLabels></View>'
SEVERAL = CHOICES.replace("<Choices", '<Choices name="d" toName="i"><Choice value="x"/></Choices><Choices')


def test_project_split__one_of_several_choices_must_be_named(store: RunStore) -> None:
    with pytest.raises(ExportError, match=r"several Choices \(d, c\); choose one"):
        split_of(store, Studio({}, SEVERAL))
    entry = annotation("cat")
    split = split_of(store, Studio({4: [entry]}, SEVERAL), control="c")
    assert (split.labeled[0].label, split.holds) == ("cat", "class")
    # What the other one says goes along.
    assert json.loads(split.annotations[4]) == [entry]


def test_project_split__several_choices_at_once(store: RunStore) -> None:
    config = CHOICES.replace("<Choices", '<Choices choice="multiple"')
    votes = {
        4: [annotation("dog+cat", 1), annotation("cat+dog", 2), annotation("cat", 3)],
        2: [annotation("dog")],
    }
    split = split_of(store, Studio(votes, config))
    assert [(row.task, row.label, row.labels) for row in split.labeled] == [
        (2, "dog", ("dog",)),
        (4, None, ("cat", "dog")),
    ]
    assert (split.holds, split.classes, split.annotations) == ("classes", ("cat", "dog"), None)
    assert (split.manifest["counts"]["labeled"], split.manifest["conflicts"]) == (2, [])


def test_project_split__choices_that_tasks_bring_along_are_classes(store: RunStore) -> None:
    config = (
        """<View><Image name="i" value="$image"/><Choices name="c" toName="i" value="$options"/></View>"""
    )
    split = split_of(store, Studio({4: [annotation("zebra")], 2: [annotation("ant")]}, config))
    assert split.classes == ("ant", "zebra")
    assert (split.manifest["retired_classes"], split.manifest["counts"]["retired"]) == ({}, 0)


def test_project_split__annotations_without_a_class(store: RunStore) -> None:
    boxes = annotation(None)
    boxes["result"] = [
        {"from_name": "b", "type": "brushlabels", "value": {"rle": [1, 2], "brushlabels": ["x"]}}
    ]
    nothing, skip = annotation(None, 2), annotation(None, 3, cancelled=True)
    split = split_of(store, Studio({4: [boxes, skip], 2: [nothing], 1: [skip]}, BRUSH))
    assert [(row.task, row.role, row.labels) for row in split.labeled] == [(2, "pick", ()), (4, "pick", ())]
    assert [row.task for row in split.unlabeled] == [1, 3, 5]
    assert (split.holds, split.classes) == ("annotations", ())
    found = {task: json.loads(text) for task, text in split.annotations.items()}
    assert found == {4: [boxes], 2: [nothing], 1: []}
    assert (split.manifest["asks_for"], split.manifest["control"]) == ("BrushLabels", None)
    assert "as Label Studio holds them" in split.manifest["rule"]


def test_project_split__earlier_picks_keep_their_origin(store: RunStore) -> None:
    """Tasks that earlier runs queued and that were labeled then are in no later pool, or hold their clusters in it."""
    first, dry, second, third = (
        completed(store),
        completed(store, dry_run=True),
        completed(store),
        completed(store),
    )
    store.files(first.id).write_published(Published(Queue.of([8, 7, 1], reserve=[9])))
    store.files(dry.id).write_published(Published(Queue.of([9, 7])))
    store.files(second.id).write_published(Published(Queue.of([6, 7, 3])))
    labels = {task: [annotation("cat")] for task in (9, 8, 7, 1, 2)}
    studio: Any = Studio(labels)
    split = project_split(store, third, client=studio)
    assert [(row.task, row.role, row.rank, row.run) for row in split.labeled] == [
        (1, "pick", 2, first.id),  # in the pool of the third run
        (2, "pick", 1, third.id),
        (7, "pick", 1, second.id),  # picked again before it was labeled
        (8, "pick", 0, first.id),
        (9, "reserve", 3, first.id),
    ]
    # 3 is not labeled: it has left the queue of the second run.
    assert [(row.task, row.role, row.run) for row in split.unlabeled if row.task in (3, 4)] == [
        (3, "pool", None),
        (4, "pick", third.id),
    ]
    # An earlier run knows nothing of later ones.
    early = {row.task: (row.role, row.run) for row in project_split(store, first, client=studio).labeled}
    assert early == {
        1: ("pick", first.id), 2: ("pool", None), 7: ("pick", first.id), 8: ("pick", first.id),
        9: ("reserve", first.id),
    }  # fmt: skip


def test_project_split__another_project_under_the_same_number_is_refused(store: RunStore) -> None:
    with pytest.raises(ExportError, match="project 12 is not the project of run 12-1"):
        split_of(store, Studio({}, key="12.999"))


def test_exported_run__dry_runs_alone_are_named(store: RunStore) -> None:
    dry = completed(store, dry_run=True)
    with pytest.raises(
        ExportError, match=f"project 12 has only dry runs, such as {dry.id}.*without --dry-run"
    ):
        exported_run(store, 12)


def test_exported_run__newest_completed_run_that_is_no_dry_run(store: RunStore) -> None:
    with pytest.raises(ExportError, match="project 12 has no completed run"):
        exported_run(store, 12)
    wanted = completed(store)
    completed(store, dry_run=True)
    store.fail(store.create(project=12, settings={}).id, "RunError", "no")
    assert exported_run(store, 12).id == wanted.id


def test_project_split__two_runs_share_the_labels_and_keep_their_ranks(store: RunStore) -> None:
    """The labels are the project's; which tasks were chosen, and in which order, is each run's own."""
    studio: Any = Studio({4: [annotation("dog")], 2: [annotation("cat")]})
    first, second = completed(store), completed(store)
    store.files(second.id).write_published(Published(Queue.of([1, 2])))
    splits = {run.id: project_split(store, run, client=studio) for run in (first, second)}
    assert exported_run(store, 12).id == second.id
    seen = {run: [(row.task, row.role, row.rank) for row in split.labeled] for run, split in splits.items()}
    assert seen == {
        first.id: [(2, "pick", 1), (4, "pick", 0)],
        second.id: [(2, "pick", 1), (4, "pick", 0)],
    }
    assert [split.manifest["run"] for split in splits.values()] == [first.id, second.id]


def test_project_split__every_picture_of_a_task_is_listed(store: RunStore) -> None:
    """Also of a labeled task that was not in the run's pool."""
    run = completed(store)
    files = store.files(run.id)
    listed = [Instance(task, "image", f"{task}.png", (f"{task}b.png",)) for task in range(1, 7)]
    files.write_instances(listed, Inventory(fields=(EmbeddedField("image", "image", 1.0),)))
    studio = Studio({4: [annotation("dog")], 9: [annotation("cat")]}, several=True)
    split = project_split(store, run, client=studio)  # type: ignore[arg-type]
    assert {row.task: row.sources for row in split.labeled} == {
        4: ("4.png", "4b.png"),
        9: ("9.png", "9b.png"),
    }
    assert split.unlabeled[0].sources == ("1.png", "1b.png")
