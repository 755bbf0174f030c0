from collections.abc import Callable, Sequence

import pytest

from usl_backend.embedding.outage import Miss, OutagePolicy, check_missed, tolerated
from usl_backend.embedding.outcome import Outcome
from usl_backend.embedding.reading import Content
from usl_backend.errors import CancelledError, MediaHostError, StudioUnreachableError
from usl_backend.instances import Instance

STUDIO, STRANGER = "studio.test", "images.test"


def instance(number: int) -> Instance:
    return Instance(number, "image", f"{number}.png")


def miss(number: int, host: str = STUDIO) -> Outcome:
    reason = f"answered 50{number % 10}"
    return Outcome(instance(number), skipped=reason, missed=True, host=host, trusted=host == STUDIO)


def delivery(number: int, host: str = STUDIO) -> Outcome:
    return Outcome(instance(number), (Content(f"{number:x}"),), host=host, trusted=host == STUDIO)


class Origin:
    """Answers as told, and remembers what was asked for and how long was waited, in a time of its own."""

    def __init__(
        self, answers: Callable[[int], bool] = lambda _: True, *, allowed: int = 2, rest: float = 0.0
    ) -> None:
        self.answers = answers
        self.asked: list[int] = []
        self.waited: list[float] = []
        self.told: set[tuple[str, str]] = set()
        self.now = 0.0
        self.policy = OutagePolicy(
            allowed=allowed,
            delivers=self.delivers,
            wait=self.wait,
            rest=lambda _: rest,
            clock=lambda: self.now,
        )

    def delivers(self, one: Instance) -> bool:
        self.asked.append(one.id)
        return self.answers(one.id)

    def wait(self, seconds: float, *, host: str, reason: str) -> None:
        self.waited.append(seconds)
        self.told.add((host, reason))
        self.now += seconds

    def accept(self, *outcomes: Outcome) -> list[bool]:
        return [self.policy.accepts(one) for one in outcomes]

    def rounds(self, outcome: Callable[[int, int], Outcome]) -> list[list[int]]:
        """Ask again until the policy has enough: `outcome` tells what becomes of an id in a round."""
        asked: list[list[int]] = []
        while some := self.policy.ask_again():
            asked.append(numbers(some))
            self.accept(*(outcome(one.id, len(asked)) for one in some))
        return asked

    def left(self) -> list[int]:
        return numbers(one.instance for one in self.policy.left_over())


def numbers(instances: Sequence[Instance]) -> list[int]:
    return [one.id for one in instances]


def test_accepts__misses_are_put_aside_and_everything_else_stands() -> None:
    origin = Origin()
    skip = Outcome(instance(3), skipped="no picture")
    assert origin.accept(delivery(1), miss(2), skip, miss(4, STRANGER)) == [True, False, True, False]
    assert (origin.asked, origin.waited) == ([], [])
    assert numbers(origin.policy.ask_again()) == [2, 4]


@pytest.mark.parametrize("host", [STUDIO, STRANGER])
def test_accepts__twelve_misses_in_a_row_are_an_outage(host: str, caplog) -> None:
    origin = Origin()
    origin.accept(*(miss(number, host) for number in range(11)))
    origin.accept(delivery(11, host))
    origin.accept(*(miss(number, host) for number in range(12, 23)))
    assert origin.asked == []
    assert origin.accept(miss(23, host)) == [False]
    assert origin.asked == [11], "what could be had before"
    assert caplog.text == ""
    # The host was back, so the row begins anew.
    origin.accept(*(miss(number, host) for number in range(24, 35)))
    assert origin.asked == [11]
    origin.accept(miss(35, host))
    assert origin.asked == [11, 11]


def test_accepts__an_outage_is_waited_out_with_growing_pauses(caplog) -> None:
    answers = iter([False] * 6 + [True, True])
    origin = Origin(lambda _: next(answers))
    assert origin.accept(*map(miss, range(12))) == [False] * 12
    assert origin.asked == [11] * 7
    assert len(origin.waited) == 6
    for pause, longest in zip(origin.waited, [1, 2, 4, 8, 16, 20], strict=True):
        assert longest / 2 <= pause <= longest
    assert origin.told == {(STUDIO, "answered 501")}
    assert "12 files in a row could not be fetched, the last because answered 501" in caplog.text
    assert len(origin.policy.ask_again()) == 12


