import time

import pytest

from usl_backend.errors import StudioUnreachableError
from usl_backend.jobs.silencer import Silencer
from usl_backend.settings import HostSettings


class Webhooks:
    """Counts who is looked at."""

    def __init__(self):
        self.seen = []
        self.fail = None

    def __call__(self, project, address):
        self.seen.append((project, address, time.monotonic()))
        if self.fail is not None:
            raise self.fail
        return 1


@pytest.fixture
def webhooks():
    return Webhooks()


@pytest.fixture
def make(webhooks):
    made = []

    def make(host=None, **named):
        made.append(
            Silencer(host or HostSettings(), silence=webhooks, **{"settle": 0.0, "rest": 0.0, **named})
        )
        made[-1].start()
        return made[-1]

    yield make
    for silencer in made:
        silencer.stop()


def _projects(webhooks):
    return [project for project, _, _ in webhooks.seen]


def test_ask__looks_once_under_either_scheme(make, webhooks, wait_until):
    make().ask(12, "http://b:9090/")
    wait_until(lambda: len(webhooks.seen) == 2)
    assert [address for _, address, _ in webhooks.seen] == ["http://b:9090", "https://b:9090"]


def test_ask__the_public_address_too(make, webhooks, wait_until):
    make(HostSettings(public_url="https://usl.example/x")).ask(12, "http://b:9090")
    wait_until(lambda: len(webhooks.seen) == 3)
    assert webhooks.seen[2][1] == "https://usl.example/x"


def test_ask__many_are_one(make, webhooks, wait_until):
    silencer = make(settle=0.2, rest=60.0)
    for _ in range(50):
        silencer.ask(12, "http://b")
        silencer.ask(13, "http://b")
    wait_until(lambda: len(webhooks.seen) == 4)
    silencer.ask(12, "http://b")
    assert sorted(_projects(webhooks)) == [12, 12, 13, 13]


def test_ask__again_after_the_rest(make, webhooks, wait_until):
    silencer = make(rest=0.3)
    silencer.ask(12, "http://b")
    wait_until(lambda: len(webhooks.seen) == 2)
    silencer.ask(12, "http://b")
    wait_until(lambda: len(webhooks.seen) == 4)
    assert webhooks.seen[2][2] - webhooks.seen[0][2] >= 0.3


def test_ask__what_is_long_over_is_forgotten(make, webhooks, wait_until):
    silencer = make()
    for number in range(20):
        silencer.ask(12, f"http://b{number}")
    wait_until(lambda: len(webhooks.seen) == 40)
    assert len(silencer._checked) == 1


@pytest.mark.parametrize("error", [StudioUnreachableError("down"), ZeroDivisionError("by zero")])
def test_failure__is_logged_and_the_next_is_looked_at(make, webhooks, wait_until, caplog, error):
    caplog.set_level("INFO")
    webhooks.fail = error
    silencer = make()
    silencer.ask(12, "http://b")
    wait_until(lambda: len(webhooks.seen) == 1)
    webhooks.fail = None
    silencer.ask(13, "http://b")
    wait_until(lambda: len(webhooks.seen) == 3)
    assert "webhook of project 12 could not be switched off" in caplog.text
