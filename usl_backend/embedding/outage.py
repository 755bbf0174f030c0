"""Decide what becomes of files that a host does not deliver for now: wait, ask again, skip them, or give up.

The only place that knows when a host is taken for down and how patient a run is with it. What one request does about
a busy host, or one that is away for seconds, is decided in `media/hosts.py`.
"""

from __future__ import annotations

import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from usl_backend.errors import MediaHostError, StudioUnreachableError

if TYPE_CHECKING:
    from usl_backend.embedding.outcome import Outcome
    from usl_backend.instances import Instance

logger = logging.getLogger(__name__)

_OUTAGE: Final = 12
"""Misses in a row after which the host is taken for down."""
_PROBES: Final = 7
"""Times that a host which is down is asked whether it is back: about a minute."""
_PROBE_SECONDS: Final = 1.0
_LONGEST_PROBE_SECONDS: Final = 20.0
_PATIENCE_SECONDS: Final = 60.0
"""Time for which missed files are asked for again though none of them is delivered."""
_NAMED: Final = 3
"""Hosts that an error names."""


class Wait(Protocol):
    """Wait for a host; raises when the run has to stop."""

    def __call__(self, seconds: float, /, *, host: str, reason: str) -> None:
        """Wait for some seconds because of what the host did."""


@dataclass(frozen=True, slots=True)
class Miss:
    """A file that its host failed to deliver, for a reason that may pass.

    Attributes
    ----------
    host
        Name of the host; "" if it has none.
    reason
        What happened.
    """

    host: str
    reason: str


