"""Publishers that stop before each of their requests, so that a test decides who goes on."""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from live_studio import LiveProject, LiveStudio

from usl_backend.instances import QueueState
from usl_backend.studio.client import StudioClient
from usl_backend.studio.queue import Switch, publish


@dataclass
class Publisher:
    """One installation that publishes to a project, request by request; `outcome` is set once it is over."""

    studio: LiveStudio
    project: LiveProject
    installation: str
    run_id: str
    picks: Sequence[int]
    reserve: Sequence[int] = ()
    asked: list[str] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    """When each request of `asked` began."""
    outcome: Switch | BaseException | None = None
    memory: dict[str, QueueState] = field(default_factory=dict)
    """What each installation has stored of its queue in the project."""
    _gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _there: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    _thread: threading.Thread | None = None

    def publish(self, *, pausing: bool = False) -> None:
        """Publish in this thread."""
        with StudioClient(self.studio.url, self.studio.token, timeout=120, attempts=9) as client:
            request = client.http.request

            def paused(method: str, path: str, **options: Any) -> Any:
                if pausing:
                    self._there.release()
                    self._gate.acquire()
                self.asked.append(f"{method} {path}")
                self.moments.append(time.monotonic())
                return request(method, path, **options)

            client.http.request = paused  # type: ignore[method-assign]
            try:
                self.outcome = publish(
                    client,
                    self.project.now,
                    run_id=self.run_id,
                    installation=self.installation,
                    picks=self.picks,
                    reserve=self.reserve,
                    state=self.memory.get(self.installation),
                    save=lambda state: self.memory.update({self.installation: state}),
                )
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                self.outcome = error
            finally:
                self._there.release()

    def start(self) -> None:
        """Go up to the first request."""
        self._thread = threading.Thread(target=self.publish, kwargs={"pausing": True})
        self._thread.start()
        self._there.acquire()

    def step(self) -> bool:
        """Send one request and go up to the next; False if there is none left."""
        if self.outcome is not None:
            return False
        self._gate.release()
        self._there.acquire()
        return True

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.step()

    def finish(self) -> None:
        while self.step():
            pass
        assert self._thread is not None
        self._thread.join()
