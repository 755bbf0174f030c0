"""Labels that look wrong, over a played Label Studio; the ranking itself is tested in tests/suggestions."""

from typing import Any

from played_project import Studio, annotation, labeled, truth

from usl_backend.runs import Run, RunStore
from usl_backend.runs.doubts import Dispute, Doubts, read_doubts
from usl_backend.settings import HostSettings
from usl_backend.suggesting.doubts import find_doubts
from usl_backend.suggesting.labels import read_run_labels


def found(store: RunStore, run: Run, annotations: dict[int, Any]) -> Doubts:
    host = HostSettings.load({"model_dir": store.directory}, environ={})
    labels = read_run_labels(store, run, client=Studio(annotations))  # type: ignore[arg-type]
    told = find_doubts(store, labels, host=host)
    assert read_doubts(store.files(run.id)) == told
    return told


def wrong(task: int) -> list[dict[str, Any]]:
    return [annotation({"cat": "dog", "dog": "cat"}[truth(task)])]


def test_find_doubts__wrong_labels_are_named_with_what_others_say(store: RunStore, run: Run) -> None:
    told = found(store, run, {**labeled(*range(1, 25)), 7: wrong(7), 12: wrong(12)})
    assert {(one.task, one.label, one.likely) for one in told.doubts} == {
        (7, "dog", "cat"),
        (12, "cat", "dog"),
    }
    assert all(one.doubt > 0.5 for one in told.doubts)
    assert (told.judged, told.unjudged, told.reason) == (24, 0, "")


def test_find_doubts__control_labels_are_judged_too(store: RunStore, run: Run) -> None:
    told = found(store, run, {**labeled(1, 2, *range(101, 141)), 105: wrong(105)})
    assert [one.task for one in told.doubts] == [105]
    assert told.judged == 42


def test_find_doubts__too_few_labels_are_refused_with_the_number(store: RunStore, run: Run) -> None:
    told = found(store, run, labeled(1, 2, 3, 5))
    assert told.doubts == ()
    assert told.reason == (
        "4 labels of 2 classes are too few to doubt any: doubts are shown from 4 per class on (4 more), or with a "
        "labeled control set"
    )
    told = found(store, run, labeled(1, 3))
    assert told.reason.endswith("fewer than two classes have one")


def test_find_doubts__disputes_are_settled_for_neither(store: RunStore, run: Run) -> None:
    both = [annotation("cat"), annotation("dog", who=2)]
    told = found(store, run, {**labeled(1, 2, 4, 5), 50: both, 51: both})
    assert told.disputes == (Dispute(50, ("cat", "dog"), "dog"), Dispute(51, ("cat", "dog"), "cat"))
    assert not {50, 51} & {one.task for one in told.doubts}
    # Nothing can be said without two classes; the dispute is shown all the same.
    assert found(store, run, {**labeled(1), 50: both}).disputes == (Dispute(50, ("cat", "dog"), ""),)
