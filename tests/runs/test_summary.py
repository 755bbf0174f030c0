import json

import pytest

from usl_backend.runs.published import Destination, Verified
from usl_backend.runs.summary import (
    MethodNote,
    PoolNote,
    PoolSummary,
    ReasonCount,
    SkippedNote,
    Summary,
    Tab,
    Unread,
    summary_from_json,
)


@pytest.mark.parametrize(
    "summary",
    [
        Summary(picks=3, tab=Tab(1, "http://studio.test"), verified=Verified(True, "first", "it is served")),
        Summary(skipped=SkippedNote(1, (ReasonCount("empty", 1),), (Unread(4, "empty"),)), warnings=("a",)),
        PoolSummary(selection="/runs/photos-1/selection.csv"),
        PoolSummary(pool=PoolNote(passed_over="2 hidden"), imported=Destination(12, "12.1", "Cats", "image")),
    ],
)
def test_summary__round_trip_through_json(summary: Summary) -> None:
    told = summary.to_json()
    assert ("selection" in told) == isinstance(summary, PoolSummary)
    assert ("passed_over" in told["pool"]) == bool(summary.pool.passed_over)
    assert summary_from_json(json.loads(json.dumps(told))) == summary


def test_summary_from_json__of_an_earlier_version_or_none() -> None:
    assert summary_from_json({}) is None
    assert summary_from_json({"picks": 10, "model_version": "usl-12-1"}) == Summary(
        picks=10, model_version="usl-12-1"
    )


def test_method__is_described_with_preset_and_neighbors() -> None:
    assert MethodNote("usl", diagnostics={"neighbors": 7}).described == "usl with 7 neighbors"
    assert MethodNote("usl", "paper-cifar10").described == "usl paper-cifar10"
    assert MethodNote("usl-t", diagnostics={"neighbors": 1}).described == "usl-t with 1 neighbor"
    assert MethodNote().described == ""
