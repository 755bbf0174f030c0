"""Reachability of Label Studio, cached."""

from __future__ import annotations

import threading
import time
from typing import Final

_FRESH: Final = 10.0
"""Seconds for which a result is kept: the probe is public, and must not cause a request to Label Studio each time."""


class StudioWatch:
    """Reachability of Label Studio, checked by one thread at a time and at most every ten seconds.

    Parameters
    ----------
    url
        Address of Label Studio.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._asking = threading.Lock()
        self._answers = False
        self._asked = -_FRESH

    def answers(self) -> bool:
        """Return True if Label Studio responded at the last check; check again if that is over ten seconds ago."""
        from usl_backend.studio import reach

        if time.monotonic() > self._asked + _FRESH and self._asking.acquire(blocking=False):
            try:
                self._answers = reach.is_reachable(self._url)
                self._asked = time.monotonic()
            finally:
                self._asking.release()
        return self._answers
