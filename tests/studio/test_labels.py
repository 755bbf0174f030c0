import itertools
import random
from collections import Counter
from typing import Any

import pytest

from usl_backend.errors import InputError
from usl_backend.studio import label_config
from usl_backend.studio.labels import Labels, classifier, read_annotated, read_labels, standing_annotations
from usl_backend.studio.records import LabeledTask

CONFIG = label_config.parse(
    """<View><Image name="image" value="$image"/><Choices name="kind" toName="image">
    <Choice value="cat"/><Choice value="dog"/><Choice value="owl"/></Choices></View>"""
)
_ids = itertools.count(1)


def annotation(*classes: str, by: Any = 1, at: int = 0, **marks: Any) -> dict[str, Any]:
    """An annotation as the export writes it; `at` is its minute."""
    result = [
        {"from_name": "kind", "to_name": "image", "type": "choices", "value": {"choices": list(classes)}}
    ]
    return {
        "id": next(_ids),
        "completed_by": by,
        "result": result if classes else [],
        "was_cancelled": False,
        "ground_truth": False,
        "created_at": "2026-01-01T00:00:00.000000Z",
        "updated_at": f"2026-01-01T00:{at:02d}:00.000000Z",
    } | marks


def read(*annotations: dict[str, Any], config: label_config.LabelConfig = CONFIG, **options: Any) -> Labels:
    return read_labels([LabeledTask(7, {}, annotations)], config, **options)


def test_read_labels__one_annotation() -> None:
    labels = read(annotation("dog"))
    assert labels.by_task == {7: ("dog",)}
    assert (labels.control, labels.classes) == ("kind", ("cat", "dog", "owl"))
    assert labels.counts == {"labeled": 1, "conflicts": 0, "skipped": 0, "empty": 0, "ground_truth": 0}


def test_read_labels__skipped_annotations_have_no_voice() -> None:
    assert read(annotation("cat", was_cancelled=True), annotation("dog", by=2)).by_task == {7: ("dog",)}
    only = read(annotation(was_cancelled=True), annotation("cat", was_cancelled=True, ground_truth=True))
    assert (only.by_task, only.skipped, only.empty) == ({}, (7,), ())


def test_read_labels__suggestions_that_nobody_looked_at_have_no_voice() -> None:
    def taken(*, origin: str | None) -> dict[str, Any]:
        made = annotation("cat")
        made["result"][0] |= {"id": "usl-accepted-7"} | ({"origin": origin} if origin else {})
        return made

    untouched = read(taken(origin=None))
    assert untouched.counts == {"labeled": 0, "conflicts": 0, "skipped": 0, "empty": 0, "ground_truth": 0}
    assert read(taken(origin=None), annotation("dog", by=2)).by_task == {7: ("dog",)}
    # Submitted by a person who found it filled in.
    assert read(taken(origin="prediction")).by_task == {7: ("cat",)}


def test_read_labels__submitted_without_a_class_is_empty_and_no_vote() -> None:
    assert read(annotation()).empty == (7,)
    assert read(annotation(by=1), annotation(by=2), annotation("owl", by=3)).by_task == {7: ("owl",)}


def test_read_labels__ground_truth_decides_against_any_majority() -> None:
    others = [annotation("cat", by=by, at=50) for by in range(2, 6)]
    labels = read(*others, annotation("owl", ground_truth=True))
    assert labels.by_task == {7: ("owl",)}
    assert labels.counts["ground_truth"] == 1
    # A ground truth that says nothing decides nothing.
    assert read(*others, annotation(ground_truth=True)).by_task == {7: ("cat",)}


def test_read_labels__newest_per_annotator_then_majority() -> None:
    labels = read(
        annotation("cat", by=1, at=1),
        annotation("dog", by=1, at=2),
        annotation("cat", by=1, at=0),
        annotation("dog", by=2, at=1),
        annotation("cat", by=3, at=9),
    )
    assert labels.by_task == {7: ("dog",)}


def test_read_labels__tie_is_reported_not_guessed() -> None:
    labels = read(annotation("dog", by=1), annotation("cat", by=2))
    assert labels.by_task == {}
    assert labels.conflicts == {7: (("cat",), ("dog",))}


def test_read_labels__annotator_as_object_and_as_number_are_the_same_person() -> None:
    labels = read(
        annotation("cat", by={"id": 4}, at=1), annotation("dog", by=4, at=2), annotation("dog", by=5, at=1)
    )
    assert labels.by_task == {7: ("dog",)}
    # Imported annotations without an annotator are a voice each.
    assert read(annotation("cat", by=None), annotation("cat", by=None), annotation("dog", by=1)).by_task == {
        7: ("cat",)
    }


def test_read_labels__multiple_choices_are_one_choice_in_config_order() -> None:
    labels = read(annotation("owl", "cat", by=1), annotation("cat", "owl", by=2), annotation("cat", by=3))
    assert labels.by_task == {7: ("cat", "owl")}


