"""Learn from each host's answers: wait for one that asks for fewer requests, and ask less of one that is away."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, TypeVar

from urllib3.exceptions import InvalidHeader
from urllib3.util.retry import Retry

from usl_backend.media.limits import UnavailableError

PATIENCE: Final = 20.0
"""Seconds for which a file is asked for again, from its first failure on."""
LONGEST_REST: Final = 60.0
"""Cap on Retry-After, in seconds."""
BUSY: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""Statuses after which the same request may succeed; those from 520 on are of proxies that find no server."""
_ATTEMPTS: Final = 5
_BACKOFF_SECONDS: Final = 0.5
_LONGEST_BACKOFF: Final = 8.0
_LONGEST_INTERVAL: Final = 5.0
_FIRST_PROBE: Final = 1.0
_LONGEST_PROBE: Final = 10.0
_CUT: Final = 0.7
"""Factor on the rate of requests when a host asks for fewer."""
_GROWTH: Final = 0.05
"""Requests per second that each delivery adds to the rate, which makes it 5 % higher each second."""
_FAST: Final = 1_000.0
"""Requests per second from which on a host is not held back any more."""
_SHOWN_SECONDS: Final = 0.5
_NEVER: Final = float("-inf")

_Result = TypeVar("_Result")


class Host:
    """Pace of the requests to one host, learned from its answers; safe to use from several threads.

    A host that asks for fewer requests (429, or any Retry-After) gets none until the time that it names, and then no
    more per second than 70 % of what it delivered in the last one; each delivery raises the rate a little. A host
    that answers nobody while one file is asked for again and again is *away*: it gets one request every few seconds,
    and all others fail at once, so that other hosts' files need not wait for it.

    Parameters
    ----------
    name
        Name of the host, with its port if that is not the scheme's, or of a bucket.
    clock
        Monotonic time in seconds.
    sleep
        Waits for some seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.name = name
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._deliveries: deque[float] = deque()
        self._interval = 0.0
        self._next = self._resume = self._retried = 0.0
        self._answered = self._slowed = _NEVER
        self._refusals = 0
        self._away = False
        self._probe_pause = _FIRST_PROBE
        self._reason = ""

    def fetch(self, get: Callable[[], _Result], *, patience: float) -> _Result:
        """Call `get` in this host's next turn, and again with growing pauses while it is unavailable.

        Parameters
        ----------
        get
            Makes one request.
        patience
            Seconds after the first failure until which it is made again; 0 makes it once, and at once.

        Raises
        ------
        UnavailableError
            The last failure; or that of another request, where the host is away or wants no request for longer.
        """
        begun = self._clock()
        until = float("inf")
        for attempt in itertools.count(1):
            if patience > 0:
                self._take_turn(patience)
            asked = self._clock()
            try:
                result = get()
            except UnavailableError as error:
                self._failed(error, asked)
                if attempt == 1:
                    until = self._clock() + patience
                pause = self._pause(error, attempt, begun=begun, until=until) if patience > 0 else None
                if pause is None:
                    raise
                self._sleep(pause)
            except BaseException:
                self._answers(delivered=False)
                raise
            else:
                self._answers(delivered=True)
                return result
        raise AssertionError("unreachable")

    def rest(self) -> float:
        """Return the seconds for which the host asked to be left alone."""
        with self._lock:
            return max(0.0, self._resume - self._clock())

    def waiting(self) -> tuple[float, str] | None:
        """Return the seconds until the next request and why it has to wait; None where nothing waits."""
        with self._lock:
            until = max(self._resume, self._retried, self._next if self._away else 0.0)
            left = until - self._clock()
            return (left, self._reason) if left > 0 else None

    def _take_turn(self, patience: float) -> None:
        """Wait for the next turn; raise where it does not come in time."""
        slot = _NEVER
        while True:
            with self._lock:
                now = self._clock()
                if self._away:
                    if now < self._next:
                        raise UnavailableError(self._reason, host=self.name)
                    # This request finds out whether it is back.
                    self._probe_pause = min(_LONGEST_PROBE, 2 * self._probe_pause)
                    self._next = now + self._probe_pause
                    return
                if self._resume - now > patience:
                    raise UnavailableError(self._reason, host=self.name)
                if slot < self._resume:
                    slot = max(now, self._next, self._resume)
                    self._next = slot + self._interval
            if slot <= now:
                return
            self._sleep(slot - now)

    def _answers(self, *, delivered: bool) -> None:
        """Take in an answer; a delivery lets the rate grow."""
        with self._lock:
            now = self._answered = self._clock()
            self._away, self._refusals, self._retried = False, 0, 0.0
            if not delivered:
                return
            self._deliveries.append(now)
            self._forget(now)
            if self._interval:
                rate = 1.0 / self._interval + _GROWTH
                self._interval = 0.0 if rate > _FAST else 1.0 / rate

    def _failed(self, error: UnavailableError, asked: float) -> None:
        """Take in the failure of a request that was sent at `asked`."""
        with self._lock:
            now = self._clock()
            self._reason = str(error)
            if error.busy:
                # The answers to requests that were under way together count once.
                if asked >= self._slowed:
                    self._refusals += 1
                    self._forget(now)
                    rate = 1.0 / self._interval if self._interval else max(1, len(self._deliveries))
                    self._interval = min(_LONGEST_INTERVAL, 1.0 / (_CUT * rate))
                    self._slowed = now
                rest = _backoff(self._refusals) if error.retry_after is None else error.retry_after
                self._resume = max(self._resume, now + min(rest, LONGEST_REST))
            if self._away:
                self._next = max(self._next, self._resume)

    def _pause(self, error: UnavailableError, attempt: int, *, begun: float, until: float) -> float | None:
        """Return the seconds until a request is repeated; None where it is given up, the host perhaps with it."""
        with self._lock:
            if self._away:
                return None
            now = self._clock()
            pause = 0.0 if error.busy else _backoff(attempt)
            last = now >= until or (not error.busy and attempt >= _ATTEMPTS)
            if not last and max(now + pause, self._resume) <= until:
                self._retried = max(self._retried, now + pause)
                return pause
            if self._answered < begun:
                self._away, self._probe_pause = True, _FIRST_PROBE
                self._next = max(now + _FIRST_PROBE, self._resume)
            return None

    def _forget(self, now: float) -> None:
        """Keep the deliveries of the last second only."""
        while self._deliveries and self._deliveries[0] < now - 1.0:
            self._deliveries.popleft()


class Hosts:
    """All hosts that one reader has asked; safe to use from several threads."""

    def __init__(self) -> None:
        self._hosts: dict[str, Host] = {}
        self._closed = threading.Event()

    def __getitem__(self, name: str) -> Host:
        # setdefault alone would make a lock for every request.
        host = self._hosts.get(name)
        return host or self._hosts.setdefault(name, Host(name, sleep=self._sleep))

    def rest(self, name: str) -> float:
        """Return the seconds for which a host asked to be left alone."""
        host = self._hosts.get(name)
        return 0.0 if host is None else host.rest()

    def waiting(self) -> str:
        """Describe the longest wait for a host, if it lasts for half a second or more."""
        found = [(wait, host.name) for host in list(self._hosts.values()) if (wait := host.waiting())]
        (left, reason), name = max(found, default=((0.0, ""), ""))
        return waiting_for(name, reason, left) if left >= _SHOWN_SECONDS else ""

    def close(self) -> None:
        """Have requests that wait for their next turn fail at once, also later ones."""
        self._closed.set()

    def _sleep(self, seconds: float) -> None:
        if self._closed.wait(seconds):
            raise UnavailableError("the reader was closed")


def waiting_for(host: str, reason: str, seconds: float) -> str:
    """Describe a wait: "waiting for images.example.org: answered 429, next try in 8 s"."""
    short = reason.removeprefix(host).removeprefix(host.rpartition(":")[0]).strip()
    return f"waiting for {host or 'the media'}: {short}, next try in {max(1, round(seconds))} s"


def retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks for, given as a number or a date; None without a usable one."""
    try:
        return max(0.0, Retry().parse_retry_after(value)) if value else None
    except (InvalidHeader, OverflowError, ValueError):
        return None


def _backoff(attempt: int) -> float:
    """Return the pause after a failed attempt, counted from 1, in seconds: growing, with jitter."""
    pause = min(_LONGEST_BACKOFF, _BACKOFF_SECONDS * 2 ** (attempt - 1))
    return float(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
