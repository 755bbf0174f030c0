"""Labels over a run's pool, read from a played Label Studio."""

from typing import Any

import numpy as np
import pytest
from played_project import CHOICES, N, Studio, annotation, labeled, truth

from usl_backend.errors import InputError, RunError
from usl_backend.runs import Run, RunStore
from usl_backend.suggesting.labels import read_run_labels, unoffered


def read(store: RunStore, run: Run, studio: Studio, **options: Any) -> Any:
    return read_run_labels(store, run, client=studio, **options)  # type: ignore[arg-type]


def test_read_run_labels__each_label_is_at_its_row_and_control_labels_are_withheld(
    store: RunStore, run: Run
) -> None:
    found = read(store, run, Studio(labeled(1, 2, 4, 50, 101, 102)))
    assert found.classes == ("cat", "dog")
    assert {
        int(found.pool.ids[row]): found.classes[found.label[row]] for row in np.flatnonzero(found.label >= 0)
    } == {task: truth(task) for task in (1, 2, 4, 50, 101, 102)}
    # Task 4 is a pick and was drawn as well: a pick is what suggestions are made from.
    assert (found.pool.ids[found.given >= 0]).tolist() == [1, 2, 4, 50]
    assert found.pool.ids[found.controls].tolist() == [4, 101, 102]
    assert found.counts == {"cat": 1, "dog": 3}


def test_read_run_labels__what_is_no_label_is_counted(store: RunStore, run: Run) -> None:
    annotations = {
        1: [annotation("cat"), annotation("dog", who=2)],
        2: [annotation("cat", "dog")],
        3: [annotation("owl")],
        5: [annotation("cat", cancelled=True)],
        6: [annotation()],
        7: [annotation("cat")],
        900: [annotation("dog")],
    }
    found = read(store, run, Studio(annotations))
    assert found.pool.ids[found.label >= 0].tolist() == [7]
    assert dict(found.conflicts) == {1: ("cat", "dog")}
    assert (found.several, found.retired, found.outside) == (1, {"owl": 1}, 1)


def test_read_run_labels__pool_that_changed_since(store: RunStore, run: Run) -> None:
    found = read(store, run, Studio(labeled(1, 2), tasks_now=range(3, N + 6)))
    assert found.pool.ids[~found.alive].tolist() == [1, 2]
    assert found.later == 5
    # As many came as went.
    found = read(store, run, Studio(labeled(1, 2), tasks_now=range(3, N + 3)))
    assert found.pool.ids[~found.alive].tolist() == [1, 2]
    assert found.later == 2


NESTED = """<View><Image name="i" value="$image"/><Choices name="c" toName="i" allowNested="true">
<Choice value="animal"><Choice value="cat"/><Choice value="dog" alias="d"/></Choice><Choice value="none"/></Choices>
</View>"""


def test_read_run_labels__nested_choices_are_kept_as_they_were_written(store: RunStore, run: Run) -> None:
    paths = [["animal", "cat"]], [["animal", "d"]]
    annotations = {task: [annotation(*paths[task % 2])] for task in (1, 2, 3)}
    found = read(store, run, Studio(annotations, label_config=NESTED))
    assert found.pool.ids[found.given >= 0].tolist() == [1, 2, 3]
    assert [found.choices_of(found.given[row]) for row in (0, 1, 2)] == [paths[1], paths[0], paths[1]]


def test_read_run_labels__tags_in_lower_case(store: RunStore, run: Run) -> None:
    config = CHOICES.replace("Choice", "choice").replace("Image", "image")
    found = read(store, run, Studio(labeled(1, 2), label_config=config))
    assert (found.tag.name, found.tag.lists_classes, found.counts) == ("c", True, {"cat": 1, "dog": 1})


DYNAMIC = CHOICES[: CHOICES.index("<Choices")] + '<Choices name="c" toName="i" value="$kinds"/></View>'


def test_unoffered__tasks_whose_own_choices_lack_the_class(store: RunStore, run: Run) -> None:
    data: dict[int, dict[str, Any]] = {task: {"kinds": ["cat", "dog"]} for task in range(1, N + 1)}
    data[7] = {"kinds": [{"value": "pet", "children": [{"value": "Dog", "alias": "dog"}]}]}
    data[8] = {}
    studio = Studio(labeled(1, 2), label_config=DYNAMIC, data=data)
    found = read(store, run, studio)
    assert set(found.classes) == {"cat", "dog"}
    cats = np.full(N, found.classes.index("cat"))
    assert found.pool.ids[unoffered(found, studio, cats)].tolist() == [7, 8]  # type: ignore[arg-type]
    assert found.pool.ids[unoffered(found, studio, 1 - cats)].tolist() == [8]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ('choice="multiple"', "takes several choices per task"),
        (
            'perRegion="true"',
            "classes are read from Choices or Taxonomy, but the label config asks for Choices per region",
        ),
    ],
)
def test_read_run_labels__other_projects_are_told_why_not(
    store: RunStore, run: Run, change: str, message: str
) -> None:
    config = CHOICES.replace('name="c"', f'name="c" {change}')
    with pytest.raises(InputError, match="no suggestions for project 12: ") as told:
        read(store, run, Studio({}, label_config=config))
    assert message in str(told.value)


def test_read_run_labels__another_project_with_the_id(store: RunStore, run: Run) -> None:
    with pytest.raises(InputError, match="project 12 is not the project of run 12-1"):
        read(store, run, Studio({}, key="12.200"))


def test_read_run_labels__unfinished_run(store: RunStore) -> None:
    with pytest.raises(RunError, match="is queued, not done"):
        read(store, store.create(project=13, settings={}), Studio({}))
