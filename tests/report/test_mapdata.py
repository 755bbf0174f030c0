import base64
import json

import numpy as np
import pytest

from usl_backend.report.mapdata import packed, packed_states
from usl_backend.report.record import MapPoints
from usl_backend.report.states import Coded, TaskStates


def unpacked(told: dict) -> dict[str, np.ndarray]:
    return {
        name: np.frombuffer(base64.b64decode(part["data"]), dtype=part["type"])
        for name, part in told["arrays"].items()
    }


def points_of(n: int, *, first: int = 5) -> MapPoints:
    rng = np.random.default_rng(0)
    rank = np.full(n, -1, dtype=np.int32)
    rank[[n - 1, 0, n // 2]] = [0, 1, 2]
    return MapPoints(
        ids=np.arange(first, first + n),
        points=rng.normal(size=(n, 2)).astype(np.float32) * (3, 1),
        cluster=rng.integers(0, 3, n).astype(np.int32),
        density=rng.integers(0, 100, n).astype(np.uint8),
        rank=rank,
    )


def test_packed__holds_every_point_in_its_place() -> None:
    points = points_of(50)
    found = unpacked(json.loads(json.dumps(packed(points, task_url=None))))
    assert found["ids"].tolist() == points.ids.tolist()
    assert found["cluster"].tolist() == points.cluster.tolist()
    assert found["density"].tolist() == points.density.tolist()
    assert found["picks"].tolist() == [49, 0, 25]
    places = np.stack([found["x"], found["y"]], axis=1).astype(float)
    scale = np.ptp(points.points[:, 0]) / 65_535
    expected = points.points - points.points.min(axis=0)
    assert places * scale == pytest.approx(expected, abs=scale)


def test_packed__large_ids_survive() -> None:
    found = unpacked(packed(points_of(4, first=2**40), task_url=None))
    assert found["ids"].tolist() == [2**40 + i for i in range(4)]


def test_packed__one_place_for_all_is_no_division_by_zero() -> None:
    points = points_of(4)
    same = MapPoints(points.ids, np.ones((4, 2), np.float32), points.cluster, points.density, points.rank)
    assert set(unpacked(packed(same, task_url=None))["x"].tolist()) == {0}


def test_packed__two_hundred_thousand_stay_below_five_megabytes() -> None:
    assert len(json.dumps(packed(points_of(200_000), task_url="http://studio.test/{task}"))) < 5_000_000


def test_packed_states__a_code_for_each_point_of_the_map() -> None:
    states = TaskStates(
        Coded(("pick", "waiting"), {7: 0}, 1), Coded(("cat", "dog"), {6: 1, 99: 0}), None, 3.0, "a note"
    )
    told = json.loads(json.dumps(packed_states(states, np.array([5, 6, 7]))))
    codes = {
        name: np.frombuffer(base64.b64decode(kind["codes"]["data"]), dtype=kind["codes"]["type"]).tolist()
        for name, kind in told["kinds"].items()
    }
    assert codes == {"status": [1, 1, 0], "label": [-1, 1, -1]}
    assert told["kinds"]["label"]["names"] == ["cat", "dog"]
    assert told["note"] == "a note"


@pytest.mark.parametrize(
    ("count", "width"), [(128, "int8"), (129, "int16"), (32_768, "int16"), (32_769, "int32")]
)
def test_packed_states__codes_are_as_wide_as_the_classes_are_many(count: int, width: str) -> None:
    names = tuple(f"class {number}" for number in range(count))
    states = TaskStates(Coded(("waiting",), {}, 0), Coded(names, {5: count - 1, 6: 127}))
    codes = packed_states(states, np.array([5, 6, 7]))["kinds"]["label"]["codes"]
    assert codes["type"] == width
    assert np.frombuffer(base64.b64decode(codes["data"]), dtype=width).tolist() == [count - 1, 127, -1]
