"""Switches off the webhooks that Label Studio makes when a backend is connected. Start Training arrives without them.

Otherwise each annotation of each project is told to us while its annotator waits. A thread does it some seconds
after a /setup, because Label Studio makes the webhook after its first /setup and must be answered before.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit, urlunsplit

from usl_backend.errors import USLError

if TYPE_CHECKING:
    from usl_backend.settings import HostSettings

logger = logging.getLogger(__name__)

_SETTLE: Final = 2.0
"""Seconds from a /setup until the webhook that belongs to it is there."""
_REST: Final = 15.0
"""Seconds between two looks at the same project; every page of Label Studio sends a /setup."""

Silence = Callable[[int, str], int]
"""Switch off the webhooks of (project id, backend's address); how many were on."""


class Silencer:
    """Remembers which projects to look at, and looks in a thread of its own.

    Parameters
    ----------
    host
        How to reach Label Studio.
    silence
        Default: through the API.
    settle, rest
        Seconds, as above.
    """

    def __init__(
        self,
        host: HostSettings,
        *,
        silence: Silence | None = None,
        settle: float = _SETTLE,
        rest: float = _REST,
    ) -> None:
        self._host = host
        self._silence = silence or self._through_the_api
        self._settle, self._rest = settle, rest
        self._due: dict[tuple[int, str], float] = {}
        self._looked: dict[tuple[int, str], float] = {}
        self._changed = threading.Condition()
        self._over = False
        self._thread: threading.Thread | None = None

    def ask(self, project: int, address: str) -> None:
        """Have a project looked at soon; returns at once.

        Parameters
        ----------
        project
            Label Studio's id.
        address
            Under which Label Studio called us.
        """
        key = (project, address.rstrip("/"))
        now = time.monotonic()
        with self._changed:
            self._due.setdefault(
                key, max(now + self._settle, self._looked.get(key, -self._rest) + self._rest)
            )
            self._changed.notify()

    def start(self) -> None:
        """Begin to look."""
        self._over = False
        self._thread = threading.Thread(target=self._work, name="silencer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop looking; a request under way is not waited for."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def _work(self) -> None:
        """The thread."""
        while True:
            with self._changed:
                if self._over:
                    return
                now = time.monotonic()
                ready = [key for key, due in self._due.items() if due <= now]
                if not ready:
                    first = min(self._due.values(), default=None)
                    self._changed.wait(None if first is None else first - now)
                    continue
                key = ready[0]
                del self._due[key]
                self._looked[key] = now
            self._look(*key)

    def _look(self, project: int, address: str) -> None:
        """Switch off what is on; a failure is no more than a slower click for annotators."""
        try:
            switched = sum(self._silence(project, one) for one in self._addresses(address))
        except USLError as error:
            logger.info("the webhook of project %d could not be switched off: %s", project, error)
        except Exception:
            logger.exception("the webhook of project %d could not be switched off", project)
        else:
            if switched:
                logger.info("project %d: switched off the webhook that tells us of each annotation", project)

    def _addresses(self, address: str) -> list[str]:
        """Addresses the webhook may have: a proxy may have changed the scheme, or the whole address."""
        parts = urlsplit(address)
        schemes = [urlunsplit(parts._replace(scheme=scheme)) for scheme in ("http", "https")]
        return list(dict.fromkeys([*schemes, self._host.public_url] if self._host.public_url else schemes))

    def _through_the_api(self, project: int, address: str) -> int:
        """Ask Label Studio."""
        from usl_backend.studio.backend import deactivate_webhook
        from usl_backend.studio.client import StudioClient

        with StudioClient.from_settings(self._host) as client:
            return deactivate_webhook(client, project, address)
