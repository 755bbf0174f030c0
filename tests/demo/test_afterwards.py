"""What the demo says after the picks; test_demo.py runs it on a real Label Studio."""

from dataclasses import replace

from usl_backend.demo.afterwards import Afterwards

FOUND = Afterwards(
    controls=100,
    picks=4,
    written=1064,
    estimate="78 % (69 to 85 %) of the suggestions are right",
    right=0.765,
    promise="194 accepted at 80 %",
    accepted_right=0.9897,
)


def test_lines__four_with_the_truth_beside_estimate_and_promise() -> None:
    assert list(FOUND.lines()) == [
        "100 control tasks drawn and labeled, 4 of them picks",
        "1,064 suggestions written, which annotators see filled in",
        "78 % (69 to 85 %) of the suggestions are right; in truth 76.5 %",
        "Promise: 194 accepted at 80 %; in truth 99.0 % of them are right",
    ]


def test_lines__no_truth_about_what_was_not_accepted() -> None:
    none = replace(FOUND, promise="none can be accepted at 80 %", accepted_right=None)
    assert list(none.lines())[3] == "Promise: none can be accepted at 80 %"