class OutagePolicy:
    """Patience with the hosts of a run's files, over the outcomes of one run.

    A *miss* is a file that its host failed to deliver for a reason that may pass. Misses are put aside and asked for
    again at the end, so that a short outage costs no instance. When many come in a row, the host is asked until it
    answers; when it does not for about a minute, the run stops if it is Label Studio's, and reads what other hosts
    have if it is not.

    Parameters
    ----------
    allowed
        Misses that may be left over, see `tolerated`.
    delivers
        Fetches an instance's file once and says whether the host answered.
    wait
        Waits for a host.
    rest
        Seconds for which a host asked to be left alone.
    clock
        Monotonic time in seconds.
    """

    def __init__(
        self,
        *,
        allowed: int,
        delivers: Callable[[Instance], bool],
        wait: Wait,
        rest: Callable[[str], float] = lambda _: 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed, self._delivers, self._wait, self._rest, self._clock = (
            allowed,
            delivers,
            wait,
            rest,
            clock,
        )
        self._missed: list[Outcome] = []
        self._lost: list[Outcome] = []
        self._in_a_row = 0
        self._asking_again = False
        self._idle = 0
        """Rounds of asking again, one after the other, in which nothing was delivered."""
        self._delivered = self._clock()
        self._absent: set[str] = set()
        """Hosts that did not come back while they were waited for."""
        self._witnesses: dict[str, Instance] = {}
        """The latest instance that each host delivered: while it can be had, misses are no outage."""
        self._of_studio: Instance | None = None
        """The same of Label Studio, which may send on to any host."""

    def accepts(self, outcome: Outcome) -> bool:
        """Tell whether an outcome stands; otherwise the instance is put aside, to be asked for again.

        Raises
        ------
        StudioUnreachableError
            Label Studio is down and did not come back.
        """
        if not outcome.missed:
            self._in_a_row = self._idle = 0
            self._delivered = self._clock()
            if outcome.contents:
                self._witnesses[outcome.host] = outcome.instance
                self._of_studio = outcome.instance if outcome.trusted else self._of_studio
            return True
        self._missed.append(outcome)
        if not self._asking_again and outcome.host not in self._absent:
            self._in_a_row += 1
            if self._in_a_row >= _OUTAGE:
                self._outlast(outcome)
                self._in_a_row = 0
        return False

    def ask_again(self) -> Sequence[Instance]:
        """Return the instances to ask for once more, after a pause; none when there is nothing to gain by it.

        To be called, and what it returns asked for, until it returns none.

        Raises
        ------
        StudioUnreachableError
            Label Studio is down and did not come back.
        """
        if not self._asking_again:
            self._give_up_absent()
            self._delivered = self._clock()
        if not self._missed or (self._asking_again and self._is_final()):
            return []
        if not self._asking_again:
            logger.info("%d files that could not be fetched are asked for again", len(self._missed))
            self._asking_again = True
        self._pause(self._idle, self._missed[0])
        self._idle += 1
        missed, self._missed = self._missed, []
        return [outcome.instance for outcome in missed]

    def left_over(self) -> list[Outcome]:
        """Return the outcomes of the instances that were missed to the end.

        Raises
        ------
        StudioUnreachableError
            Some are Label Studio's, and it does not answer for any other file either.
        """
        outcomes = [*self._lost, *self._missed]
        one_of_each = {outcome.host: outcome for outcome in outcomes if outcome.trusted}
        for outcome in one_of_each.values():  # asking is a download
            if not self._has_witness(outcome):
                raise _down(outcome.skipped)
        return outcomes

    def _outlast(self, outcome: Outcome) -> None:
        """Wait for the host of the last of many misses in a row, unless it delivers something else."""
        witness = self._witness(outcome) or outcome.instance
        for attempt in range(_PROBES):
            if rest := self._rest(outcome.host):
                self._wait(rest, host=outcome.host, reason=outcome.skipped)
            if self._delivers(witness):
                self._witnesses.setdefault(outcome.host, witness)
                return
            if attempt == 0:
                logger.warning(
                    "%d files in a row could not be fetched, the last because %s", _OUTAGE, outcome.skipped
                )
            self._pause(attempt, outcome)
        if outcome.trusted:
            raise _down(outcome.skipped)
        logger.warning("%s stays away; the files of other hosts are read", outcome.host)
        self._absent.add(outcome.host)

    def _give_up_absent(self) -> None:
        """Take the files of hosts that stayed away for lost, unless they are back."""
        for host in sorted(self._absent):
            its = [outcome for outcome in self._missed if outcome.host == host]
            if not self._delivers(its[0].instance):
                self._lost += its
                self._missed = [outcome for outcome in self._missed if outcome.host != host]

    def _is_final(self) -> bool:
        """Tell whether what is missed after a round stays so."""
        if self._idle == 0:
            return False
        if self._idle >= _PROBES or self._clock() - self._delivered >= _PATIENCE_SECONDS:
            return True
        if len(self._missed) + len(self._lost) > self._allowed:
            return False
        one_of_each = {outcome.host: outcome for outcome in self._missed}
        return all(map(self._has_witness, one_of_each.values()))

    def _witness(self, outcome: Outcome) -> Instance | None:
        """Return what its host, or Label Studio where it sends on to that host, delivered last."""
        return self._witnesses.get(outcome.host) or (self._of_studio if outcome.trusted else None)

    def _has_witness(self, outcome: Outcome) -> bool:
        """Tell whether its host delivers now what it delivered before."""
        witness = self._witness(outcome)
        return witness is not None and self._delivers(witness)

    def _pause(self, attempt: int, outcome: Outcome) -> None:
        """Wait longer each time, with jitter, and at least for as long as the host asks."""
        pause = min(_LONGEST_PROBE_SECONDS, _PROBE_SECONDS * 2**attempt) * random.uniform(0.5, 1.0)  # noqa: S311
        self._wait(max(pause, self._rest(outcome.host)), host=outcome.host, reason=outcome.skipped)


def tolerated(total: int, share: float) -> int:
    """Return how many of `total` files may be missed: a share of them, but one at least if the share is not 0."""
    return total if share >= 1.0 else max(int(share * total), min(1, total - 1) if share else 0)


def check_missed(missed: Iterable[Miss], *, total: int, share: float) -> None:
    """Raise if more than a share of all files was missed.

    Raises
    ------
    MediaHostError
        It names the hosts, how many files each failed to deliver, and why.
    """
    found = list(missed)
    if len(found) <= tolerated(total, share):
        return
    counts = Counter(miss.host for miss in found)
    reasons = {miss.host: miss.reason for miss in found}
    named = [
        f"{count:,} of {host or 'one host'} ({reasons[host]})" for host, count in counts.most_common(_NAMED)
    ]
    if len(counts) > _NAMED:
        named.append(f"others of {len(counts) - _NAMED:,} more hosts")
    raise MediaHostError(
        f"{len(found):,} of {total:,} files could not be fetched for reasons that may pass: {', '.join(named)}; "
        "resume the run, or repeat the command, when these hosts answer again, or go on without these files by a "
        f"higher USL_MEDIA_MISSING (now {share:g})"
    )


def _down(reason: str) -> StudioUnreachableError:
    """The error that ends a run whose Label Studio does not deliver any more."""
    return StudioUnreachableError(
        f"files cannot be fetched any more, the last because {reason}; resume the run when the server answers again"
    )
