"""Which formats a label config leaves, before anything is labeled."""

import pytest

from usl_backend.exports import FORMATS
from usl_backend.exports.usable import usable_formats
from usl_backend.studio.label_config import parse

IMAGE = '<Image name="i" value="$image"/>'
ONE = '<Choices name="c" toName="i"><Choice value="a"/></Choices>'


@pytest.mark.parametrize(
    ("tags", "holds", "said"),
    [
        (ONE, "class", "Choices 'c' gives a task its class"),
        (
            '<Taxonomy name="t" toName="i"><Choice value="a"/></Taxonomy>',
            "class",
            "Taxonomy 't' gives a task its class",
        ),
        (
            ONE.replace("<Choices", '<Choices choice="multiple"'),
            "classes",
            "Choices 'c' takes several classes per task",
        ),
        (
            ONE + ONE.replace('"c"', '"d"'),
            "class",
            "there are several Choices (c, d), of which --control chooses one",
        ),
        (
            "".join(f'<Taxonomy name="{name}" toName="i"><Choice value="a"/></Taxonomy>' for name in "tu"),
            "class",
            "there are several Taxonomy (t, u), of which --control chooses one",
        ),
        (
            '<PolygonLabels name="p" toName="i"><Label value="a"/></PolygonLabels><TextArea name="x" toName="i"/>',
            "annotations",
            "the label config asks for PolygonLabels, TextArea, not for classes of whole tasks",
        ),
        (
            ONE.replace("<Choices", '<Choices perRegion="true"'),
            "annotations",
            "the label config asks for Choices per region, not for classes of whole tasks",
        ),
    ],
)
def test_usable_formats__by_what_the_label_config_asks_for(tags: str, holds: str, said: str) -> None:
    found = usable_formats(parse(f"<View>{IMAGE}{tags}</View>"))
    assert (found.holds, found.reason, found.limited) == (holds, said, holds != "class")
    assert (
        set(found.formats)
        == {
            "class": set(FORMATS),
            "classes": {"json", "jsonl", "csv", "huggingface"},
            "annotations": {"json", "jsonl"},
        }[holds]
    )
    assert str(found) == f"{said}: labels can be exported as {', '.join(found.formats)}"


def test_usable_formats__by_what_the_tasks_show() -> None:
    config = parse(f"<View>{IMAGE}{ONE}</View>")
    texts, images = (set(usable_formats(config, one).formats) for one in ("text", "image"))  # type: ignore[arg-type]
    assert texts == {"json", "jsonl", "csv", "npy", "semilearn-text", "huggingface"}
    assert images == set(FORMATS) - {"semilearn-text"}