def test_accepts__a_host_that_asks_for_time_gets_it() -> None:
    answers = iter([False, True])
    origin = Origin(lambda _: next(answers), rest=45.0)
    origin.accept(*map(miss, range(12)))
    assert origin.asked == [11, 11]
    assert origin.waited == [45.0] * 3


def test_accepts__label_studio_that_stays_away_ends_the_run() -> None:
    origin = Origin(lambda _: False)
    origin.accept(*map(miss, range(11)))
    with pytest.raises(
        StudioUnreachableError, match=r"fetched any more, the last because answered 501; resume"
    ):
        origin.policy.accepts(miss(11))
    assert len(origin.asked) == len(origin.waited) == 7
    assert 51 / 2 + 10 <= sum(origin.waited) <= 71


def test_accepts__a_stranger_that_stays_away_is_waited_for_once_and_others_are_read(caplog) -> None:
    origin = Origin(lambda _: False)
    assert origin.accept(*(miss(number, STRANGER) for number in range(12))) == [False] * 12
    assert len(origin.asked) == 7
    assert "images.test stays away; the files of other hosts are read" in caplog.text
    assert not any(origin.accept(*(miss(number, STRANGER) for number in range(12, 90))))
    assert all(origin.accept(*(delivery(number, "other.test") for number in range(100, 120))))
    assert len(origin.asked) == 7
    # At the end it is asked once whether it is back.
    assert origin.rounds(miss) == []
    assert len(origin.asked) == 8
    assert origin.left() == list(range(90))


def test_accepts__a_stranger_that_comes_back_at_the_end_costs_no_file() -> None:
    answers = iter([False] * 7 + [True])
    origin = Origin(lambda _: next(answers))
    origin.accept(*(miss(number, STRANGER) for number in range(30)))
    assert origin.rounds(lambda number, _: delivery(number, STRANGER)) == [list(range(30))]
    assert origin.left() == []


def test_accepts__cancelled_while_it_waits() -> None:
    def wait(_: float, **__: str) -> None:
        raise CancelledError("stop")

    policy = OutagePolicy(allowed=0, delivers=lambda _: False, wait=wait)
    for number in range(11):
        policy.accepts(miss(number))
    with pytest.raises(CancelledError):
        policy.accepts(miss(11))


def test_ask_again__nothing_was_missed() -> None:
    origin = Origin(lambda _: False)
    origin.accept(delivery(1))
    assert (origin.rounds(miss), origin.left()) == ([], [])
    assert (origin.asked, origin.waited) == ([], [])


def test_ask_again__goes_on_for_as_long_as_something_comes(caplog) -> None:
    caplog.set_level("INFO")
    origin = Origin(allowed=0)
    origin.accept(*(miss(number, STRANGER) for number in range(10)))

    def one_more(number: int, nth: int) -> Outcome:
        return delivery(number, STRANGER) if number < nth else miss(number, STRANGER)

    asked = origin.rounds(one_more)
    assert asked == [list(range(first, 10)) for first in range(10)]
    assert max(origin.waited) <= 1.0, "whoever delivers is not waited for any longer"
    assert origin.left() == []
    assert "10 files that could not be fetched are asked for again" in caplog.text


def test_ask_again__few_are_asked_for_again_while_others_still_come() -> None:
    """A host that is merely busy delivers some in each round: what is left is no file's own fault yet."""
    origin = Origin(allowed=2)
    origin.accept(delivery(1, STRANGER), *(miss(10 + number, STRANGER) for number in range(4)))

    def two_at_a_time(number: int, nth: int) -> Outcome:
        return delivery(number, STRANGER) if number < 10 + 2 * nth else miss(number, STRANGER)

    assert origin.rounds(two_at_a_time) == [[10, 11, 12, 13], [12, 13]]
    assert origin.left() == []


def test_ask_again__few_that_stay_away_are_left_over_at_once_while_their_host_delivers() -> None:
    origin = Origin(allowed=2)
    origin.accept(delivery(1, STRANGER), delivery(7, STRANGER), miss(2, STRANGER), miss(3, STRANGER))
    assert origin.rounds(lambda number, _: miss(number, STRANGER)) == [[2, 3]]
    assert origin.asked == [7]
    assert origin.left() == [2, 3]


