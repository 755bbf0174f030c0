import json
import logging
import sys
from datetime import datetime

import pytest

from usl_backend.jobs.logs import JsonFormatter, TextFormatter, formatter
from usl_backend.settings import HostSettings


def record(message, *args, failed=False):
    trace = None
    if failed:
        try:
            raise ValueError("abcdef")
        except ValueError:
            trace = sys.exc_info()
    return logging.LogRecord("usl_backend.jobs", logging.ERROR, "f", 1, message, args, trace)


@pytest.mark.parametrize("made", [TextFormatter(["abcdef"]), JsonFormatter(["abcdef"])])
def test_format__no_secret_in_message_or_trace(made):
    line = made.format(record("with %s and ?token=x1y2", "abcdef", failed=True))
    assert "abcdef" not in line
    assert "x1y2" not in line
    assert "ValueError: ***" in line


def test_json__one_object_per_record():
    line = JsonFormatter([], run="12-7").format(record("two\nlines, %d", 5, failed=True))
    assert "\n" not in line
    told = json.loads(line)
    assert set(told) == {"time", "level", "logger", "message", "process", "run", "trace"}
    assert datetime.fromisoformat(told["time"]).tzinfo is not None
    assert (told["level"], told["logger"], told["run"]) == ("ERROR", "usl_backend.jobs", "12-7")
    assert told["message"] == "two\nlines, 5"
    assert told["trace"].startswith("Traceback")


@pytest.mark.parametrize(
    ("message", "args", "run"),
    [
        ("run %s: attempt %d", ("12-7", 1), "12-7"),
        ("listening on %s", ("http://127.0.0.1:1",), None),
        ("run 5 miles", (), None),
    ],
)
def test_json__lines_of_the_server_name_the_run_they_are_about(message, args, run):
    assert json.loads(JsonFormatter([]).format(record(message, *args))).get("run") == run


def test_formatter__as_the_host_asks():
    assert isinstance(formatter(HostSettings()), TextFormatter)
    assert isinstance(formatter(HostSettings(log_format="json")), JsonFormatter)
