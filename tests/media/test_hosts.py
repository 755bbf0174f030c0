import threading
import time
from collections.abc import Callable
from email.utils import formatdate

import pytest

from usl_backend.errors import MediaError
from usl_backend.media import UnavailableError, hosts
from usl_backend.media.hosts import Host, Hosts, retry_after, waiting_for


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def host(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host, without jitter."""
    monkeypatch.setattr(hosts.random, "uniform", lambda _, high: high)
    return Host("images.test", clock=clock, sleep=clock.sleep)


def answering(*answers: Exception | str) -> Callable[[], str]:
    """A request that ends in one of these after the other."""
    left = list(answers)

    def get() -> str:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return get


def away() -> UnavailableError:
    return UnavailableError("images.test answered 503", host="images.test")


def busy(rest: float | None = None) -> UnavailableError:
    return UnavailableError("images.test answered 429", host="images.test", busy=True, retry_after=rest)


def test_fetch__asks_again_with_growing_pauses(host: Host, clock: Clock) -> None:
    get = answering(away(), away(), away(), away(), "bytes")
    assert host.fetch(get, patience=20) == "bytes"
    assert clock.slept == [0.5, 1.0, 2.0, 4.0]


def test_fetch__gives_up_after_five_requests_or_its_patience(host: Host, clock: Clock) -> None:
    get = answering(*(away() for _ in range(5)), "never asked for")
    with pytest.raises(UnavailableError, match="503"):
        host.fetch(get, patience=20)
    other = Host("other.test", clock=clock, sleep=clock.sleep)
    clock.slept.clear()
    with pytest.raises(UnavailableError, match="503"):
        other.fetch(answering(*(away() for _ in range(4)), "never asked for"), patience=4.0)
    assert clock.slept == [0.5, 1.0, 2.0]


def test_fetch__what_is_permanent_is_not_asked_again(host: Host, clock: Clock) -> None:
    with pytest.raises(MediaError, match="404"):
        host.fetch(answering(MediaError("answered 404"), "never asked for"), patience=20)
    assert clock.slept == []


def test_fetch__without_patience_asks_once_and_at_once(host: Host, clock: Clock) -> None:
    with pytest.raises(UnavailableError):
        host.fetch(answering(busy(50), "never asked for"), patience=0)
    assert host.fetch(answering("bytes"), patience=0) == "bytes"
    assert clock.slept == []


def test_fetch__waits_as_long_as_the_host_asks_whoever_was_told(host: Host, clock: Clock) -> None:
    assert host.fetch(answering(busy(7), "one"), patience=20) == "one"
    assert clock.slept[-1] == 7.0
    with pytest.raises(UnavailableError):
        host.fetch(answering(busy(9)), patience=0)
    begun = clock.now
    assert host.rest() == 9.0
    assert host.fetch(answering("two"), patience=20) == "two"
    assert clock.now == begun + 9


def test_fetch__no_longer_than_a_minute_though_the_host_says_a_day(host: Host, clock: Clock) -> None:
    with pytest.raises(UnavailableError):
        host.fetch(answering(busy(86_400)), patience=0)
    assert host.rest() == 60.0
    with pytest.raises(UnavailableError, match="429"):
        host.fetch(answering("never asked for"), patience=20)
    assert clock.slept == []
    assert host.fetch(answering("bytes"), patience=60) == "bytes"


def test_fetch__a_busy_host_that_names_no_time_rests_longer_each_time(host: Host, clock: Clock) -> None:
    get = answering(*(busy() for _ in range(4)), "bytes")
    assert host.fetch(get, patience=20) == "bytes"
    pauses = [pause for pause in clock.slept if pause]
    assert len(pauses) == 4
    assert all(pause >= least for pause, least in zip(pauses, [0.5, 1.0, 2.0, 4.0], strict=True))


def deliver(host: Host, clock: Clock, seconds: float) -> int:
    """Fetch one file after the other for some seconds; each takes 1 ms. Says how many came."""

    def get() -> str:
        clock.now += 0.001
        return "bytes"

    count, until = 0, clock.now + seconds
    while clock.now < until:
        host.fetch(get, patience=20)
        count += 1
    return count


def test_pace__is_what_was_delivered_in_the_last_second_and_grows(host: Host, clock: Clock) -> None:
    for _ in range(40):
        host.fetch(answering("bytes"), patience=20)
        clock.now += 0.025
    with pytest.raises(UnavailableError):
        host.fetch(answering(busy(1)), patience=0)
    clock.now += 1
    # 70 % of 40 a second, and a twentieth more each second.
    assert 27 <= deliver(host, clock, 1.0) <= 31
    deliver(host, clock, 8.0)
    assert 38 <= deliver(host, clock, 1.0) <= 50
    deliver(host, clock, 90.0)
    assert deliver(host, clock, 1.0) > 800


def test_pace__answers_that_were_under_way_together_count_once(host: Host, clock: Clock) -> None:
    def get() -> str:
        asked = clock.now
        clock.now += 0.01
        for _ in range(3):
            host._failed(busy(1), asked=asked)
        raise busy(1)

    for _ in range(40):
        host.fetch(answering("bytes"), patience=20)
    with pytest.raises(UnavailableError):
        host.fetch(get, patience=0)
    assert 1 / host._interval == pytest.approx(0.7 * 40)


def test_away__one_request_in_a_while_and_all_others_fail_at_once(host: Host, clock: Clock) -> None:
    with pytest.raises(UnavailableError):
        host.fetch(answering(*(away() for _ in range(5))), patience=20)
    asked = 0

    def get() -> str:
        nonlocal asked
        asked += 1
        raise away()

    clock.slept.clear()
    for _ in range(600):
        with pytest.raises(UnavailableError, match=r"images\.test answered 503"):
            host.fetch(get, patience=20)
        clock.now += 0.1
    # A second after it was given up, then after 2, 4, 8 and 10 more.
    assert 7 <= asked <= 9
    assert clock.slept == []
    clock.now += 10
    assert host.fetch(answering("bytes"), patience=20) == "bytes"
    assert host.fetch(answering(away(), "bytes"), patience=20) == "bytes"


def test_away__not_while_it_answers_others(host: Host, clock: Clock) -> None:
    def get() -> str:
        host.fetch(answering("another file"), patience=20)
        raise away()

    with pytest.raises(UnavailableError):
        host.fetch(get, patience=20)
    assert host.fetch(answering("bytes"), patience=20) == "bytes"


def test_hosts__tells_for_whom_requests_wait() -> None:
    known = Hosts()
    assert known.waiting() == ""
    assert known["quiet.test"].fetch(answering("bytes"), patience=20) == "bytes"
    with pytest.raises(UnavailableError):
        known["images.test"].fetch(answering(busy(9)), patience=0)
    assert known.waiting() == "waiting for images.test: answered 429, next try in 9 s"
    assert known.rest("images.test") == pytest.approx(9, abs=0.5)
    assert known.rest("quiet.test") == known.rest("never-asked.test") == 0.0


def test_hosts__closed_while_a_request_waits() -> None:
    known = Hosts()
    begun = time.monotonic()
    threading.Timer(0.05, known.close).start()
    with pytest.raises(UnavailableError, match="closed"):
        known["images.test"].fetch(answering(busy(19), "never asked for"), patience=20)
    assert time.monotonic() - begun < 10


@pytest.mark.parametrize(
    ("host", "reason", "seconds", "told"),
    [
        ("a.test", "a.test answered 429 Too Many Requests", 7.6,
         "waiting for a.test: answered 429 Too Many Requests, next try in 8 s"),
        ("a.test:81", "a.test did not deliver in time", 0.1,
         "waiting for a.test:81: did not deliver in time, next try in 1 s"),
        ("", "answered 502", 3, "waiting for the media: answered 502, next try in 3 s"),
    ],
)  # fmt: skip
def test_waiting_for(host: str, reason: str, seconds: float, told: str) -> None:
    assert waiting_for(host, reason, seconds) == told


def test_retry_after__seconds_dates_and_nonsense() -> None:
    assert retry_after("120") == 120.0
    assert retry_after(formatdate(time.time() + 30, usegmt=True)) == pytest.approx(30, abs=1.5)
    assert retry_after(formatdate(time.time() - 30, usegmt=True)) == 0.0
    for nonsense in (None, "", "soon", "-5", "9" * 5_000, "Fri, 99 Foo 2026 99:99:99 GMT"):
        assert retry_after(nonsense) is None
