import pytest

from usl_backend.errors import MediaError
from usl_backend.instances import MAX_CHARACTERS
from usl_backend.studio.label_config import ObjectTag
from usl_backend.studio.texts import normalized, text_of
from usl_backend.studio.values import Value

TEXT = ObjectTag("t", "Text", Value.field("text"))
HYPER = ObjectTag("t", "HyperText", Value.field("html"))
TALK = ObjectTag("t", "Paragraphs", Value.field("talk"), name_key="who", text_key="said")


@pytest.mark.parametrize(
    ("tag", "value", "shown"),
    [
        (TEXT, "  two\twords \n\n and a line ", "two words\nand a line"),
        (TEXT, "<b>a < b</b> &amp; c", "<b>a < b</b> &amp; c"),
        (TEXT, ["three", "plain", "words"], "three plain words"),
        (TEXT, 17, "17"),
        (TEXT, ["yes:", True, 2.0, 1e300], "yes: true 2 1e+300"),
        (TEXT, "e\u0301t\u00e9", "\u00e9t\u00e9"),
        (TEXT, "half \ud83d of a pair\x00", "half of a pair"),
        (HYPER, "<p>One</p><p>tw<b>o</b> &amp; three</p>", "One\ntwo & three"),
        (HYPER, "<style>p {color: red}</style><script>alert('x')</script>seen", "seen"),
        (HYPER, "<div>never closed <i>but", "never closed but"),
        (HYPER, "a<!-- not shown -->b<br>c", "ab\nc"),
        (
            TALK,
            [{"who": "Ann", "said": "Hello"}, {"said": "no name"}, {"who": "Bo", "said": " "}],
            "Ann: Hello\nno name",
        ),
        (TALK, '[{"who": "Ann", "said": "as JSON"}]', "Ann: as JSON"),
        (TALK, ["plain", {"other": 1}, 7], "plain"),
        (
            TALK,
            [{"who": 7, "said": 42}, {"who": "Bo", "said": 2.5}, {"said": 3.0}, {"who": "Cy", "said": True}],
            "7: 42\nBo: 2.5\n3",
        ),
        (HYPER, "<ul><li>One<li>two<p>three<p>four", "One\ntwo\nthree\nfour"),
        (TEXT, 17.0, "17"),
    ],
)
def test_text_of__what_is_shown(tag: ObjectTag, value: object, shown: str) -> None:
    assert text_of(tag, value) == shown


@pytest.mark.parametrize(
    ("tag", "value", "reason"),
    [
        (TEXT, "", '"text" is empty'),
        (TEXT, " \n\t", '"text" is empty'),
        (TEXT, None, '"text" is empty'),
        (TEXT, {"a": 1}, '"text" is a dict, not a text'),
        (TEXT, True, '"text" is a bool, not a text'),
        (HYPER, "<script>only()</script>", '"html" shows no text'),
        (HYPER, "<img src='a.png'>", '"html" shows no text'),
        (TALK, "words", '"talk" is a text, not a list of paragraphs'),
        (TALK, {"who": "Ann"}, '"talk" is a dict, not a list of paragraphs'),
        (TALK, [], '"talk" is empty'),
    ],
)
def test_text_of__nothing_to_embed_has_a_reason(tag: ObjectTag, value: object, reason: str) -> None:
    with pytest.raises(MediaError) as caught:
        text_of(tag, value)
    assert str(caught.value) == reason


def test_text_of__texts_of_megabytes_are_bounded() -> None:
    assert len(text_of(TEXT, "many words " * 200_000)) <= MAX_CHARACTERS
    assert len(text_of(HYPER, "<p>word</p>" * 300_000)) <= MAX_CHARACTERS
    assert len(text_of(HYPER, "<" * 3_000_000)) <= MAX_CHARACTERS


def test_normalized__is_its_own_normal_form() -> None:
    once = normalized("  A\u030a  line \r\n\r\nanother\u2028third ")
    assert once == "\u00c5 line\nanother\nthird"
    assert normalized(once) == once
