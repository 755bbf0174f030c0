import json
from dataclasses import asdict

import numpy as np
import pytest

from usl_backend.instances import Instance, Place, Pool, Queue, TextFile


def test_queue__picks_then_the_rest_of_the_control_set_then_the_reserve() -> None:
    queue = Queue.of([5, 3], control=[9, 3, 1], reserve=[7])
    assert queue.instances == (5, 3, 9, 1, 7)
    assert [place.rank for place in queue.places] == [0, 1, 2, 3, 4]
    assert queue.of_role("pick") == (5, 3)
    assert queue.of_role("control") == (9, 1)
    assert queue.of_role("reserve") == (7,)
    assert queue.control_set == (3, 9, 1)
    assert len(queue) == 5


def test_queue__more_control_tasks_come_behind_those_there_are_and_before_the_reserve() -> None:
    queue = Queue.of([5, 3, 8], control=[9, 3], reserve=[7, 2]).with_control([4, 5, 2])
    assert queue.instances == (5, 3, 8, 9, 4, 2, 7)
    assert [place.rank for place in queue.places] == list(range(7))
    assert queue.of_role("control") == (9, 4, 2)
    assert queue.of_role("reserve") == (7,)
    assert queue.control_set == (5, 3, 9, 4, 2)
    assert queue.with_control([]) == queue


def test_queue__more_control_tasks_leave_the_tasks_made_for_places() -> None:
    queue = Queue((Place(5, 0, "pick", task=105), Place(7, 1, "reserve", task=107))).with_control([7])
    assert queue.places == (Place(5, 0, "pick", task=105), Place(7, 1, "control", task=107))


@pytest.mark.parametrize("control", [False, True])
def test_place__in_the_role_of_a_control_is_always_part_of_the_control_set(control: bool) -> None:
    assert Place(4, 0, "control", control=control).control


SEVERAL = Instance(4, "image", "a", ("b", "c"), (("t",), ("u", "v")), "7")


def test_instance__one_field_at_a_time() -> None:
    assert SEVERAL.of_field(0, "image") == Instance(4, "image", "a", ("b", "c"), key="7")
    assert SEVERAL.of_field(1, "text") == Instance(4, "text", "t", key="7")
    assert SEVERAL.of_field(2, "text") == Instance(4, "text", "u", ("v",), key="7")


def test_instance__is_read_back_from_json_also_of_the_former_form() -> None:
    assert Instance.from_json(json.loads(json.dumps(asdict(SEVERAL)))) == SEVERAL
    former = {"id": 4, "modality": "image", "source": "a", "parts": ["t", "u"], "key": ""}
    assert Instance.from_json(former) == Instance(4, "image", "a", fields=(("t",), ("u",)))


def test_instance__texts_in_files_field_by_field() -> None:
    page, paper = TextFile("page", "HyperText", "none", "who"), TextFile("paper")
    shown = Instance(4, "image", "a", ("b",), (("t",), ("u", "v"), ("w",)), files=(None, page, None, paper))
    assert [shown.of_field(number, "text").file for number in range(4)] == [None, page, None, paper]
    assert Instance.from_json(json.loads(json.dumps(asdict(shown)))) == shown
    texts = Instance(4, "text", "u", ("v",), (("w",),), files=(paper, page))
    assert [(part.source, part.files) for part in texts.parts] == [("u", (paper,)), ("v", (paper,))]
    assert [part.files for part in shown.parts] == [(None,), (None,)]


@pytest.mark.parametrize(
    ("modality", "files", "located"),
    [
        ("image", (), True),
        ("text", (), False),
        ("text", (None, TextFile("a")), False),
        ("text", (TextFile("a"),), True),
    ],
)
def test_instance__what_its_source_is(modality, files, located: bool) -> None:
    assert Instance(1, modality, "x", files=files).located == located


def test_queue__asked_for_come_behind_the_control_set_and_before_the_spares() -> None:
    queue = Queue.of([5, 3], control=[9, 3], reserve=[7, 2, 8]).with_asked([8, 1, 3])
    assert queue.instances == (5, 3, 9, 8, 1, 7, 2)
    assert (queue.asked, queue.control_set) == ((8, 1), (3, 9))
    more = queue.with_asked([1, 4, 7])
    assert more.instances == (5, 3, 9, 8, 1, 4, 7, 2), "the earlier first, repeated ones stay"
    assert [place.rank for place in more.places] == list(range(8))
    assert more.without_asked([8, 2, 5]).instances == (5, 3, 9, 1, 4, 7, 2), "others stay"
    assert more.without_asked([8]).asked == (1, 4, 7)
    drawn = more.with_control([4])
    assert drawn.instances == (5, 3, 9, 4, 8, 1, 7, 2)
    assert drawn.asked == (8, 1, 7)


@pytest.mark.parametrize("ids", [[], [5, 8, 11, 14, 17]])
def test_pool__rows_of_ids(ids: list[int]) -> None:
    pool = Pool(np.array(ids, np.int64), np.zeros((len(ids), 1), np.float32))
    assert [pool.row_of(one) for one in range(20)] == [
        ids.index(one) if one in ids else None for one in range(20)
    ]
    for some in ([17, 4, 5], [], [99]):
        assert pool.rows_of(some).tolist() == [row for row, one in enumerate(ids) if one in some]
        assert pool.rows_of(set(some)).dtype == np.int64
