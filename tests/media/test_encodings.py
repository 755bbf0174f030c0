import base64
import gzip
import zlib
from collections.abc import Iterator

import pytest

from usl_backend.errors import MediaError
from usl_backend.media.encodings import data_url_content, decoded

PAYLOAD = bytes(range(256)) * 40 + b"??>>"


def in_pieces(data: bytes, size: int = 7) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def undone(data: bytes, encoding: str) -> bytes:
    return b"".join(decoded(in_pieces(data), encoding, host="a.test"))


# -- Content-Encoding --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["", "identity", "aws-chunked", "utf-8", "ISO-8859-1", "binary", "none", "image/png"]
)
def test_decoded__names_that_are_no_encodings_change_nothing(name: str) -> None:
    assert undone(PAYLOAD, name) == PAYLOAD


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("gzip", gzip.compress(PAYLOAD)),
        ("GZIP", gzip.compress(PAYLOAD)),
        ("x-gzip", gzip.compress(PAYLOAD)),
        ("deflate", zlib.compress(PAYLOAD)),
        ("deflate", zlib.compress(PAYLOAD)[2:-4]),
        ("gzip, gzip", gzip.compress(gzip.compress(PAYLOAD))),
        ("deflate, gzip", gzip.compress(zlib.compress(PAYLOAD))),
        ("aws-chunked, gzip", gzip.compress(PAYLOAD)),
        ("gzip", gzip.compress(PAYLOAD)[:-8]),
        ("gzip", gzip.compress(PAYLOAD) + b"junk"),
    ],
    ids=["gzip", "case", "x-gzip", "zlib", "raw", "twice", "both", "and none", "no trailer", "and junk"],
)
def test_decoded__what_was_compressed_is_inflated(name: str, sent: bytes) -> None:
    assert undone(sent, name) == PAYLOAD


def test_decoded__in_pieces_that_the_reader_can_count() -> None:
    bomb = gzip.compress(bytes(20_000_000))
    assert max(map(len, decoded(iter([bomb]), "gzip", host="a.test"))) <= 1 << 18


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_decoded__what_is_not_compressed_though_it_says_so(name: str) -> None:
    with pytest.raises(MediaError, match=rf"a\.test sent an answer that is not {name}"):
        undone(b"\x89PNG" + PAYLOAD, name)


@pytest.mark.parametrize("name", ["br", "zstd", "gzip, br"])
def test_decoded__encodings_that_nobody_asked_for_are_named(name: str) -> None:
    with pytest.raises(MediaError, match=r"a\.test sent an answer compressed by (br|zstd), which was not"):
        undone(PAYLOAD, name)


# -- data URLs ---------------------------------------------------------------------------------------------

ENCODED = base64.b64encode(PAYLOAD).decode()


def wrapped(end: str) -> str:
    return end + end.join(ENCODED[at : at + 76] for at in range(0, len(ENCODED), 76)) + end


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64," + ENCODED,
        "DATA:image/png;BASE64," + ENCODED,
        "data:;base64," + ENCODED,
        "data:image/png;charset=utf-8;base64," + ENCODED,
        "data:image/png; base64 ," + ENCODED,
        "data:image/png;base64," + ENCODED.rstrip("="),
        "data:image/png;base64," + wrapped(" "),
        "data:image/png;base64," + wrapped("\n"),
        "data:image/png;base64," + wrapped("\r\n"),
        "data:image/png;base64," + wrapped("\t"),
        "data:image/png;base64," + wrapped("%0A"),
        "data:image/png;base64," + ENCODED.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
        "data:image/png;base64," + ENCODED + "#part",
    ],
)
def test_data_url_content__as_browsers_read_it(url: str) -> None:
    assert ENCODED.endswith("=")
    assert data_url_content(url, limit=len(PAYLOAD)) == PAYLOAD


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,*" + ENCODED, "base64"),
        ("data:image/png;base64," + ENCODED.rstrip("=") + "====", "base64"),
        ("data:image/png;base64,AAAAA", "base64"),
        ("data:image/png;base64," + ENCODED.replace("+", "-").replace("/", "_"), "base64"),
        ("data:image/png;base64," + ENCODED + "AAAA", "base64"),
        ("data:image/png;base64,AAAA" + ENCODED, "more than the limit"),
        ("data:," + "x" * (5 * len(PAYLOAD)), "more than the limit"),
    ],
)
def test_data_url_content__what_browsers_do_not_show(url: str, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        data_url_content(url, limit=len(PAYLOAD))


def test_data_url_content__blanks_do_not_count() -> None:
    assert data_url_content("data:;base64," + wrapped("\n"), limit=len(PAYLOAD)) == PAYLOAD
    assert data_url_content("data:,a%20b", limit=3) == b"a b"
