import dataclasses
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from moving_pictures import BLUE, GREEN, GREY, RED, near, pdf, video
from PIL import Image

from usl_backend.demo import dataset
from usl_backend.embedding import reading as module
from usl_backend.embedding.reading import (
    Content,
    Reading,
    ReadingProcess,
    ReadingProcesses,
    is_known,
    read_pictures,
)
from usl_backend.errors import MediaError
from usl_backend.media import (
    Location,
    MediaLimits,
    MediaReader,
    UnauthorizedError,
    UnavailableError,
    decode_image,
)
from usl_backend.outliers import traits_of_picture

SIZE = 32
NOBODY = np.array([], dtype=np.uint64)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return dataset.write_images(tmp_path_factory.mktemp("pictures"))[:6]


@pytest.fixture
def reader(files: list[Path]) -> Iterator[MediaReader]:
    with MediaReader(local_roots=[files[0].parent]) as made:
        yield made


@pytest.fixture
def process(reader: MediaReader, files: list[Path]) -> Iterator[ReadingProcess]:
    """Knows the content of the third file."""
    known = np.array([prefix(hash_of(files[2]))], dtype=np.uint64)
    made = ReadingProcess(reader, size=SIZE, known=known)
    yield made
    made.close()


def hash_of(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def prefix(content_hash: str) -> int:
    return int(content_hash[:16], 16)


def same(one: Reading, other: Reading) -> bool:
    """Equal in all fields; arrays have no equality of their own."""
    bare, values, traits = [], [], []
    for each in (one, other):
        contents = tuple(dataclasses.replace(content, value=None) for content in each.contents)
        bare.append(dataclasses.replace(each, contents=contents))
        values.append([content.value for content in each.contents])
        traits.append([content.traits for content in each.contents])
    return (
        np.array_equal(*traits, equal_nan=True)
        and bare[0] == bare[1]
        and all(
            one is other if one is None or other is None else np.array_equal(one, other)
            for one, other in zip(*values, strict=True)
        )
    )


def test_read_pictures__decodes_what_is_wanted(reader, files) -> None:
    location = reader.locate(str(files[0]))
    reading = read_pictures(reader, location, size=SIZE, wanted=lambda _: True)
    (content,) = reading.contents
    assert content.hash == hash_of(files[0])
    expected = decode_image(files[0].read_bytes(), size=SIZE, limits=reader.limits)
    np.testing.assert_array_equal(content.value, expected)
    with Image.open(files[0]) as image:
        assert content.traits[:3] == traits_of_picture(expected, side=min(image.size))[:3]
    asked: list[str] = []
    unwanted = read_pictures(reader, location, size=SIZE, wanted=lambda one: bool(asked.append(one)))
    assert unwanted == Reading((Content(hash_of(files[0])),))
    assert asked == [hash_of(files[0])]


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError("busy"),
        UnavailableError("busy", host="behind.test"),
        UnauthorizedError("401"),
        MediaError("too large"),
    ],
)
def test_read_pictures__says_what_was_wrong(error: MediaError) -> None:
    class Failing(MediaReader):
        def read(self, _: Location, *, once: bool = False) -> bytes:
            raise error

    location = Location(url="http://images.test/a.png")
    reading = read_pictures(Failing(), location, size=SIZE, wanted=lambda _: True)
    assert reading == Reading(
        reason=str(error),
        unavailable=isinstance(error, UnavailableError),
        unauthorized=isinstance(error, UnauthorizedError),
        host=getattr(error, "host", "") or "images.test",
    )


def test_reading_process__reads_what_a_thread_reads(process, reader, files, tmp_path) -> None:
    cut = files[0].with_name("cut.png")
    cut.write_bytes(files[0].read_bytes()[:200])
    locations = [reader.locate(str(path)) for path in files]
    locations += [Location(path=cut), Location(path=tmp_path / "outside.png")]
    expected = [
        read_pictures(reader, one, size=SIZE, wanted=lambda content: content != hash_of(files[2]))
        for one in locations
    ]
    for some in (slice(None), slice(-2, None)):
        found = process.read(locations[some])
        assert len(found) == len(expected[some])
        assert all(map(same, found, expected[some]))
    assert [[content.value is None for content in one.contents] for one in expected] == [
        [False], [False], [True], [False], [False], [False], [True], []
    ]  # fmt: skip


