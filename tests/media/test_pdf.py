import io
import sys
import threading

import numpy as np
import pytest
from moving_pictures import BLUE, GREEN, GREY, RED, near, pdf
from PIL import Image

from usl_backend.errors import MediaError
from usl_backend.media import MediaLimits
from usl_backend.media.pdf import PAGES, SIDE, Pdf, is_pdf

TWO = pdf([(RED, "the first page"), (BLUE, "the second page")])

NO_PAGES = (
    b"%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj 2 0 obj<</Type/Pages/Kids[]/Count 0>>endobj\n"
    b"trailer<</Root 1 0 R>>"
)


def opened(data: bytes, **limits: float) -> Pdf:
    return Pdf(data, limits=MediaLimits(**limits))


def test_pdf__pages_are_pictures() -> None:
    assert is_pdf(TWO)
    made = opened(TWO)
    assert len(made) == 2
    pictures = made.pictures([0, 1])
    assert [near(pictures[place]) for place in (0, 1)] == [RED, BLUE]
    assert {picture.size for picture in pictures.values() if isinstance(picture, Image.Image)} == {
        (768, SIDE)
    }
    alone = made.pictures([1])[1]
    np.testing.assert_array_equal(np.asarray(alone), np.asarray(pictures[1]))


def test_pdf__text_of_the_pages() -> None:
    assert opened(TWO).text().split("\n") == ["the first page", "the second page"]
    assert opened(pdf([(RED, "")])).text() == ""


def test_pdf__the_first_pages_stand_for_it() -> None:
    made = opened(pdf([(GREEN if number < PAGES else RED, f"page {number}") for number in range(20)]))
    assert len(made) == PAGES
    assert {near(picture) for picture in made.pictures(range(PAGES)).values()} == {GREEN}
    assert "page 7" in made.text()
    assert "page 8" not in made.text()


def test_pdf__bytes_before_its_header() -> None:
    data = b"\r\n" + TWO
    assert is_pdf(data)
    assert len(opened(data)) == 2


@pytest.mark.parametrize("size", [(14_400.0, 2.0), (1.0, 14_400.0)])
def test_pdf__pages_of_extreme_shape(size: tuple[float, float]) -> None:
    picture = opened(pdf([(GREY, "")], size=size)).pictures([0])[0]
    assert isinstance(picture, Image.Image)
    assert max(picture.size) == SIDE
    assert min(picture.size) >= 1


def test_pdf__password_for_changes_only_does_not_keep_from_reading() -> None:
    from reportlab.lib.pdfencrypt import StandardEncryption

    locked = pdf([(RED, "x")], password=StandardEncryption("", ownerPassword="secret"))  # type: ignore[arg-type]
    assert near(opened(locked).pictures([0])[0]) == RED


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "the PDF is damaged or has no pages"),
        (TWO[:300], "the PDF is damaged or has no pages"),
        (b"%PDF-1.7\n" + b"x" * 500, "the PDF is damaged or has no pages"),
        (pdf([(RED, "x")], password="secret"), "the PDF is encrypted with a password; save it without one"),
        (NO_PAGES, "the PDF is damaged or has no pages"),
    ],
    ids=["empty", "cut", "noise", "encrypted", "no pages"],
)
def test_pdf__what_cannot_be_used_is_named(data: bytes, said: str) -> None:
    with pytest.raises(MediaError, match=said):
        opened(data)


def endless(loops: int) -> bytes:
    """A page that draws the same things over and over."""
    from reportlab.pdfgen import canvas

    out = io.BytesIO()
    drawn = canvas.Canvas(out, pagesize=(300, 400))
    drawn._code.append("0 0 m 300 400 l 300 0 l 0 400 l f " * loops)
    drawn.save()
    return out.getvalue()


def test_pdf__page_without_end_is_left() -> None:
    assert len(opened(endless(1)).pictures([0])) == 1
    with pytest.raises(MediaError, match="rendering the PDF takes too long"):
        opened(endless(200_000), seconds=0.3).pictures([0])
    assert len(opened(endless(1)).pictures([0])) == 1, "the next one can be rendered"


def test_pdf__several_threads_take_turns() -> None:
    made = [opened(TWO) for _ in range(4)]
    found: list[list[object]] = []
    threads = [
        threading.Thread(
            target=lambda one=one: found.append([near(p) for p in one.pictures([0, 1]).values()])
        )
        for one in made
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[RED, BLUE]] * 4


def test_is_pdf__pages_of_the_web_are_not() -> None:
    assert not is_pdf(b"<html>how to write %PDF-1.4</html>")
    assert not is_pdf(b"")


def test_pdf__missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdfium2", None)
    with pytest.raises(MediaError, match=r'pip install "usl-backend\[pdf\]"'):
        opened(TWO)
