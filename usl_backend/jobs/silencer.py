"""Switch off the webhooks that Label Studio creates when a backend is connected.

Start Training works without them; with them, Label Studio sends every annotation here while its annotator waits.
A thread switches them off some seconds after a /setup, because Label Studio creates the webhook only after its
first /setup has been answered.
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
"""Seconds from a /setup until its webhook exists."""
_REST: Final = 15.0
"""Seconds between two checks of the same project; every page of Label Studio sends a /setup."""

Silence = Callable[[int, str], int]
"""Switch off the webhooks of (project id, backend URL); return how many were on."""


class Silencer:
    """Background thread that switches off the webhooks of projects it is given.

    Parameters
    ----------
    host
        Address and token of Label Studio.
    silence
        Function that switches webhooks off; by default through Label Studio's API.
    settle, rest
        Seconds to wait after a /setup, and between two checks of one project.
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
        self._checked: dict[tuple[int, str], float] = {}
        self._changed = threading.Condition()
        self._over = False
        self._thread: threading.Thread | None = None

    def ask(self, project: int, address: str) -> None:
        """Schedule a check of a project; return at once.

        Parameters
        ----------
        project
            Label Studio's project id.
        address
            URL at which Label Studio called this backend.
        """
        key = (project, address.rstrip("/"))
        now = time.monotonic()
        with self._changed:
            self._due.setdefault(
                key, max(now + self._settle, self._checked.get(key, -self._rest) + self._rest)
            )
            self._changed.notify()

    def start(self) -> None:
        """Start the thread."""
        self._over = False
        self._thread = threading.Thread(target=self._work, name="silencer", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread without waiting for a request in flight."""
        with self._changed:
            self._over = True
            self._changed.notify()

    def _work(self) -> None:
        """Run the thread's loop."""
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
                self._checked = {one: at for one, at in self._checked.items() if at > now - self._rest}
                self._checked[key] = now
            self._switch_off(*key)

    def _switch_off(self, project: int, address: str) -> None:
        """Switch off the project's webhooks; a failure is only logged, since it just slows annotators' clicks."""
        try:
            switched = sum(self._silence(project, one) for one in self._addresses(address))
        except USLError as error:
            logger.info("the webhook of project %d could not be switched off: %s", project, error)
        except Exception:
            logger.exception("the webhook of project %d could not be switched off", project)
        else:
            if switched:
                logger.info("project %d: switched off the webhook that reports each annotation", project)

    def _addresses(self, address: str) -> list[str]:
        """Return the URLs the webhook may have: a proxy may have changed the scheme or the whole address."""
        parts = urlsplit(address)
        schemes = [urlunsplit(parts._replace(scheme=scheme)) for scheme in ("http", "https")]
        return list(dict.fromkeys([*schemes, self._host.public_url] if self._host.public_url else schemes))

    def _through_the_api(self, project: int, address: str) -> int:
        """Switch off the webhooks through Label Studio's API; return how many were on."""
        from usl_backend.studio.backend import deactivate_webhook
        from usl_backend.studio.client import StudioClient

        with StudioClient.from_settings(self._host) as client:
            return deactivate_webhook(client, project, address)
