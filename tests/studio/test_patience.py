import types

import pytest

from usl_backend.errors import StudioAuthError, StudioTroubleError, StudioUnreachableError
from usl_backend.studio import patience


@pytest.fixture
def pauses(monkeypatch):
    """The pauses made, on a clock that only they move."""
    made = []
    monkeypatch.setattr(patience.time, "sleep", made.append)
    monkeypatch.setattr(patience.time, "monotonic", lambda: sum(made))
    return made


def failing(times, error):
    """Work that fails some times, then returns its number of calls."""
    calls = []

    def work():
        calls.append(None)
        if len(calls) <= times:
            raise error
        return len(calls)

    return work


def client(attempts):
    return types.SimpleNamespace(http=types.SimpleNamespace(attempts=attempts))


@pytest.mark.parametrize(
    "error", [StudioTroubleError("502", status=502), StudioUnreachableError("connection refused")]
)
def test_waited_out__about_a_minute_for_a_run(pauses, error):
    assert patience.waited_out(client(9), failing(8, error)) == 9
    assert 60 <= sum(pauses) <= 90
    pauses.clear()
    with pytest.raises(type(error)):
        patience.waited_out(client(9), failing(9, error))


def test_waited_out__seconds_for_somebody_who_waits(pauses):
    with pytest.raises(StudioTroubleError):
        patience.waited_out(client(4), failing(99, StudioTroubleError("502", status=502)))
    assert sum(pauses) <= 12


def test_waited_out__what_was_waited_for_already_is_not_waited_for_again(pauses):
    error = StudioUnreachableError("connection refused")

    def slow():
        pauses.append(80.0)
        raise error

    with pytest.raises(StudioUnreachableError):
        patience.waited_out(client(9), slow)
    assert pauses == [80.0]


def test_waited_out__a_refusal_is_none(pauses):
    with pytest.raises(StudioAuthError):
        patience.waited_out(client(9), failing(1, StudioAuthError("no")))
    assert pauses == []
