import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usl_backend.errors import InputError
from usl_backend.runs import Run, RunState, parse_project_key


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ("12.1699999999", (12, "12.1699999999")),
        (" 12.1699999999 ", (12, "12.1699999999")),
        ("12", (12, "")),
        (12, (12, "")),
        ("012.5", (12, "12.5")),
    ],
)
def test_parse_project_key__forms_label_studio_uses(told, expected):
    assert parse_project_key(told) == expected


@pytest.mark.parametrize(
    "told",
    [None, "", "x", "-1", 0, "0", True, 1.5, "1.", "1.x", "1.2.3", [], {}, "9" * 40, "٣", "12 .5", 2**63],
)
def test_parse_project_key__refuses_the_rest(told):
    with pytest.raises(InputError, match="project id, such as 12"):
        parse_project_key(told)


@given(st.one_of(st.text(), st.integers(), st.floats(), st.none(), st.booleans()))
def test_parse_project_key__never_anything_but_an_input_error(told):
    try:
        number, key = parse_project_key(told)
    except InputError:
        return
    assert 0 < number < 2**63
    assert key == "" or key.startswith(f"{number}.")


def test_run__to_json_is_json_with_plain_state():
    run = Run("12-7", 12, "12.5", {"budget": "10"}, RunState.QUEUED)
    told = json.loads(json.dumps(run.to_json()))
    assert told["state"] == "queued"
    assert told["settings"] == {"budget": "10"}


def test_run_state__only_queued_and_running_are_active():
    assert [state for state in RunState if state.is_active] == [RunState.QUEUED, RunState.RUNNING]