@pytest.mark.parametrize("missed", [2, 3])
def test_ask_again__more_or_those_of_a_host_that_is_away_are_asked_for_a_minute(missed: int) -> None:
    origin = Origin(lambda _: missed == 3, allowed=2)
    origin.accept(delivery(1, STRANGER), *(miss(10 + number, STRANGER) for number in range(missed)))
    asked = origin.rounds(lambda number, _: miss(number, STRANGER))
    assert 5 <= len(asked) <= 7
    assert 25 <= sum(origin.waited) <= 80
    assert len(origin.left()) == missed


def test_ask_again__no_new_round_after_a_minute_however_long_one_takes() -> None:
    origin = Origin(lambda _: False, allowed=2)
    origin.accept(*(miss(number, STRANGER) for number in range(5)))

    def slow(number: int, _: int) -> Outcome:
        origin.now += 20.0
        return miss(number, STRANGER)

    assert len(origin.rounds(slow)) == 1


def test_left_over__a_file_of_label_studio_stands_while_another_can_be_had() -> None:
    up = True
    origin = Origin(lambda _: up)
    origin.accept(delivery(1), miss(2))
    assert origin.rounds(lambda number, _: miss(number)) == [[2]]
    assert origin.left() == [2]
    up = False
    with pytest.raises(StudioUnreachableError, match="answered 502"):
        origin.left()


def test_left_over__a_host_is_asked_once_however_many_were_missed() -> None:
    origin = Origin(allowed=40)
    origin.accept(delivery(0), *map(miss, range(1, 9)))
    origin.rounds(lambda number, _: miss(number))
    before = len(origin.asked)
    assert origin.left() == list(range(1, 9))
    assert len(origin.asked) == before + 1


def test_left_over__of_a_storage_that_label_studio_sends_on_to() -> None:
    """The bucket's host is named, but what was delivered was asked of Label Studio."""
    origin = Origin()
    missed = Outcome(instance(2), skipped="answered 503", missed=True, host="bucket.test", trusted=True)
    origin.accept(delivery(1), missed)
    assert origin.rounds(lambda *_: missed) == [[2]]
    assert origin.left() == [2]


def test_left_over__label_studio_that_is_down_at_the_very_end_stops_the_run() -> None:
    origin = Origin(lambda _: False)
    origin.accept(delivery(1), miss(2))
    assert len(origin.rounds(lambda number, _: miss(number))) >= 5
    with pytest.raises(StudioUnreachableError, match="answered 502"):
        origin.left()


def test_left_over__what_answered_when_it_was_waited_for_is_a_witness() -> None:
    """Nothing was ever delivered, but Label Studio came back: a permanent failure then is that file's own."""
    origin = Origin(allowed=12)
    origin.accept(*map(miss, range(12)))
    assert origin.asked == [11]
    answered = Outcome(instance(11), skipped="answered 404", host=STUDIO, trusted=True)
    asked = origin.rounds(lambda number, _: answered if number == 11 else miss(number))
    assert asked[0] == list(range(12))
    assert origin.left() == list(range(11))


@pytest.mark.parametrize(
    ("total", "share", "allowed"),
    [(300, 0.02, 6), (299, 0.02, 5), (1_000_000, 0.02, 20_000), (20, 0.02, 1), (2, 0.02, 1), (1, 0.02, 0),
     (300, 0.0, 0), (300, 1.0, 300), (1, 1.0, 1), (0, 0.02, 0)],
)  # fmt: skip
def test_tolerated__a_share_but_one_file_at_least(total: int, share: float, allowed: int) -> None:
    assert tolerated(total, share) == allowed


def test_check_missed__names_hosts_counts_and_reasons() -> None:
    few = [Miss("a.test", "a.test answered 503")] * 6
    check_missed(few, total=300, share=0.02)
    more = [*few, *[Miss("b.test:81", "no answer")] * 7, *[Miss(f"{n}.test", "gone") for n in range(5)]]
    with pytest.raises(MediaHostError) as caught:
        check_missed(more, total=300, share=0.02)
    assert str(caught.value).startswith(
        "18 of 300 files could not be fetched for reasons that may pass: 7 of b.test:81 (no answer), 6 of a.test "
        "(a.test answered 503), 1 of 0.test (gone), others of 4 more hosts; resume the run"
    )
    assert "USL_MEDIA_MISSING (now 0.02)" in str(caught.value)
