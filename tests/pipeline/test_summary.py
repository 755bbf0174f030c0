import numpy as np

from usl_backend.instances import Pool
from usl_backend.pipeline.summary import SHOWN, kinds_of, skipped_tasks, summarize
from usl_backend.runs import Run, RunState
from usl_backend.selection.base import Selection
from usl_backend.settings import RunSettings
from usl_backend.sources.project import Project

PROJECT = Project(
    12, "12.100", "Cats", ("cat", "dog"), "image", 40, 4, labeled=(1, 2), skipped={30: '"image" is empty'}
)


def pool(skipped: dict[int, str]) -> Pool:
    return Pool(np.arange(1, 8), np.ones((7, 2), np.float32), skipped)


def test_skipped_tasks__labeled_ones_do_not_count() -> None:
    found = skipped_tasks(PROJECT, pool({2: "labeled and broken", 20: "404 Not Found"}))
    assert found == {20: "404 Not Found", 30: '"image" is empty'}


def test_kinds_of__numbers_and_details_do_not_make_a_kind() -> None:
    kinds = kinds_of(
        {
            1: "at least 70,000,000 bytes are more than the limit of 64",
            2: "at least 90,000,001 bytes are more than the limit of 64",
            3: "the picture is truncated or damaged: unexpected end",
            4: "the picture is truncated or damaged: broken PNG file",
            5: "the file is empty (0 bytes)",
        }
    )
    assert kinds == {
        "at least N bytes are more than the limit of N": 2,
        "the picture is truncated or damaged": 2,
        "the file is empty (N bytes)": 1,
    }


def test_summarize__counts_add_up_and_everything_is_named() -> None:
    skipped = dict.fromkeys(range(100, 100 + SHOWN + 3), "the file is empty (0 bytes)")
    settings = RunSettings.resolve(explicit={"budget": "5%", "seed": 3}, environ={})
    chosen = Selection(
        np.array([4, 2]),
        np.ones(2),
        None,
        np.zeros(7, np.int32),
        {"k": 20},
        {"groups": [list(range(50))] * 99},
    )
    queue = [{"task": 5, "rank": 0, "role": "pick"}, {"task": 3, "rank": 1, "role": "pick"}]
    reserve = [{"task": 6, "rank": 2, "role": "reserve"}]
    found = summarize(
        Run("12-7", 12, "12.100", {}, RunState.RUNNING),
        settings,
        project=PROJECT,
        pool=pool(skipped),
        selection=chosen,
        published={
            "queue": queue + reserve,
            "model_version": "usl-12-7",
            "view_id": 4,
            "carried_over": [5],
            "warnings": ["pre-annotations were copied"],
            "verified": {"ok": True},
        },
        encoder_key="lite0",
        studio_url="http://localhost:8080",
        seconds={"fetch": 0.5},
        encoded=7,
    )
    assert found["budget"] == {"asked": "5%", "resolved": 2, "default": False}
    assert found["pool"] == {
        "tasks": 40, "annotated": 4, "unlabeled": 36, "readable": 5, "skipped": SHOWN + 4, "encoded": 7,
    }  # fmt: skip
    assert found["skipped"]["count"] == SHOWN + 4
    assert found["skipped"]["kinds"] == [
        {"kind": "the file is empty (N bytes)", "count": SHOWN + 3},
        {"kind": '"image" is empty', "count": 1},
    ]
    assert found["skipped"]["first"][0] == {"task": 30, "reason": '"image" is empty'}
    assert len(found["skipped"]["first"]) == SHOWN
    assert (found["picks"], found["reserve"], found["carried_over"]) == (2, 1, 1)
    assert found["tab"] == {"id": 4, "url": "http://localhost:8080/projects/12/data?tab=4"}
    unread = f"{SHOWN + 4} of 36 unlabeled tasks could not be read and were left out"
    assert found["method"]["diagnostics"] == {"groups": [list(range(SHOWN))] * SHOWN}
    assert found["warnings"] == [
        f'{unread}; the first is task 30: "image" is empty',
        "pre-annotations were copied",
    ]


def test_summarize__warnings_of_a_training_are_told() -> None:
    told = "the heads use 3 of 20 clusters; the largest were halved until there were enough"
    chosen = Selection(
        np.array([4]), np.ones(1), None, np.zeros(7, np.int32), {}, {"training": {"warnings": [told]}}
    )
    found = summarize(
        Run("12-7", 12, "12.100", {}, RunState.RUNNING),
        RunSettings.resolve(environ={}),
        project=PROJECT,
        pool=pool({}),
        selection=chosen,
        published={
            "queue": [{"task": 5, "rank": 0, "role": "pick"}], "model_version": None, "view_id": None,
            "verified": None, "carried_over": [], "warnings": ["another"],
        },
        encoder_key="key",
        studio_url="http://studio.test",
        seconds={},
        encoded=0,
    )  # fmt: skip
    assert found["warnings"][-2:] == [told, "another"]
