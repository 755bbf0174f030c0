import xml.etree.ElementTree as ET

import pytest

from usl_backend.report.text_pictures import draw_text, wrapped


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", [""]),
        ("one two three four five six seven", ["one two three four five", "six seven"]),
        ("x" * 30, ["x" * 26, "x" * 4]),
        ("中" * 14, ["中" * 13, "中"]),
        ("e\u0301" * 26, ["e\u0301" * 26]),
    ],
)
def test_wrapped__lines_that_fit(text: str, lines: list[str]) -> None:
    assert [line.strip() for line in wrapped(text)] == lines


def test_draw_text__the_beginning_as_it_is_written() -> None:
    drawn = ET.fromstring(draw_text("<script>alert(1)</script> & \uffff\x01 \U0001f9ff " + "word " * 900))
    lines = [line.text for line in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert len(lines) == 8
    assert " ".join(lines).startswith("<script>alert(1)</script> & \U0001f9ff word word")
    assert all(int(line.get("y", 0)) < 120 for line in drawn.iter("{http://www.w3.org/2000/svg}text"))
