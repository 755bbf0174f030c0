import hashlib
import io
import threading
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from PIL import Image

from usl_backend.embedding.outcome import Access, Examiner, Outcome
from usl_backend.embedding.reading import Content, Reading
from usl_backend.errors import MediaError, StudioAuthError, StudioError, StudioNotFoundError
from usl_backend.instances import Instance
from usl_backend.media import Location, MediaReader, UnauthorizedError, UnavailableError
from usl_backend.sources.media import Media

SIZE = 8
HOST = "http://images.test"
GOING = threading.Event()


def png(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (SIZE, SIZE), (shade,) * 3).save(stream, "PNG")
    return stream.getvalue()


def hash_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def hashes(outcomes: Sequence[Outcome]) -> list[str]:
    return [" ".join(each.hash for each in one.contents) for one in outcomes]


def picture(number: int) -> Instance:
    return Instance(number, "image", str(number))


class Shelf(MediaReader):
    """Picture 7 is a square of shade 7; some URLs fail as told."""

    def __init__(self) -> None:
        super().__init__()
        self.failures: dict[str, MediaError] = {}
        self.read_urls: list[str] = []

    def read(self, location: Location, *, once: bool = False) -> bytes:
        self.probed = once
        url = str(location.url).removeprefix(f"{HOST}/")
        self.read_urls.append(url)
        if url in self.failures:
            raise self.failures[url]
        return png(int(url.partition("?")[0]))


