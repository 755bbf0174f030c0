"""Decide what becomes of files that a trusted origin does not deliver: wait, ask again, skip them, or give up.

The only place that knows when an origin is taken for down and how patient a run is with it.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from usl_backend.errors import StudioUnreachableError

if TYPE_CHECKING:
    from usl_backend.embedding.outcome import Outcome
    from usl_backend.instances import Instance

logger = logging.getLogger(__name__)

_OUTAGE: Final = 12
"""Misses in a row after which the origin is taken for down."""
_PROBES: Final = 7
"""Times that an origin which is down is asked whether it is back: about a minute."""
_PROBE_SECONDS: Final = 1.0
_LONGEST_PROBE_SECONDS: Final = 20.0


class OutagePolicy:
    """Patience with a trusted origin, over the outcomes of one run.

    A miss is a file that a trusted origin failed to deliver for a reason that may pass. Misses are put aside and asked
    for once more at the end, so that a short outage costs no instance. When many come in a row, the origin is asked
    until it answers; when it does not for about a minute, the run stops.

    Parameters
    ----------
    delivers
        Fetches an instance's file and says whether the origin answered.
    wait
        Waits for some seconds; raises when the run has to stop.
    """

    def __init__(self, *, delivers: Callable[[Instance], bool], wait: Callable[[float], None]) -> None:
        self._delivers, self._wait = delivers, wait
        self._missed: list[Instance] = []
        self._in_a_row = 0
        self._reason = ""
        self._asked_again = False
        self._witness: Instance | None = None
        """The latest instance that a trusted origin delivered: while it can be had, misses are no outage."""

    def delivered(self, instance: Instance) -> None:
        """Remember that a trusted origin delivered an instance; any thread may call this."""
        self._witness = instance

    def accepts(self, outcome: Outcome) -> bool:
        """Tell whether an outcome stands; otherwise the instance is put aside, to be asked for again.

        Raises
        ------
        StudioUnreachableError
            The origin is down and did not come back.
        """
        if not outcome.missed:
            self._in_a_row = 0
            return True
        if self._asked_again:
            if self._witness is None or not self._delivers(self._witness):
                raise _down(outcome.skipped)
            return True
        self._put_aside(outcome)
        return False

    def ask_again(self) -> Sequence[Instance]:
        """Return the instances that were put aside, as soon as the origin answers; from now on a miss is a skip.

        Raises
        ------
        StudioUnreachableError
            The origin is down and did not come back.
        """
        self._asked_again = True
        if self._missed:
            logger.info("%d files that could not be fetched are asked for again", len(self._missed))
            self._await_origin(self._witness or self._missed[0], self._reason)
        return self._missed

    def _put_aside(self, outcome: Outcome) -> None:
        """Keep a miss for later; wait for the origin where it is one of many in a row."""
        self._missed.append(outcome.instance)
        self._reason = outcome.skipped
        self._in_a_row += 1
        if self._in_a_row >= _OUTAGE:
            logger.warning(
                "%d files in a row could not be fetched, the last because %s", _OUTAGE, self._reason
            )
            self._await_origin(outcome.instance, self._reason)
            self._in_a_row = 0

    def _await_origin(self, instance: Instance, reason: str) -> None:
        """Return as soon as the origin answers for an instance."""
        for attempt in range(_PROBES):
            if self._delivers(instance):
                return
            pause = min(_LONGEST_PROBE_SECONDS, _PROBE_SECONDS * 2**attempt)
            self._wait(pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter, not a secret
        raise _down(reason)


def _down(reason: str) -> StudioUnreachableError:
    """The error that ends a run whose origin does not deliver any more."""
    return StudioUnreachableError(
        f"files cannot be fetched any more, the last because {reason}; resume the run when the server answers again"
    )
