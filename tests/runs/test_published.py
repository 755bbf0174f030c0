import json

import pytest

from usl_backend.instances import Place, Queue
from usl_backend.runs.published import (
    Destination,
    Published,
    PublishedPool,
    Verified,
    published_from_json,
    published_to_json,
    queue_to_json,
)

QUEUE = Queue.of([5, 3], control=[3, 9], reserve=[7])


def test_queue_to_json__names_and_sparse_fields_of_the_stored_form() -> None:
    assert queue_to_json(QUEUE) == [
        {"task": 5, "rank": 0, "role": "pick"},
        {"task": 3, "rank": 1, "role": "pick", "control": True},
        {"task": 9, "rank": 2, "role": "control", "control": True},
        {"task": 7, "rank": 3, "role": "reserve"},
    ]
    assert queue_to_json(Queue((Place(0, 0, "pick", task=41),))) == [
        {"task": 0, "rank": 0, "role": "pick", "studio_task": 41}
    ]


@pytest.mark.parametrize(
    ("published", "last"),
    [
        (Published(QUEUE), "verified"),
        (
            Published(QUEUE, "usl-12-7", 4, (5,), ("overlap is 2",), Verified(True, "first", "it is served")),
            "verified",
        ),
        (PublishedPool(QUEUE), "imported"),
        (PublishedPool(QUEUE, imported=Destination(12, "12.1", "Cats", "image")), "imported"),
    ],
)
def test_published__round_trip_in_the_order_of_the_stored_form(published: Published, last: str) -> None:
    told = published_to_json(published)
    assert list(told)[:3] == ["queue", "model_version", "view_id"]
    assert list(told)[-1] == last
    assert published_from_json(json.loads(json.dumps(told))) == published