def test_reading_process__that_was_killed_says_so(process, reader, files) -> None:
    locations = [reader.locate(str(files[0]))]
    assert process.read(locations) is not None
    os.kill(process._process.pid, signal.SIGKILL)
    assert process.read(locations) is None
    process.close()
    assert process.read(locations) is None


def test_reading_process__closed_while_it_reads_returns_at_once(unanswered) -> None:
    url, asked = unanswered
    with MediaReader(allowed_hosts=["127.0.0.1"]) as reader:
        process = ReadingProcess(reader, size=SIZE, known=NOBODY)
        answers: list[object] = []
        thread = threading.Thread(target=lambda: answers.append(process.read([Location(url=url)])))
        thread.start()
        assert asked.wait(60)
        process.close()
        thread.join(10)
    assert answers == [None]


def test_reading_process__ends_with_its_parent_in_the_middle_of_a_fetch(unanswered, wait_until) -> None:
    url, asked = unanswered
    script = f"""
import numpy as np
from usl_backend.media import Location, MediaReader
from usl_backend.embedding.reading import  Content, ReadingProcess
if __name__ == "__main__":
    process = ReadingProcess(MediaReader(allowed_hosts=["127.0.0.1"]), size=32, known=np.array([], np.uint64))
    print(process._process.pid, flush=True)
    process.read([Location(url={url!r})])
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert asked.wait(60)
        parent.kill()
    wait_until(lambda: not running(child), 10)


def running(pid: int) -> bool:
    """Whether a process lives; nobody may be there to collect a dead one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture
def unanswered() -> Iterator[tuple[str, threading.Event]]:
    """Address of a server that takes a request and says nothing, and whether it was asked."""
    asked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            connection.recv(100)
            asked.set()
            held.append(connection)

        held: list[socket.socket] = []
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/a.png", asked
        for connection in held:
            connection.close()


class Puppet:
    """In the place of a process."""

    def __init__(self, *_: object, **__: object) -> None:
        self.alive = True

    def read(self, locations: list[Location]) -> list[Reading] | None:
        return [Reading(reason=str(id(self)))] * len(locations) if self.alive else None

    def close(self) -> None:
        self.alive = False


@pytest.fixture
def puppets(monkeypatch: pytest.MonkeyPatch) -> list[Puppet]:
    made: list[Puppet] = []

    def make(*_: object, **__: object) -> Puppet:
        made.append(Puppet())
        return made[-1]

    monkeypatch.setattr(module, "ReadingProcess", make)
    return made


def in_thread(function: Callable[[], object]) -> object:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_reading_processes__each_thread_has_one(puppets, reader) -> None:
    processes = ReadingProcesses(reader, size=SIZE, known=NOBODY)
    one = [processes.read([Location()]) for _ in range(2)]
    other = in_thread(lambda: processes.read([Location()]))
    assert len(puppets) == 2
    assert one == [[Reading(reason=str(id(puppets[0])))]] * 2
    assert other == [Reading(reason=str(id(puppets[1])))]
    processes.close()
    assert [puppet.alive for puppet in puppets] == [False, False]


def test_reading_processes__one_that_is_gone_is_told_once_and_not_replaced(puppets, reader, caplog) -> None:
    processes = ReadingProcesses(reader, size=SIZE, known=NOBODY)
    assert processes.read([Location()]) is not None
    puppets[0].alive = False
    assert [processes.read([Location()]) for _ in range(3)] == [None] * 3
    assert caplog.text.count("a process that reads pictures is gone; its thread reads them now") == 1
    assert in_thread(lambda: processes.read([Location()])) is not None
    assert len(puppets) == 2


