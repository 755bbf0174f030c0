from typing import Any

import pytest
from shown_configs import SHOWN, Shown

from usl_backend.errors import InputError, MediaError
from usl_backend.instances import TextFile
from usl_backend.studio.fields import KeyChoice, embedded_fields, field_named, parse_data_key
from usl_backend.studio.label_config import parse

IMAGE = '<Image name="image" value="$picture"/>'


def config(*tags: str) -> str:
    return f"<View>{''.join(tags)}</View>"


@pytest.mark.parametrize("case", SHOWN, ids=lambda case: case.kind)
def test_sources__what_annotators_see(case: Shown) -> None:
    parsed = parse(case.config)
    (field,) = embedded_fields(parsed, case.data_key, first=[case.data])
    assert field.sources(case.data) == case.shown
    assert parsed.classes or "ReactCode" in case.config
    assert field_named(parsed, field.key, field.modality).sources(case.data) == case.shown


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
        (
            ['<Video name="v" value="$film"/>', '<Pdf name="p" value="$paper"/>'],
            r"several videos or PDFs \(film, paper\); choose, for example --data-key film",
        ),
        (['<Text name="t" value="$a"/>', '<Text name="u" value="$b"/>'], "several texts .*--data-key a,b"),
        (['<Text name="t" value="$url" resolver="csv"/>'], "has a resolver, which is not supported"),
        (['<Chat name="c" value="$url" valueType="url"/>'], 'has valueType="url", which is not supported'),
        (['<TimeSeries name="t" value="$csv"/><Header value="$title"/>'], "shows TimeSeries, .* by data_key"),
        (['<Markdown value="$md"/>'], "shows Markdown, which is not supported yet; name .* by data_key"),
        (
            ['<Text name="t" value="$a"/>', '<Text name="u" value="$b: $c"/>'],
            "several texts .*--data-key a,u ",
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
        ("sound", "which is Audio, and no task tells what it holds; write image:sound or text:sound"),
        ("pictures", "but label config and tasks have: picture, sound"),
        ("picture,pictures", "but label config and tasks have: picture, sound"),
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
def test_parse_data_key__what_cannot_be_read(text: str) -> None:
    with pytest.raises(InputError, match="write keys of the data"):
        parse_data_key(text)


TASKS: list[dict[str, Any]] = [
    {"photo": "", "md": "# Title", "film": "/a.mp4"},
    {"photo": "/p.png", "md": "words", "sound": "/a.mp3", "meta": {"tags": ["x", "y"]}, "name": "n"},
]


@pytest.mark.parametrize(
    ("data_key", "modality", "sources"),
    [
        ("photo", "image", ("/p.png",)),
        ("text:photo", "text", ("/p.png",)),
        ("md", "text", ("words",)),
        ("image:md", "image", ("words",)),
        ("meta.tags[1]", "text", ("y",)),
        ("meta.tags", "text", ("x", "y")),
        ("text: name", "text", ("n",)),
    ],
)
def test_sources__of_a_field_that_no_tag_shows(
    data_key: str, modality: str, sources: tuple[str, ...]
) -> None:
    (field,) = embedded_fields(parse(config(IMAGE)), data_key, first=TASKS)
    assert (field.modality, field.sources(TASKS[1])) == (modality, sources)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        (
            "sound",
            r"data_key is 'sound', which holds audio \(such as '/a.mp3'\) and is not supported yet; name a",
        ),
        ("gone", "but label config and tasks have: film, md, meta, name, photo, picture, sound"),
        ("audio:sound", "'audio:sound', but label config and tasks have"),
    ],
)
def test_embedded_fields__a_field_that_cannot_be_embedded(key: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        embedded_fields(parse(config(IMAGE)), key, first=TASKS)


def test_embedded_fields__a_tag_may_be_chosen_by_name_where_no_field_has_it() -> None:
    parsed = parse(config('<Text name="both" value="$md: $name"/>', '<Text name="md" value="$name"/>'))
    (field,) = embedded_fields(parsed, "both", first=TASKS)
    assert field.sources(TASKS[1]) == ("words: n",)
    (field,) = embedded_fields(parsed, "md", first=TASKS)
    assert field.sources(TASKS[1]) == ("words",)


def test_embedded_fields__a_written_modality_needs_no_task() -> None:
    for first in ([], [{"film": "https://a.test/documents/4"}]):
        (field,) = embedded_fields(parse(config('<Pdf name="p" value="$film"/>')), "text:film", first=first)
        assert (field.modality, field.file) == ("text", TextFile("film"))


@pytest.mark.parametrize("tag", ["Video", "Pdf"])
def test_embedded_fields__videos_and_pdfs_are_images_where_nothing_else_is_shown(tag: str) -> None:
    film = f'<{tag} name="f" value="$film"/>'
    (field,) = embedded_fields(parse(config(film)))
    assert (field.key, field.modality, field.tag.type) == ("film", "image", tag)
    for first, other in ((IMAGE, "picture"), ('<Text name="t" value="$words"/>', "words")):
        assert embedded_fields(parse(config(film, first)))[0].key == other
        assert embedded_fields(parse(config(film, first)), "film")[0].tag.type == tag


def test_embedded_fields__values_tell_videos_and_pdfs() -> None:
    shown = parse(config('<Header value="$paper"/>'))
    first = [{"paper": "https://example.org/a.pdf", "film": "/data/upload/1/a.mp4"}]
    for key in ("paper", "film"):
        assert embedded_fields(shown, key, first=first)[0].modality == "image"
    with pytest.raises(InputError, match=r"it holds a video .* which has no text; write image:film"):
        embedded_fields(shown, "text:film", first=first)


@pytest.mark.parametrize("tag", ['<Pdf name="p" value="$paper"/>', '<Header value="$paper"/>'])
def test_embedded_fields__the_text_of_pdfs(tag: str) -> None:
    first = [{"paper": ["https://example.org/a.pdf", " /data/upload/b.pdf"]}, {"paper": "c.pdf"}]
    (field,) = embedded_fields(parse(config(tag)), "text:paper=2", first=first)
    assert (field.modality, field.weight, field.file) == ("text", 2.0, TextFile("paper"))
    assert field.sources(first[0]) == ("https://example.org/a.pdf", "/data/upload/b.pdf")
    (field,) = embedded_fields(parse(config(tag)), "paper", first=first)
    assert (field.modality, field.file) == ("image", None)


def test_embedded_fields__texts_at_addresses() -> None:
    talk = '<Paragraphs name="p" value="https://a.test/$at" valueType="URL" nameKey="who" textKey="said"/>'
    (field,) = embedded_fields(parse(config(talk)))
    assert field.file == TextFile("https://a.test/$at", "Paragraphs", "none", "who", "said")
    assert field.sources({"at": "t.json"}) == ("https://a.test/t.json",)
    with pytest.raises(MediaError, match="is empty"):
        embedded_fields(parse(config('<Text name="t" value="$at" valueType="url"/>')))[0].sources({"at": " "})
    (field,) = embedded_fields(parse(config('<HyperText name="t" value="$at" valuetype="url"/>')), "text:at")
    assert field.file == TextFile("at", "HyperText")
    assert field.sources({"at": ["a.html", "b.html"]}) == ("a.html", "b.html")
    same = field_named(
        parse(config('<HyperText name="t" value="$at" valuetype="url"/>')), "at", "text", in_files=True
    )
    assert same == field


def test_sources__missing_items_of_several_are_empty() -> None:
    (field,) = embedded_fields(parse(config('<Image name="i" value="$images"/>')))
    assert field.sources({"images": ["/a.png", None, " /b.png ", "", 4]}) == ("/a.png", "", "/b.png", "", "")
    for images, reason in (([], "is empty"), (["", None], "is empty"), ([4], "is a int, not an address")):
        with pytest.raises(MediaError, match=f'"images" {reason}'):
            field.sources({"images": images})


def test_sources__a_chat_is_one_text() -> None:
    messages = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]
    for tag, key in (('<Chat name="c" value="$talk"/>', None), (IMAGE, "talk")):
        (field,) = embedded_fields(parse(config(tag)), key, first=[{"talk": messages}])
        assert field.sources({"talk": messages}) == ("user: hi\nassistant: hello",)
    (chat,) = embedded_fields(parse(config('<Chat name="c" value="$talk"/>')))
    with pytest.raises(MediaError, match="is a dict, not a list of messages with role and content"):
        chat.sources({"talk": {"a": 1}})


@pytest.mark.parametrize(("encoding", "value"), [("base64", "aGk="), ("base64unicode", "w7xiZXI=")])
def test_sources__encoded_texts_are_decoded(encoding: str, value: str) -> None:
    (field,) = embedded_fields(parse(config(f'<Text name="t" value="$t" encoding="{encoding}"/>')))
    assert field.sources({"t": value}) == ("hi" if encoding == "base64" else "über",)
    with pytest.raises(MediaError, match=f"is not a text in {encoding}"):
        field.sources({"t": "?"})


def test_parse_data_key__modality_and_weight() -> None:
    assert parse_data_key("image:a=2, text:b ,c:d=.5") == (
        KeyChoice("a", "image", 2.0),
        KeyChoice("b", "text", 1.0),
        KeyChoice("c:d", None, 0.5),
    )
