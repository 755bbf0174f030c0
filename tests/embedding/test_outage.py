from collections.abc import Callable

import pytest

from usl_backend.embedding.outage import OutagePolicy
from usl_backend.embedding.outcome import Outcome
from usl_backend.embedding.reading import Content
from usl_backend.errors import CancelledError, StudioUnreachableError
from usl_backend.instances import Instance


def instance(number: int) -> Instance:
    return Instance(number, "image", f"{number}.png")


def miss(number: int) -> Outcome:
    return Outcome(instance(number), skipped=f"answered 50{number % 10}", missed=True)


def delivery(number: int) -> Outcome:
    return Outcome(instance(number), (Content(f"{number:x}"),))


class Origin:
    """Answers as told, and remembers what was asked for and how long was waited."""

    def __init__(self, answers: Callable[[int], bool] = lambda _: True) -> None:
        self.answers = answers
        self.asked: list[int] = []
        self.waited: list[float] = []
        self.policy = OutagePolicy(delivers=self.delivers, wait=self.waited.append)

    def delivers(self, one: Instance) -> bool:
        self.asked.append(one.id)
        return self.answers(one.id)


def test_accepts__misses_are_put_aside_and_everything_else_stands() -> None:
    origin = Origin()
    skip = Outcome(instance(3), skipped="no picture")
    told = [origin.policy.accepts(one) for one in (delivery(1), miss(2), skip, miss(4))]
    assert told == [True, False, True, False]
    assert (origin.asked, origin.waited) == ([], [])
    assert [one.id for one in origin.policy.ask_again()] == [2, 4]


def test_accepts__twelve_misses_in_a_row_are_an_outage(caplog) -> None:
    origin = Origin()
    for number in range(11):
        origin.policy.accepts(miss(number))
    origin.policy.accepts(delivery(11))
    for number in range(12, 23):
        origin.policy.accepts(miss(number))
    assert origin.asked == []
    assert origin.policy.accepts(miss(23)) is False
    assert origin.asked == [23]
    assert "12 files in a row could not be fetched, the last because answered 503" in caplog.text
    # The origin was back, so the row begins anew.
    for number in range(24, 35):
        origin.policy.accepts(miss(number))
    assert origin.asked == [23]
    origin.policy.accepts(miss(35))
    assert origin.asked == [23, 35]


def test_accepts__an_outage_is_waited_out_with_growing_pauses() -> None:
    answers = iter([False] * 6 + [True, True])
    origin = Origin(lambda _: next(answers))
    for number in range(12):
        assert origin.policy.accepts(miss(number)) is False
    assert origin.asked == [11] * 7
    assert len(origin.waited) == 6
    for pause, longest in zip(origin.waited, [1, 2, 4, 8, 16, 20], strict=True):
        assert longest / 2 <= pause <= longest
    assert len(origin.policy.ask_again()) == 12


def test_accepts__an_origin_that_stays_away_ends_the_run() -> None:
    origin = Origin(lambda _: False)
    for number in range(11):
        origin.policy.accepts(miss(number))
    with pytest.raises(
        StudioUnreachableError, match=r"fetched any more, the last because answered 501; resume"
    ):
        origin.policy.accepts(miss(11))
    assert len(origin.asked) == len(origin.waited) == 7
    assert 51 / 2 + 10 <= sum(origin.waited) <= 71


def test_accepts__cancelled_while_it_waits() -> None:
    def wait(_: float) -> None:
        raise CancelledError("stop")

    policy = OutagePolicy(delivers=lambda _: False, wait=wait)
    for number in range(11):
        policy.accepts(miss(number))
    with pytest.raises(CancelledError):
        policy.accepts(miss(11))


def test_ask_again__nothing_was_missed() -> None:
    origin = Origin(lambda _: False)
    origin.policy.accepts(delivery(1))
    assert list(origin.policy.ask_again()) == []
    assert origin.asked == []


def test_ask_again__waits_for_an_instance_that_could_be_had(caplog) -> None:
    caplog.set_level("INFO")
    answers = iter([False, True])
    origin = Origin(lambda _: next(answers))
    origin.policy.delivered(instance(1))
    origin.policy.delivered(instance(7))
    origin.policy.accepts(miss(2))
    assert [one.id for one in origin.policy.ask_again()] == [2]
    assert origin.asked == [7, 7]
    assert "1 files that could not be fetched are asked for again" in caplog.text


def test_ask_again__origin_that_is_down_ends_the_run() -> None:
    origin = Origin(lambda _: False)
    origin.policy.accepts(miss(2))
    with pytest.raises(StudioUnreachableError, match="answered 502"):
        origin.policy.ask_again()
    assert origin.asked == [2] * 7


def test_accepts__asked_again_a_miss_stands_while_another_can_be_had() -> None:
    up = True
    origin = Origin(lambda _: up)
    origin.policy.delivered(instance(1))
    for number in (2, 3, 4):
        origin.policy.accepts(miss(number))
    origin.policy.ask_again()
    origin.asked.clear()
    assert origin.policy.accepts(miss(2)) is True
    assert origin.policy.accepts(delivery(3)) is True
    assert origin.asked == [1]
    up = False
    with pytest.raises(StudioUnreachableError, match="answered 504"):
        origin.policy.accepts(miss(4))
    assert origin.waited == []


def test_accepts__asked_again_a_miss_ends_the_run_where_nothing_was_ever_delivered() -> None:
    origin = Origin()
    origin.policy.accepts(miss(2))
    origin.policy.ask_again()
    with pytest.raises(StudioUnreachableError, match="answered 502"):
        origin.policy.accepts(miss(2))
