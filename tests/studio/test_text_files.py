import base64

import pytest
from moving_pictures import GREY, RED, pdf

from usl_backend.errors import MediaError
from usl_backend.instances import TextFile
from usl_backend.media import MediaLimits
from usl_backend.studio.text_files import text_in

LIMITS = MediaLimits()


def read(data: bytes, *how: str) -> str:
    return text_in(data, file=TextFile("doc", *how), limits=LIMITS)


def test_text_in__the_first_eight_pages_of_a_pdf_whatever_shows_it() -> None:
    data = pdf([(RED, f"page   {number}") for number in range(10)])
    assert read(data) == "\n".join(f"page {number}" for number in range(8))
    assert read(data, "HyperText") == read(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pdf([(RED, ""), (GREY, "")]), r"hold no text, as scans do; .* by data_key image:doc"),
        (pdf([(RED, "x")])[:150], "the PDF is damaged"),
        (pdf([(RED, "x")], password="secret"), "encrypted with a password"),
        (b"plain words", '"doc" leads to a file that is no PDF'),
    ],
)
def test_text_in__pdfs_without_text(data: bytes, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        read(data)


def test_text_in__files_as_the_tag_shows_them() -> None:
    assert read("\ufeffGrüße,\r\n  Welt".encode(), "Text") == "Grüße,\nWelt"
    assert read(b"A <b>bold</b><script>no</script> word", "HyperText") == "A bold word"
    assert read(b"1 < 2 <b>", "Text") == "1 < 2 <b>"
    assert read(base64.b64encode("Grüße".encode()), "Text", "base64unicode") == "Grüße"
    talk = b'[{"who": "Ann", "said": "hi"}, {"who": "Bo", "said": "yes"}]'
    assert read(talk, "Paragraphs", "none", "who", "said") == "Ann: hi\nBo: yes"


def test_text_in__other_encodings_than_utf_8() -> None:
    words = "Привет, мир. Сегодня хорошая погода, и мы идём гулять в парк."
    assert read(words.encode("cp1251"), "Text") == words
    assert read(words.encode("utf-16"), "Text") == words


@pytest.mark.parametrize(
    ("data", "tag", "reason"),
    [
        (b" \n", "Text", '"doc" is empty'),
        (b"<script>x</script>", "HyperText", '"doc" shows no text'),
        (b"no list", "Paragraphs", '"doc" is a text, not a list of paragraphs'),
    ],
)
def test_text_in__files_without_text(data: bytes, tag: str, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        read(data, tag)
