import pytest

from usl_backend.errors import InputError
from usl_backend.studio.label_config import ObjectTag, parse
from usl_backend.studio.values import Repeat, Value

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
        '<Taxonomy name="c" toName="image"><Choice value="a"/><Choice value="b"/></Taxonomy>',
    ],
)
def test_parse__any_config_with_an_image(control: str) -> None:
    parsed = parse(config("<Header value='What?'/>", IMAGE, control))
    assert parsed.objects == (ObjectTag("image", "Image", Value("$picture")),)
    assert parsed.classes == ("a", "b")


def test_parse__names_in_any_case() -> None:
    parsed = parse(
        '<view><hypertext Name="h" Value="$page" valuetype="URL"/>'
        '<choices name="c" toname="h" perregion="true"><choice value="a" alias="b"/></choices></view>'
    )
    assert parsed.objects == (ObjectTag("h", "HyperText", Value("$page"), by_url=True),)
    assert [(tag.type, tag.classes, tag.per_region) for tag in parsed.controls] == [("Choices", ("b",), True)]


def test_parse__what_lies_in_a_repeater_knows_it() -> None:
    parsed = parse(
        config(
            '<Repeater on="$pages"><View><Image name="i_{{idx}}" value="$pages[{{idx}}]"/></View>'
            '<Choices name="c_{{idx}}" toName="i_{{idx}}"><Choice value="a"/></Choices></Repeater>'
        )
    )
    (tag,) = parsed.objects
    assert tag.value == Value("$pages[{{idx}}]", (Repeat("$pages", "{{idx}}"),))
    assert parsed.controls[0].repeated
    assert parsed.classifier is None


def test_parse__content_of_a_tag_comes_before_its_value() -> None:
    parsed = parse(
        config(
            '<Text name="t" value="$other"> Read $words </Text>',
            '<HyperText name="h"><p>by <b>$author</b></p></HyperText>',
            '<Markdown>static</Markdown><Header value="$title"/>',
        )
    )
    assert [(tag.type, tag.data_key) for tag in parsed.objects] == [
        ("Text", "Read $words"),
        ("HyperText", "<p>by <b>$author</b></p>"),
        ("Header", "title"),
    ]


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


NESTED = """<Choice value="animal"><Choice value="cat"/><Choice value="dog" alias="hound"/></Choice>
<View><Choice value="plant"/></View>"""


@pytest.mark.parametrize(
    ("tag", "classes", "multiple", "open_"),
    [
        ('Choices allowNested="true"', ("animal", "animal/cat", "animal/hound", "plant"), False, False),
        (
            'Choices allownested="true" choice="multiple"',
            ("animal", "animal/cat", "animal/hound", "plant"),
            True,
            False,
        ),
        # Label Studio shows no choice within another unless that is allowed.
        ("Choices", ("animal", "plant"), False, False),
        ("Taxonomy", ("animal", "animal/cat", "animal/hound", "plant"), True, False),
        ('Taxonomy leafsOnly="true" maxUsages="1"', ("animal/cat", "animal/hound", "plant"), False, False),
        ('Choices value="$options"', ("animal", "plant"), False, True),
        (
            'Taxonomy apiUrl="https://host.test/tree"',
            ("animal", "animal/cat", "animal/hound", "plant"),
            True,
            True,
        ),
    ],
)
def test_parse__choices_within_choices_are_paths(
    tag: str, classes: tuple[str, ...], multiple: bool, open_: bool
) -> None:
    kind = tag.split()[0]
    parsed = parse(config(IMAGE, f'<{tag} name="c" toName="image">{NESTED}</{kind}>'))
    assert parsed.classifier is not None
    assert (parsed.classes, parsed.classifier.multiple, parsed.classifier.open) == (classes, multiple, open_)


def test_classifier__choices_before_a_taxonomy() -> None:
    taxonomy = '<Taxonomy name="t" toName="image"><Choice value="a"/></Taxonomy>'
    choices = '<Choices name="c" toName="image"><Choice value="a"/></Choices>'
    for tags, name in (((taxonomy, choices), "c"), ((taxonomy,), "t")):
        tag = parse(config(IMAGE, *tags)).classifier
        assert tag is not None
        assert tag.name == name
    assert parse(config(IMAGE)).classifier is None


@pytest.mark.parametrize("text", ["", "<View>", "no xml", "<View><Image></View>"])
def test_parse__broken_xml(text: str) -> None:
    with pytest.raises(InputError, match="well-formed"):
        parse(text)


@pytest.mark.parametrize("tag", ["View", "Choice"])
def test_parse__tags_may_lie_in_each_other_a_hundred_deep(tag: str) -> None:
    def nested(levels: int) -> str:
        inner = f'<{tag} value="a">' * (levels - 2) + f"</{tag}>" * (levels - 2)
        return f'<View><Taxonomy name="t" toName="x">{inner}</Taxonomy></View>'

    assert len(parse(nested(100)).classes) == (98 if tag == "Choice" else 0)
    for levels in (101, 1_200):
        with pytest.raises(InputError, match="more than 100 levels of tags"):
            parse(nested(levels))


def test_parse__entities_are_refused() -> None:
    bomb = '<!DOCTYPE v [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]><View>&b;</View>'
    with pytest.raises(InputError, match="document type"):
        parse(bomb)
