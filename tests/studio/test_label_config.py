import pytest

from usl_backend.errors import InputError
from usl_backend.studio.label_config import ObjectTag, object_key, parse

IMAGE = '<Image name="image" value="$picture"/>'


def config(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


@pytest.mark.parametrize(
    "control",
    [
        '<Choices name="c" toName="image"><Choice value="a"/><Choice value="b"/></Choices>',
        '<RectangleLabels name="c" toName="image"><Label value="a"/><Label value="b"/></RectangleLabels>',
        '<BrushLabels name="c" toName="image"><Label value="a"/><Label value="b"/></BrushLabels>',
        """<Labels name="c" toName="image"><Label value="a"/><Label value="b"/></Labels>
        <Rectangle name="r" toName="image"/>""",
        '<Taxonomy name="c" toName="image"><Choice value="a"><Choice value="b"/></Choice></Taxonomy>',
    ],
)
def test_object_key__any_config_with_an_image(control: str) -> None:
    parsed = parse(config("<Header value='What?'/>", IMAGE, control))
    assert object_key(parsed) == ObjectTag("image", "Image", "picture")
    assert parsed.classes == ("a", "b")


def test_parse__classes_of_the_classifier_before_those_of_boxes() -> None:
    parsed = parse(
        config(
            IMAGE,
            '<RectangleLabels name="b" toName="image"><Label value="box"/></RectangleLabels>',
            '<Choices name="part" toName="image" perRegion="true"><Choice value="ear"/></Choices>',
            '<Choices name="c" toName="image" choice="multiple"><Choice value="x" alias="ex"/>'
            '<Choice value="y"/><Choice value="y"/></Choices>',
        )
    )
    # An alias is what the results say.
    assert parsed.classes == ("ex", "y")
    assert parsed.classifier is not None
    assert (parsed.classifier.name, parsed.classifier.multiple) == ("c", True)
    assert [(tag.name, tag.per_region) for tag in parsed.controls] == [
        ("b", False),
        ("part", True),
        ("c", False),
    ]


def test_object_key__image_beside_text_is_the_image() -> None:
    parsed = parse(config('<Text name="t" value="$text"/>', IMAGE))
    assert object_key(parsed).data_key == "picture"


def test_object_key__several_images_need_a_choice() -> None:
    parsed = parse(config(IMAGE, '<Image name="second" value="$other"/>'))
    with pytest.raises(InputError, match="--data-key picture"):
        object_key(parsed)
    assert object_key(parsed, "other").name == "second"
    # The same picture twice is one choice.
    assert object_key(parse(config(IMAGE, '<Image name="zoom" value="$picture"/>'))).name == "image"


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (['<Text name="t" value="$text"/>'], "texts are not supported yet"),
        (['<HyperText name="t" value="$html"/>'], "texts are not supported yet"),
        (['<Audio name="a" value="$sound"/>'], "Audio is not supported"),
        (['<Video name="v" value="$film"/>'], "Video is not supported"),
        (['<Header value="nothing"/>'], "shows nothing of a task"),
        (['<Image name="image"/>'], r"value=\"\$image\""),
    ],
)
def test_object_key__what_cannot_be_embedded_is_named(tags: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        object_key(parse(config(*tags)))


@pytest.mark.parametrize(
    ("key", "message"),
    [("text", "texts are not supported yet"), ("pictures", "but the label config shows: picture, text")],
)
def test_object_key__chosen_key_that_is_no_image(key: str, message: str) -> None:
    parsed = parse(config(IMAGE, '<Text name="t" value="$text"/>'))
    with pytest.raises(InputError, match=message):
        object_key(parsed, key)


@pytest.mark.parametrize("text", ["", "<View>", "no xml", "<View><Image></View>"])
def test_parse__broken_xml(text: str) -> None:
    with pytest.raises(InputError, match="well-formed"):
        parse(text)


def test_parse__entities_are_refused() -> None:
    bomb = '<!DOCTYPE v [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><View>&b;</View>'
    with pytest.raises(InputError, match="document type"):
        parse(bomb)