def test_read_labels__other_controls_are_not_read() -> None:
    config = label_config.parse(
        """<View><Image name="image" value="$image"/>
        <Choices name="kind" toName="image"><Choice value="cat"/></Choices>
        <Choices name="mood" toName="image"><Choice value="calm"/></Choices>
        <Choices name="part" toName="image" perRegion="true"><Choice value="ear"/></Choices></View>"""
    )
    other = annotation("cat")
    other["result"].append({"from_name": "mood", "type": "choices", "value": {"choices": ["calm"]}})
    assert read(other, config=config, control="kind").by_task == {7: ("cat",)}
    assert read(other, config=config, control="mood").by_task == {7: ("calm",)}
    with pytest.raises(InputError, match=r"several Choices \(kind, mood\); choose one"):
        read(other, config=config)
    with pytest.raises(InputError, match="control is 'part'"):
        read(other, config=config, control="part")


def chosen(tag: str, value: dict[str, Any]) -> Labels:
    config = label_config.parse(
        f"""<View><Image name="image" value="$image"/><{tag} name="kind" toName="image">
        <Choice value="animal"><Choice value="cat"/><Choice value="dog"/></Choice><Choice value="plant"/>
        </{tag.split()[0]}></View>"""
    )
    entry = annotation("x")
    entry["result"][0]["value"] = value
    return read(entry, config=config)


@pytest.mark.parametrize(
    ("tag", "value", "classes"),
    [
        ('Choices allowNested="true"', {"choices": [["animal", "cat"]]}, ("animal/cat",)),
        # all choices within it are chosen, and so is it
        ('Choices allowNested="true"', {"choices": [["animal"], ["animal", "cat"]]}, ("animal/cat",)),
        ('Choices allowNested="true"', {"choices": [["animal"]]}, ("animal",)),
        (
            'Choices allowNested="true" choice="multiple"',
            {"choices": [["plant"], ["animal", "cat"], ["animal"]]},
            ("animal", "animal/cat", "plant"),
        ),
        ("Taxonomy", {"taxonomy": [["animal", "dog"]]}, ("animal/dog",)),
        ("Taxonomy", {"taxonomy": [["plant"], ["animal", "dog"]]}, ("animal/dog", "plant")),
        ("Taxonomy", {"taxonomy": [["plant", "added by an annotator"]]}, ("plant/added by an annotator",)),
        ('Choices value="$options"', {"choices": ["zebra"]}, ("zebra",)),
    ],
)
def test_read_labels__choices_within_choices_are_paths(
    tag: str, value: dict[str, Any], classes: tuple[str, ...]
) -> None:
    assert chosen(tag, value).by_task == {7: classes}


def test_read_labels__choices_before_a_taxonomy_unless_it_is_named() -> None:
    config = label_config.parse(
        """<View><Image name="image" value="$image"/>
        <Taxonomy name="where" toName="image"><Choice value="sea"/></Taxonomy>
        <Choices name="kind" toName="image"><Choice value="cat"/></Choices></View>"""
    )
    entry = annotation("cat")
    entry["result"].append({"from_name": "where", "type": "taxonomy", "value": {"taxonomy": [["sea"]]}})
    assert read(entry, config=config).by_task == {7: ("cat",)}
    assert read(entry, config=config, control="where").by_task == {7: ("sea",)}


def test_read_annotated__any_annotation_that_is_no_skip_counts() -> None:
    box = annotation()
    tasks = [
        LabeledTask(1, {}, (box, annotation(was_cancelled=True))),
        LabeledTask(2, {}, (annotation(was_cancelled=True),)),
        LabeledTask(3, {}, (annotation(ground_truth=True),)),
    ]
    labels = read_annotated(tasks)
    assert (labels.by_task, labels.skipped, labels.ground_truth) == ({1: (), 3: ()}, (2,), 1)
    assert standing_annotations(tasks[0]) == [box]


def test_classifier__boxes_are_refused_by_name() -> None:
    config = label_config.parse(
        """<View><Image name="i" value="$image"/>
        <RectangleLabels name="b" toName="i"><Label value="car"/></RectangleLabels></View>"""
    )
    with pytest.raises(InputError, match="RectangleLabels"):
        classifier(config)


def test_read_labels__every_task_has_exactly_one_outcome() -> None:
    random_ = random.Random(0)
    tasks = []
    for task in range(400):
        entries = tuple(
            annotation(
                *random_.choice([("cat",), ("dog",), ("owl",), ()]),
                by=random_.randrange(3),
                at=random_.randrange(60),
                was_cancelled=random_.random() < 0.3,
                ground_truth=random_.random() < 0.05,
            )
            for _ in range(random_.randrange(1, 6))
        )
        tasks.append(LabeledTask(task, {}, entries))
    labels = read_labels(iter(tasks), CONFIG)
    outcomes = [*labels.by_task, *labels.conflicts, *labels.skipped, *labels.empty]
    assert sorted(outcomes) == list(range(400))
    assert min(Counter(labels.counts).values()) > 0
    for task in tasks:
        # The rule once more, spelled out.
        standing = [a for a in task.annotations if not a["was_cancelled"]]
        voiced = [a for a in standing if a["result"]]
        pool = [a for a in voiced if a["ground_truth"]] or voiced
        newest = {a["completed_by"]: a for a in sorted(pool, key=lambda a: (a["updated_at"], a["id"]))}
        votes = Counter(a["result"][0]["value"]["choices"][0] for a in newest.values())
        best = [name for name, count in votes.items() if count == max(votes.values())]
        if not standing:
            assert task.id in labels.skipped
        elif not voiced:
            assert task.id in labels.empty
        elif len(best) == 1:
            assert labels.by_task[task.id] == (best[0],)
        else:
            assert set(labels.conflicts[task.id]) == {(name,) for name in best}
