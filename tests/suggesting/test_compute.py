"""Suggestions of a run; the parts are tested in tests/suggestions, here it is what they are given and what is said."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from played_project import CHOICES, N, Studio, annotation, labeled, truth

from usl_backend import suggestions
from usl_backend.encoders import load
from usl_backend.errors import InputError
from usl_backend.instances import EmbeddedField, Pool
from usl_backend.runs import Run, RunStore
from usl_backend.runs.summary import EncoderNote
from usl_backend.settings import HostSettings
from usl_backend.suggesting.compute import suggest_for_run
from usl_backend.suggesting.labels import read_run_labels
from usl_backend.suggesting.publish import require_accepted


def found(store: RunStore, run: Run, studio: Any, **options: Any) -> Any:
    host = HostSettings.load({"model_dir": store.directory}, environ={})
    labels = read_run_labels(store, run, client=studio)
    return suggest_for_run(store, labels, host=host, client=studio, **options)


def test_suggest_for_run__every_task_without_a_label_gets_its_class(store: RunStore, run: Run) -> None:
    told = found(store, run, Studio(labeled(1, 2, 3)))
    tasks = told.labels.pool.ids
    assert tasks[~told.open].tolist() == [1, 2, 3]
    names = [told.labels.classes[label] for label in told.suggestions.label]
    assert names == [truth(task) for task in tasks.tolist()]
    # The control set, tasks 4 and 101 to 160, is labeled unaided.
    assert told.counts == {"cat": 68, "dog": 68}
    assert not told.calibrated
    assert str(told.acceptance).startswith("none can be accepted at 95 %: 0 control labels, 45 more needed")


def test_suggest_for_run__control_labels_calibrate_and_promise_and_teach_nothing(
    store: RunStore, run: Run
) -> None:
    told = found(store, run, Studio(labeled(1, 2, 4, *range(101, 161))))
    given = np.full(N, -1)
    given[[0, 1, 3]] = 0, 1, 1
    alone = suggestions.suggest(told.labels.pool.embeddings, given, classes=2, seed=3)
    assert np.array_equal(told.suggestions.confidence, alone.confidence)
    control = suggestions.Control(
        np.array([3, *range(100, 160)]), np.array([1, *(row % 2 for row in range(100, 160))])
    )
    assert told.calibrated
    assert np.array_equal(told.confidence, suggestions.calibrate(alone, control=control).confidence)
    expected = suggestions.accept(alone, control=control)
    assert expected.count > 0
    assert np.array_equal(told.acceptance.accepted, expected.accepted)
    assert not told.open[100:160].any()


@pytest.mark.parametrize(
    ("annotations", "message"),
    [
        ({}, "no task has a label; label some of its picks, of two classes at least"),
        (labeled(101, 102), "only the control set has labels (2)"),
        (labeled(1, 3), "all 2 labels are of the class 'cat'; label at least one task of another class"),
        ({1: [annotation("owl")]}, "no task has a label"),
    ],
)
def test_suggest_for_run__labels_that_say_nothing(
    store: RunStore, run: Run, annotations: Any, message: str
) -> None:
    with pytest.raises(InputError) as told:
        found(store, run, Studio(annotations))
    assert message in str(told.value)


def test_suggest_for_run__says_what_is_left_out(store: RunStore, run: Run) -> None:
    annotations = {
        **labeled(1, 2),
        3: [annotation("cat"), annotation("dog", who=2)],
        5: [annotation("owl")],
        **{task: [annotation("cat")] for task in range(101, 121)},
    }
    told = found(store, run, Studio(annotations, tasks_now=range(1, N - 4)))
    assert told.notes == (
        "annotators disagree on 1 task (first: 3), which count as having no label",
        "1 task labeled 'owl', which the label config no longer has, is left out",
        "2 of 2 classes have one label only (cat, dog); more labels make their suggestions better",
        "5 tasks of the run were deleted since",
        "all 20 control labels are of the class 'cat': nothing can be measured or promised with them",
    )
    assert not told.open[-5:].any()
    # Not "0 control labels": there are 20, and more of the same would change nothing.
    assert told.promise == told.fault == told.notes[-1]
    with pytest.raises(
        InputError, match=r"all 20 control labels are of the class 'cat'.*; nothing was written"
    ):
        require_accepted(told)


def test_suggest_for_run__class_without_a_pick_is_named(store: RunStore, run: Run) -> None:
    config = CHOICES.replace('<Choice value="dog"/>', '<Choice value="dog"/><Choice value="owl"/>')
    told = found(store, run, Studio(labeled(1, 2), label_config=config))
    assert told.notes[0] == "no pick has the class owl: it is never suggested"


def test_suggest_for_run__class_names_of_texts_are_labeled_rows(store: RunStore, run: Run) -> None:
    encoder = load("minilm", image_size=None, directory=None)
    rows = encoder.encode([f"the {'cat' if task % 2 else 'dog'} number {task}" for task in range(1, N + 1)])
    files = store.files(run.id)
    fields = (EmbeddedField("text", "text", 1.0),)
    files.write_instances([], replace(files.read_inventory(), fields=fields))
    files.write_pool(Pool(np.arange(1, N + 1), rows), ["00" * 32] * N)
    assert run.summary is not None
    store.amend(run.id, encoder=EncoderNote("minilm", encoder.key))
    told = found(store, store.get(run.id), Studio(labeled(1, 2)))
    given = np.full(N, -1)
    given[:2] = 0, 1
    expected = suggestions.suggest(rows, given, classes=2, class_rows=encoder.encode(["cat", "dog"]), seed=3)
    assert told.names
    assert np.array_equal(told.suggestions.confidence, expected.confidence)
    # Rows of another encoder say nothing about these names.
    store.amend(run.id, encoder=EncoderNote("minilm", "another-key"))
    assert not found(store, store.get(run.id), Studio(labeled(1, 2))).names
