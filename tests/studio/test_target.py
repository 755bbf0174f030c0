import pytest

from usl_backend.errors import InputError
from usl_backend.studio.target import is_project, parse_target


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("12", (None, 12)),
        (" 12 ", (None, 12)),
        ("http://localhost:8080/projects/12", ("http://localhost:8080", 12)),
        ("http://localhost:8080/projects/12/data?tab=3&task=4", ("http://localhost:8080", 12)),
        ("https://host/ls/projects/7/", ("https://host/ls", 7)),
    ],
)
def test_parse_target__numbers_and_addresses(text: str, expected: tuple[str | None, int]) -> None:
    assert parse_target(text) == expected
    assert is_project(text)


@pytest.mark.parametrize(
    "text",
    ["", "-1", "twelve", "http://host/", "http://host/projects/", "http://host/projects/1x", "projects/1"],
)
def test_parse_target__anything_else_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not a project"):
        parse_target(text)
    assert not is_project(text)