def test_reading_processes__closed_ones_are_not_missed(puppets, reader, caplog) -> None:
    processes = ReadingProcesses(reader, size=SIZE, known=NOBODY)
    processes.read([Location()])
    processes.close()
    assert processes.read([Location()]) is None
    assert caplog.text == ""


def test_reading_processes__one_that_starts_while_they_are_closed_is_ended(
    puppets, reader, monkeypatch
) -> None:
    processes = ReadingProcesses(reader, size=SIZE, known=NOBODY)
    make = module.ReadingProcess

    def slow(*given: object, **options: object) -> Puppet:
        processes.close()
        return make(*given, **options)

    monkeypatch.setattr(module, "ReadingProcess", slow)
    assert processes.read([Location()]) is None
    assert [puppet.alive for puppet in puppets] == [False]


def test_is_known__by_the_first_eight_bytes() -> None:
    hashes = [hashlib.sha256(bytes([number])).hexdigest() for number in range(50)]
    prefixes = np.sort(np.array([prefix(one) for one in hashes[::2]], dtype=np.uint64))
    assert [is_known(one, prefixes) for one in hashes] == [True, False] * 25
    assert not is_known(hashes[0], NOBODY)
    assert is_known("f" * 64, np.array([2**64 - 1], dtype=np.uint64))


def test_read_pictures__files_that_hold_several(tmp_path) -> None:
    eight = [RED, GREEN, BLUE, GREY, GREEN, RED, GREY, BLUE]
    (tmp_path / "film.mp4").write_bytes(video(eight))
    (tmp_path / "paper.pdf").write_bytes(pdf([(RED, "x"), (BLUE, "y")]))
    with MediaReader(limits=MediaLimits(), local_roots=(tmp_path,)) as reader:
        for name, colors in (("film.mp4", eight), ("paper.pdf", [RED, BLUE])):
            location = Location(path=tmp_path / name)
            whole = read_pictures(reader, location, size=32, wanted=lambda _: True).contents
            assert [near(Image.fromarray(one.value)) for one in whole] == colors
            assert {one.value.shape for one in whole} == {(32, 32, 3)}
            assert len({one.hash for one in whole}) == len(colors)
            # Only what has no row yet is decoded, under the same hashes.
            again = read_pictures(reader, location, size=32, wanted=whole[-1].hash.__eq__).contents
            assert [one.hash for one in again] == [one.hash for one in whole]
            assert [one.value is None for one in again] == [True] * (len(colors) - 1) + [False]
            np.testing.assert_array_equal(again[-1].value, whole[-1].value)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("cut.mp4", video([RED])[:200], "the video is damaged"),
        ("cut.pdf", pdf([(RED, "x")])[:200], "the PDF is damaged"),
        ("locked.pdf", pdf([(RED, "x")], password="secret"), "the PDF is encrypted"),
    ],
)
def test_read_pictures__video_or_pdf_that_cannot_be_used_is_named(tmp_path, name, content, said) -> None:
    (tmp_path / name).write_bytes(content)
    with MediaReader(limits=MediaLimits(), local_roots=(tmp_path,)) as reader:
        (found,) = read_pictures(
            reader, Location(path=tmp_path / name), size=32, wanted=lambda _: True
        ).contents
    assert found.value is None
    assert said in found.reason


def test_read_pictures__frames_that_take_too_long_all_say_so(tmp_path, monkeypatch) -> None:
    (tmp_path / "film.mp4").write_bytes(video([RED, BLUE]))

    def late(*_: object) -> None:
        raise MediaError("decoding the video takes too long")

    monkeypatch.setattr("usl_backend.media.video.Video.pictures", late)
    with MediaReader(limits=MediaLimits(), local_roots=(tmp_path,)) as reader:
        found = read_pictures(
            reader, Location(path=tmp_path / "film.mp4"), size=32, wanted=lambda _: True
        ).contents
    assert {one.reason for one in found} == {"decoding the video takes too long"}
    assert len(found) == 8
