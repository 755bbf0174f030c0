"""Object stores, by a real S3-compatible server on this machine."""

import errno
import io
import subprocess
import sys
import threading
from collections.abc import Iterator

import numpy as np
import pytest
from botocore.exceptions import ClientError
from object_store import bucket_of
from PIL import Image

from usl_backend.errors import InputError, MediaError
from usl_backend.media import Location, MediaLimits, MediaReader, UnavailableError
from usl_backend.media.objects import ObjectStores, is_object
from usl_backend.sources import find, read_manifest


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A bucket with pictures and other things."""
    objects = {
        "photos/a/1.png": png(10),
        "photos/b/2.PNG": png(20),
        "photos/.hidden.png": b"",
        "photos/notes.txt": b"words",
        "list.csv": b"id,path\nx,photos/a/1.png\ny,photos/gone.png\n",
    }
    with bucket_of(objects, monkeypatch) as address:
        yield address


@pytest.mark.filterwarnings("ignore")  # of the client library's own event loop
def test_objects__are_listed_and_read_under_the_caps(bucket: str) -> None:
    folder = read_manifest(find(f"{bucket}/photos/"))
    entries = list(folder)
    assert [(entry.key, entry.source) for entry in entries] == [
        ("a/1.png", f"{bucket}/photos/a/1.png"),
        ("b/2.PNG", f"{bucket}/photos/b/2.PNG"),
    ]
    assert folder.passed_over == {"hidden": 1, "other files": 1}
    with MediaReader(object_stores=True) as reader:
        assert reader.read(reader.locate(entries[0].source)) == png(10)
        with pytest.raises(MediaError, match="there is no such object"):
            reader.read(Location(url=f"{bucket}/photos/gone.png"))
    small = MediaReader(limits=MediaLimits(bytes=10), object_stores=True)
    with small, pytest.raises(MediaError, match=r"\d+ bytes are more than the limit of 10"):
        small.read(Location(url=entries[0].source))
    with pytest.raises(InputError, match=r"s3://nowhere-at-all/x cannot be listed: .*|has no images"):
        list(read_manifest(find("s3://nowhere-at-all/x")))


def test_objects__are_not_read_unless_that_is_allowed() -> None:
    with MediaReader() as reader, pytest.raises(MediaError):
        reader.read(Location(url="s3://bucket/1.png"))


@pytest.mark.parametrize(
    "address", ["file:///etc/passwd", "ftp://host/1.png", "github://o:r@/x", "memory://x"]
)
def test_objects__other_schemes_of_the_library_are_never_opened(address: str) -> None:
    assert not is_object(address)
    with pytest.raises(MediaError, match="is not supported"):
        ObjectStores(MediaLimits()).read(address)
    with MediaReader(object_stores=True) as reader, pytest.raises(MediaError):
        reader.read(Location(url=address))


@pytest.mark.parametrize("text", ["ftp://host/x.csv", "memory://x"])
def test_find__unknown_scheme_is_named(text: str) -> None:
    with pytest.raises(InputError, match=r"which is not supported; use one of http://, https://, abfs://"):
        find(text)


def test_find__web_page_is_no_manifest() -> None:
    with pytest.raises(InputError, match="is neither a project nor a manifest"):
        find("https://host.test/photos/")


def test_objects__that_hang_are_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from usl_backend.media import objects

    held = threading.Event()

    def hanging(_address: str) -> object:
        held.wait(60)
        raise AssertionError

    monkeypatch.setattr(objects, "_store", hanging)  # a store that never answers cannot be had on demand
    with pytest.raises(MediaError, match=r"s3://b/1\.png was not delivered in time"):
        ObjectStores(MediaLimits(seconds=0.05)).read("s3://b/1.png")
    held.set()


def test_objects__that_hang_cost_the_time_once_however_many_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    from usl_backend.media import objects

    held, calls = threading.Event(), []

    def hanging(address: str) -> object:
        calls.append(address)
        held.wait(60)
        raise FileNotFoundError

    monkeypatch.setattr(objects, "_store", hanging)
    stores = ObjectStores(MediaLimits(seconds=0.01))
    for _ in range(33):
        with pytest.raises(UnavailableError, match="in time"):
            stores.read("s3://b/1.png")
    assert len(calls) == 32, "the next one waits for one of them"
    held.set()
    with pytest.raises(MediaError, match="no such object"):
        ObjectStores(MediaLimits()).read("s3://b/1.png")


def test_objects__where_no_thread_starts_are_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from usl_backend.media import objects

    def refused(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    def missing(_address: str) -> object:
        raise FileNotFoundError

    monkeypatch.setattr(objects, "_store", missing)
    stores = ObjectStores(MediaLimits(seconds=5.0))
    with monkeypatch.context() as crowded:
        crowded.setattr(threading.Thread, "start", refused)  # a host out of threads cannot be had on demand
        for _ in range(33):
            with pytest.raises(UnavailableError, match="this host starts no more threads for now"):
                stores.read("s3://b/1.png")
    with pytest.raises(MediaError, match="no such object"):
        stores.read("s3://b/1.png")


def test_objects__that_hang_do_not_keep_the_process() -> None:
    program = """
import time
from usl_backend.errors import MediaError
from usl_backend.media import MediaLimits, objects
objects._store = lambda _: time.sleep(60)
try:
    objects.ObjectStores(MediaLimits(seconds=0.01)).read("s3://b/1.png")
except MediaError as error:
    print(error)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert "not delivered in time" in ended.stdout


def client_error(status: int) -> Exception:
    """As botocore raises it, and s3fs translates it."""
    answer = {"Error": {"Code": str(status)}, "ResponseMetadata": {"HTTPStatusCode": status}}
    error = OSError(errno.EIO, "told by the store")
    error.__cause__ = ClientError(answer, "GetObject")
    return error


def google_error(code: int) -> Exception:
    """As gcsfs raises it."""
    error = Exception("told by the store")
    error.code = code  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "passing"),
    [
        (client_error(503), True),
        (client_error(429), True),
        (client_error(416), False),
        (google_error(502), True),
        (google_error(403), False),
        (ConnectionResetError("reset by peer"), True),
        (PermissionError("not yours"), False),
        (FileNotFoundError("gone"), False),
        (ValueError("odd"), False),
    ],
)
def test_read__a_store_that_is_busy_or_away_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, error: Exception, passing: bool
) -> None:
    monkeypatch.setattr("usl_backend.media.hosts._BACKOFF_SECONDS", 0.001)
    asked: list[str] = []

    def store(address: str) -> object:
        asked.append(address)
        raise error

    monkeypatch.setattr("usl_backend.media.objects._store", store)
    with MediaReader(object_stores=True, patience=2.0) as reader, pytest.raises(MediaError) as caught:
        reader.read(Location(url="s3://photos/a/1.png"))
    assert isinstance(caught.value, UnavailableError) is passing
    if passing:
        assert caught.value.host == "s3://photos"
        assert str(caught.value).startswith("s3://photos is busy or away: ")
        assert len(asked) >= 2
    else:
        assert len(asked) == 1
