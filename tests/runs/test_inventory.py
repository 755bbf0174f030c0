import json

import numpy as np
import pytest

from usl_backend.instances import EmbeddedField, Pool
from usl_backend.runs.inventory import Inventory, Listed


@pytest.mark.parametrize(
    "inventory",
    [
        Inventory(12, "12.100", "Cats", ("cat",), "photo", 40, 4, (EmbeddedField("photo", "image", 0.5),)),
        Inventory(
            title="/photos", skipped={3: "it is empty"}, outside=Listed("text", ("/a",), "2 hidden", 1)
        ),
    ],
)
def test_inventory__round_trip_through_json(inventory: Inventory) -> None:
    told = inventory.to_json()
    assert ("outside" in told) == (inventory.outside is not None)
    assert Inventory.from_json(json.loads(json.dumps(told))) == inventory


def test_unread__labeled_ones_do_not_count() -> None:
    inventory = Inventory(labeled=(1, 2), skipped={30: '"image" is empty'})
    pool = Pool(np.arange(1, 3), np.ones((2, 2)), {2: "labeled and broken", 20: "404 Not Found"})
    assert inventory.unread(pool) == {20: "404 Not Found", 30: '"image" is empty'}


def test_brings_vectors__only_a_file_of_them() -> None:
    assert Inventory(outside=Listed("vectors", (), "", 0)).brings_vectors
    assert not Inventory(outside=Listed("image", (), "", 0)).brings_vectors
    assert not Inventory().brings_vectors
