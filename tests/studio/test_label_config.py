import pytest

from usl_backend.errors import InputError
from usl_backend.studio.label_config import ObjectTag, embedded_fields, parse, parse_weights

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
def test_embedded_fields__any_config_with_an_image(control: str) -> None:
    parsed = parse(config("<Header value='What?'/>", IMAGE, control))
    (field,) = embedded_fields(parsed)
    assert field.tag == ObjectTag("image", "Image", "picture")
    assert (field.modality, field.weight) == ("image", 1.0)
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


def test_embedded_fields__image_beside_text_is_the_image() -> None:
    parsed = parse(config('<Text name="t" value="$text"/>', IMAGE))
    assert [field.tag.data_key for field in embedded_fields(parsed)] == ["picture"]


def test_embedded_fields__several_images_need_a_choice() -> None:
    parsed = parse(config(IMAGE, '<Image name="second" value="$other"/>'))
    with pytest.raises(InputError, match="--data-key picture"):
        embedded_fields(parsed)
    assert embedded_fields(parsed, "other")[0].tag.name == "second"
    # The same picture twice is one choice.
    twice = parse(config(IMAGE, '<Image name="zoom" value="$picture"/>'))
    assert [field.tag.name for field in embedded_fields(twice)] == ["image"]


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        (['<Audio name="a" value="$sound"/>'], "shows Audio, which is not supported yet"),
        (['<Video name="v" value="$film"/>'], "shows Video, which is not supported yet"),
        (['<Text name="t" value="$a"/>', '<Text name="u" value="$b"/>'], "several texts .*--data-key a,b"),
        (['<Text name="t" value="$url" valueType="url"/>'], 'valueType="url", which is not supported yet'),
        (
            ['<Paragraphs name="p" value="$url" valueType="URL"/>'],
            'valueType="url", which is not supported yet',
        ),
        (['<Header value="nothing"/>'], "shows nothing of a task"),
        (['<Image name="image"/>'], r"value=\"\$image\""),
    ],
)
def test_embedded_fields__what_cannot_be_embedded_is_named(tags: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        embedded_fields(parse(config(*tags)))


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("sound", "which is Audio and not supported yet"),
        ("pictures", "but the label config shows: picture, sound"),
        ("picture,pictures", "but the label config shows: picture, sound"),
    ],
)
def test_embedded_fields__chosen_key_that_cannot_be(key: str, message: str) -> None:
    parsed = parse(config(IMAGE, '<Audio name="a" value="$sound"/>'))
    with pytest.raises(InputError, match=message):
        embedded_fields(parsed, key)


@pytest.mark.parametrize("tag", ["Text", "HyperText", "Paragraphs"])
def test_embedded_fields__texts(tag: str) -> None:
    (field,) = embedded_fields(parse(config(f'<{tag} name="t" value="$words"/>')))
    assert (field.tag.type, field.tag.data_key, field.modality) == (tag, "words", "text")


def test_embedded_fields__several_with_weights_in_the_order_of_the_choice() -> None:
    parsed = parse(config(IMAGE, '<Paragraphs name="p" value="$talk" nameKey="who" textKey="said"/>'))
    fields = embedded_fields(parsed, "talk=0.5, picture")
    assert [(field.tag.data_key, field.modality, field.weight) for field in fields] == [
        ("talk", "text", 0.5),
        ("picture", "image", 1.0),
    ]
    assert (fields[0].tag.name_key, fields[0].tag.text_key) == ("who", "said")


@pytest.mark.parametrize("text", ["a,", "", "a,a", "a=0", "a=-1", "a=x", "a=inf", "a=nan", "=1"])
def test_parse_weights__what_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="write keys of the data"):
        parse_weights(text)


@pytest.mark.parametrize("text", ["", "<View>", "no xml", "<View><Image></View>"])
def test_parse__broken_xml(text: str) -> None:
    with pytest.raises(InputError, match="well-formed"):
        parse(text)


def test_parse__entities_are_refused() -> None:
    bomb = '<!DOCTYPE v [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><View>&b;</View>'
    with pytest.raises(InputError, match="document type"):
        parse(bomb)
