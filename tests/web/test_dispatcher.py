import threading
from dataclasses import dataclass, field

from usl_backend.web.dispatcher import UrgentFirst


@dataclass
class Request:
    path: str


@dataclass
class Channel:
    """As waitress queues it: notes when it is served."""

    path: str
    served: list[str]
    hold: threading.Event | None = None
    requests: list[Request] = field(init=False)

    def __post_init__(self) -> None:
        self.requests = [Request(self.path)]

    def service(self) -> None:
        self.served.append(self.path)
        if self.hold is not None:
            self.hold.wait(60)

    def cancel(self) -> None:
        raise AssertionError("it was never served")


def test_urgent_first__health_overtakes_what_waits(wait_until):
    served: list[str] = []
    hold = threading.Event()
    dispatcher = UrgentFirst()
    dispatcher.set_thread_count(1)
    dispatcher.add_task(Channel("/usl/api/runs/12-7/export", served, hold))
    wait_until(lambda: served)
    for path in ("/webhook", "/setup", "/health", "/predict"):
        dispatcher.add_task(Channel(path, served))
    hold.set()
    wait_until(lambda: len(served) == 5)
    dispatcher.shutdown(timeout=60)
    assert served[1:] == ["/health", "/webhook", "/setup", "/predict"]
