import json

import pytest

from usl_backend.runs.published import Destination, Verified
from usl_backend.runs.summary import (
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
