"""Asks now and then whether Label Studio answers."""

from __future__ import annotations

import threading
import time
from typing import Final

from usl_backend.studio import reach

_FRESH: Final = 10.0
"""Seconds for which an answer counts: anybody may ask us, and must not make us ask Label Studio each time."""


class StudioWatch:
    """Whether Label Studio answers, asked by one thread at a time and not more often than every ten seconds.

    Parameters
    ----------
    url
        Its address.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._asking = threading.Lock()
        self._answers = False
        self._asked = -_FRESH

    def answers(self) -> bool:
        """Whether it answered when it was last asked; while another thread asks, what was known before."""
        if time.monotonic() > self._asked + _FRESH and self._asking.acquire(blocking=False):
            try:
                self._answers = reach.is_reachable(self._url)
                self._asked = time.monotonic()
            finally:
                self._asking.release()
        return self._answers
