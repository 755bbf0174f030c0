import pytest

from usl_backend.studio.kinds import Kind, kind_of


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("a.png", "image"),
        ("/data/upload/3/8a-b.JPG", "image"),
        ("/data/local-files/?d=a%2Fb c.webp", "image"),
        ("s3://bucket/a b.tiff", "image"),
        ("https://host/picture.png?size=4", "image"),
        ("https://host/images/17", "image"),
        ("data:image/png;base64,AA", "image"),
        (["/a.png", ["/b.png"]], "image"),
        ("see a.png", "text"),
        ("words", "text"),
        ("line\n/a.png", "text"),
        (7, "text"),
        ([{"role": "user", "content": "hi"}], "text"),
        (["/a.png", "words"], "text"),
        ("https://host/talk.mp3", "audio"),
        ("data:audio/wav;base64,AA", "audio"),
        ("/data/upload/1/a.mp4", "video"),
        ("gs://bucket/a.pdf", "pdf"),
        ("data:application/pdf;base64,AA", "pdf"),
        ("/data/upload/1/a.csv", "table"),
        ("", None),
        ([None, " "], None),
    ],
)
def test_kind_of__one_value(value: object, kind: Kind | None) -> None:
    assert kind_of([value]) == kind


def test_kind_of__values_that_say_nothing_do_not_count() -> None:
    assert kind_of([None, "/a.png", "", "/b.png"]) == "image"
    assert kind_of(["/a.png", "/b.mp3"]) == "text"
    assert kind_of([]) is None