class Desk:
    """An examiner and everything around it."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.trusted = True
        self.refused: dict[int, Exception] = {}
        self.tokens: dict[int, int] = {}
        self.have: set[str] = set()
        self.access = Access(Media(self.shelf, self.locate), SIZE)
        self.examiner = Examiner(self.access, known=lambda hashes: [one in self.have for one in hashes])

    def locate(self, instance: Instance) -> Location:
        if instance.id in self.refused:
            raise self.refused[instance.id]
        token = self.tokens[instance.id] = self.tokens.get(instance.id, 0) + 1
        return Location(url=f"{HOST}/{instance.source}?{token}", trusted=self.trusted)

    def here(self, *some: Instance) -> list[Outcome]:
        return list(self.examiner.here(some, GOING))

    def in_process(self, read: Callable, *some: Instance, stopping: threading.Event = GOING) -> list[Outcome]:
        class Processes:
            @staticmethod
            def read(locations: Sequence[Location]) -> list[Reading] | None:
                return read(locations)

        return list(self.examiner.in_process(some, stopping, processes=Processes()))


@pytest.fixture
def desk() -> Desk:
    return Desk()


def square(number: int) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), number, dtype=np.uint8)


def test_here__a_text_is_its_own_content_and_encoded_once(desk: Desk) -> None:
    desk.have = {hash_of(b"old")}
    told = desk.here(*(Instance(number, "text", words) for number, words in enumerate(["new", "old", "new"])))
    assert [one.contents for one in told] == [
        (Content(hash_of(b"new"), "new"),),
        (Content(hash_of(b"old")),),
        (Content(hash_of(b"new")),),
    ]


def test_here__a_text_without_words_is_skipped(desk: Desk) -> None:
    empty = Instance(1, "text", " ")
    assert desk.here(empty) == [Outcome(empty, skipped="the text is empty")]


def test_here__a_picture_is_decoded_where_it_is_new(desk: Desk) -> None:
    desk.have = {hash_of(png(2))}
    again = Instance(9, "image", "1")
    first, known, repeated = desk.here(picture(1), picture(2), again)
    np.testing.assert_array_equal(first.contents[0].value, square(1))
    assert known == Outcome(picture(2), (Content(hash_of(png(2))),), host="images.test", trusted=True)
    assert repeated == Outcome(again, (Content(hash_of(png(1))),), host="images.test", trusted=True)


@pytest.mark.parametrize("trusted", [True, False])
def test_here__what_may_pass_is_a_miss_of_the_host_that_failed(desk: Desk, trusted: bool) -> None:
    desk.trusted = trusted
    desk.shelf.failures = {
        "1?1": UnavailableError("answered 502"),
        "2?1": UnavailableError("answered 503", host="behind.test"),
        "3?1": MediaError("too large"),
    }
    assert desk.here(picture(1), picture(2), picture(3)) == [
        Outcome(picture(1), skipped="answered 502", missed=True, host="images.test", trusted=trusted),
        Outcome(picture(2), skipped="answered 503", missed=True, host="behind.test", trusted=trusted),
        Outcome(picture(3), skipped="too large", host="images.test", trusted=trusted),
    ]


def test_here__what_label_studio_does_not_have_is_skipped_and_other_errors_are_raised(desk: Desk) -> None:
    desk.refused = {1: StudioNotFoundError("no task 1"), 2: StudioError("odd answer")}
    assert desk.here(picture(1)) == [Outcome(picture(1), skipped="it is gone from Label Studio: no task 1")]
    with pytest.raises(StudioError, match="odd answer"):
        desk.here(picture(2))


def test_here__a_refused_token_is_renewed_once(desk: Desk) -> None:
    desk.shelf.failures = {"1?1": UnauthorizedError("401"), "2?1": UnauthorizedError("401")}
    desk.shelf.failures["2?2"] = UnauthorizedError("401 again")
    assert hashes(desk.here(picture(1))) == [hash_of(png(1))]
    with pytest.raises(StudioAuthError, match=r"401 again.*renew LABEL_STUDIO_API_KEY"):
        desk.here(picture(2))
    desk.trusted = False
    desk.shelf.failures["3?1"] = UnauthorizedError("401 of a stranger")
    assert desk.here(picture(3)) == [Outcome(picture(3), skipped="401 of a stranger", host="images.test")]


@pytest.mark.parametrize(
    ("failure", "answers"),
    [(None, True), (MediaError("too large"), True), (UnavailableError("answered 502"), False)],
)
def test_delivers__origin_that_says_anything_is_there(desk: Desk, failure, answers) -> None:
    if failure is not None:
        desk.shelf.failures["1?1"] = failure
    assert desk.access.delivers(picture(1)) is answers
    assert desk.shelf.probed, "its host is asked once, whatever is known of it"
    desk.refused[2] = StudioNotFoundError("no task 2")
    assert desk.access.delivers(picture(2)) is True
    assert desk.here(picture(1))[0].contents[0].value is not None, "a probe claims nothing"


def test_in_process__what_a_process_found_is_taken_as_it_is(desk: Desk) -> None:
    desk.have = {hash_of(png(3))}
    found = [
        Reading((Content(hash_of(png(1)), square(1)),)),
        Reading((Content(hash_of(png(1)), square(1)),)),
        Reading((Content(hash_of(png(3))),)),
        Reading((Content(hash_of(b"cut"), reason="truncated"),)),
        Reading(reason="answered 502", unavailable=True),
    ]
    some = [picture(number) for number in range(1, 6)]
    told = desk.in_process(lambda _: found, *some)
    assert [[each.value is None for each in one.contents] for one in told] == [
        [False],
        [True],
        [True],
        [True],
        [],
    ]
    assert hashes(told) == [hash_of(png(1)), hash_of(png(1)), hash_of(png(3)), hash_of(b"cut"), ""]
    assert told[3].contents[0].reason == "truncated"
    assert [one.skipped for one in told] == ["", "", "", "", "answered 502"]
    assert [one.missed for one in told] == [False, False, False, False, True]
    assert desk.shelf.read_urls == []


def test_in_process__what_cannot_be_located_is_not_sent(desk: Desk) -> None:
    desk.refused = {2: StudioNotFoundError("no task 2")}
    sent: list[str] = []

    def read(locations: Sequence[Location]) -> list[Reading]:
        sent.extend(str(one.url) for one in locations)
        return [Reading((Content(hash_of(png(number)), square(number)),)) for number in (1, 4)]

    words = Instance(3, "text", "words")
    told = desk.in_process(read, picture(1), picture(2), words, picture(4))
    assert sent == [f"{HOST}/1?1", f"{HOST}/4?1"]
    assert hashes(told) == [hash_of(png(1)), "", hash_of(b"words"), hash_of(png(4))]
    assert told[1].skipped == "it is gone from Label Studio: no task 2"
    assert desk.shelf.read_urls == [], "each got the reading of its own"


def test_in_process__without_its_process_a_thread_reads(desk: Desk) -> None:
    told = desk.in_process(lambda _: None, picture(1), picture(2))
    assert hashes(told) == [hash_of(png(1)), hash_of(png(2))]
    assert desk.shelf.read_urls == ["1?2", "2?2"]


def test_in_process__reads_nothing_more_when_stopping(desk: Desk) -> None:
    stopping = threading.Event()
    stopping.set()
    assert desk.in_process(lambda _: None, picture(1), stopping=stopping) == []
    assert desk.shelf.read_urls == []


def test_in_process__content_that_only_seemed_known_is_read(desk: Desk) -> None:
    (told,) = desk.in_process(lambda _: [Reading((Content(hash_of(png(1))),))], picture(1))
    np.testing.assert_array_equal(told.contents[0].value, square(1))


def test_in_process__a_refused_token_is_renewed(desk: Desk) -> None:
    (told,) = desk.in_process(lambda _: [Reading(reason="401", unauthorized=True)], picture(1))
    np.testing.assert_array_equal(told.contents[0].value, square(1))
    assert desk.shelf.read_urls == ["1?2"]


def test_in_process__one_file_may_hold_several_pictures(desk: Desk) -> None:
    """Those that are known already are not encoded again; one that is broken has a reason of its own."""
    desk.have = {hash_of(b"frame 1")}
    frames = (
        Content(hash_of(b"frame 1")),
        Content(hash_of(b"frame 2"), square(2)),
        Content(hash_of(b"frame 3"), reason="damaged"),
    )
    (told,) = desk.in_process(lambda _: [Reading(frames)], picture(1))
    assert told == Outcome(picture(1), frames, trusted=True)
    (again,) = desk.in_process(lambda _: [Reading(frames)], picture(2))
    assert [one.value is None for one in again.contents] == [True, True, True]
