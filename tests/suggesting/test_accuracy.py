"""How accurate a run's suggestions are; the estimates themselves are tested in tests/suggestions."""

import math
from typing import Any

import numpy as np
import pytest
from played_project import CHOICES, Studio, annotation, labeled

from usl_backend import suggestions
from usl_backend.errors import InputError
from usl_backend.runs import Run, RunStore
from usl_backend.settings import HostSettings
from usl_backend.suggesting.accuracy import RunAccuracy, load_accuracy, measure_run, purchases
from usl_backend.suggesting.labels import read_run_labels
from usl_backend.suggestions import clopper_pearson

OWLS = CHOICES.replace('<Choice value="dog"/>', '<Choice value="dog"/><Choice value="owl"/>')
PICKS = labeled(1, 2, 3, 4)
"""Task 4 was drawn for the control set too, with 101 to 160."""


def measured(store: RunStore, run: Run, annotations: dict[int, Any], **more: Any) -> RunAccuracy:
    config = more.pop("config", CHOICES)
    studio: Any = Studio(annotations, label_config=config)
    host = HostSettings.load({"model_dir": store.directory}, environ={})
    labels = read_run_labels(store, run, client=studio)
    return measure_run(store, labels, host=host, client=studio, **more)


def wilson(right: int, count: int) -> tuple[float, float]:
    """The roots of (p - s)^2 = z^2 s (1 - s) / n."""
    z, p = 1.959964, right / count
    a, b, c = 1 + z * z / count, -2 * p - z * z / count, p * p
    root = math.sqrt(b * b - 4 * a * c)
    return (-b - root) / 2 / a, (-b + root) / 2 / a


def wrong(*tasks: int) -> dict[int, Any]:
    """The other class for these tasks."""
    return {task: [annotation("dog" if task % 2 else "cat")] for task in tasks}


def test_measure_run__share_right_among_the_control_tasks_that_teach_nothing(
    store: RunStore, run: Run
) -> None:
    found = measured(store, run, {**PICKS, **labeled(*range(101, 161)), **wrong(*range(101, 160, 5))})
    assert found.right is not None
    assert (found.labels, found.drawn, found.controls, found.right.count) == (4, 61, 60, 60)
    labels = read_run_labels(store, run, client=Studio(PICKS))  # type: ignore[arg-type]
    alone = suggestions.suggest(labels.pool.embeddings, labels.given, classes=2, seed=3)
    rows = np.arange(100, 160)
    truth = np.where(rows % 5 == 0, 1 - rows % 2, rows % 2)
    assert found.right == suggestions.accuracy(alone, control=suggestions.Control(rows, truth))
    low, high = wilson(48, 60)
    assert found.right.high - found.right.low <= high - low + 1e-9
    assert abs(found.right.share - 48 / 60) < 0.03, "strata may move it a little"
    assert found.unseen is not None
    assert (found.unseen.share, found.unseen.count) == (0.0, 61)
    assert load_accuracy(store.files(run.id)) == found


def test_measure_run__target_is_reached_by_the_lower_end_only(store: RunStore, run: Run) -> None:
    right = {**PICKS, **labeled(*range(101, 161))}
    found = measured(store, run, right, target=0.9)
    assert (found.reached, found.verdict) == (True, "reached")
    found = measured(store, run, right, target=0.99)
    low, high = wilson(60, 60)
    assert (found.reached, found.verdict) == (False, f"not yet: {100 * low:.0f}-{100 * high:.0f} %")
    assert f"target 99 %: not yet: {100 * low:.0f}-100 %" in list(found.sentences(project=12))


def test_measure_run__classes_without_a_label_by_the_control_tasks_that_are_a_uniform_draw(
    store: RunStore, run: Run
) -> None:
    owls = {task: [annotation("owl")] for task in range(101, 113)}
    whole = measured(store, run, {**PICKS, **labeled(*range(113, 161)), **owls}, config=OWLS)
    assert whole.unseen is not None
    assert whole.unseen.share == pytest.approx(12 / 61)
    # Of the drawn picks so large a share counts as of the others: none of one for 20 of 60, one of one for 40.
    part = measured(store, run, {**PICKS, **labeled(*range(113, 121)), **owls}, config=OWLS)
    assert part.unseen is not None
    assert (part.unseen.share, part.unseen.count) == (pytest.approx(12 / 20), 20)
    assert "60 % (39 to 78 %) of the tasks are of a class that has no label yet" in part.sentences(project=12)


def test_measure_run__without_control_labels_no_figure_but_what_they_would_buy(
    store: RunStore, run: Run
) -> None:
    for annotations in (PICKS, labeled(1), {}):
        found = measured(store, run, annotations, target=0.9)
        assert (found.right, found.unseen, found.reached) == (None, None, None)
        lines = list(found.sentences(project=12))
        assert lines[0] in (
            "no figure: none of the 61 tasks in the control set is labeled",
            "no figure: 1 control labels judge no suggestion",
        )
        assert lines[1] == (
            "50 labeled control tasks tell the accuracy to about ±11 points, and can let suggestions be accepted at up "
            "to 95 %"
        )
        assert lines[-1] == "target 90 %: unknown without a figure"
        assert [one["controls"] for one in found.to_json()["would_buy"]] == [50, 100, 200]


def test_purchases__are_what_the_estimates_and_the_promise_give() -> None:
    assert [round(100 * one.half_width, 1) for one in purchases()] == [10.9, 7.8, 5.5]
    for one in purchases():
        assert clopper_pearson(one.controls, one.controls, delta=0.1) >= one.promise
        assert clopper_pearson(one.controls, one.controls, delta=0.1) < one.promise + 0.01


def test_measure_run__control_labels_of_one_class_say_why_there_is_no_figure(
    store: RunStore, run: Run
) -> None:
    found = measured(store, run, {**PICKS, **labeled(*range(102, 160, 2))})
    assert found.right is None
    assert next(found.sentences(project=12)) == "no figure: 30 control labels judge no suggestion"
    assert "all 30 control labels are of the class 'dog'" in found.notes[-1]


def test_measure_run__bad_target(store: RunStore, run: Run) -> None:
    with pytest.raises(InputError, match=r"target is 90.0; give a share between 0 and 1, such as 0\.9"):
        measured(store, run, PICKS, target=90.0)


def test_load_accuracy__damage_counts_as_none(store: RunStore, run: Run) -> None:
    files = store.files(run.id)
    assert load_accuracy(files) is None
    measured(store, run, PICKS)
    (files.directory / "accuracy.json").write_text("{}")
    assert load_accuracy(files) is None
