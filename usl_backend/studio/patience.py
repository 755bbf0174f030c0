"""Repeat work of several requests until a failure of Label Studio has passed; `transport.py` repeats requests."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, TypeVar

from usl_backend.errors import StudioTroubleError, StudioUnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable

    from usl_backend.studio.client import StudioClient

logger = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE_SECONDS = 2.0
"""First pause. A request whose answer was lost may still be running behind a proxy: wait before checking its effect."""


def waited_out(client: StudioClient, work: Callable[[], T]) -> T:
    """Do `work` again after temporary failures, as often as the client sends a request, for about a minute in a run.

    Parameters
    ----------
    work
        Looks at what Label Studio holds before it writes, so that repeating it is harmless.

    Raises
    ------
    StudioError
        The failure lasts, or is not temporary.
    """
    begun = time.monotonic()
    patience = PAUSE_SECONDS * sum(range(client.http.attempts))
    attempt = 0
    while True:
        try:
            return work()
        except (StudioTroubleError, StudioUnreachableError) as error:
            attempt += 1
            # A request that Label Studio never took was waited for already.
            if attempt >= client.http.attempts or time.monotonic() - begun > patience:
                raise
            logger.info("trying again in %.0f s after: %s", PAUSE_SECONDS * attempt, error)
            time.sleep(PAUSE_SECONDS * attempt)
