from typing import Any

import pytest

from usl_backend.errors import MediaError
from usl_backend.studio.values import Repeat, Value, look_up, written

DATA: dict[str, Any] = {
    "a": {"b": [{"c": "deep"}, "x"], "n": 3},
    "a.b": "literal",
    "list": ["zero", "one"],
    "nothing": None,
    "my-field": "hyphen",
    "1": "number",
}


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("a.b", "literal"),
        ("a.b[0].c", "deep"),
        ("a['n']", 3),
        ("list[1]", "one"),
        ("list.1", "one"),
        ("list[0][1]", "e"),
        ("nothing", None),
        ("1", "number"),
    ],
)
def test_look_up__as_the_editor_does(key: str, found: object) -> None:
    assert look_up(key, DATA) == found


@pytest.mark.parametrize(
    "key", ["b", "a.c", "list[2]", "list[-1]", "list[x]", "a.n.more", "list.", "nothing.a", ""]
)
def test_look_up__what_leads_nowhere(key: str) -> None:
    with pytest.raises(KeyError):
        look_up(key, DATA)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("$a.n", 3),
        ("$list", ["zero", "one"]),
        ("$a.n of $list[0]", "3 of zero"),
        ("all: $list.", "its data has no"),
        ("all: $list!", "all: zero,one!"),
        ("<$nothing>", "<>"),
        ("$my-field", "hyphen"),
        ("/p/$list[0]-$list[1].png", "its data has no"),
        ("/p/$list[0]-$a.n?x", "/p/zero-3?x"),
    ],
)
def test_of__references_in_a_text_are_replaced(text: str, shown: object) -> None:
    if shown == "its data has no":
        with pytest.raises(MediaError, match=shown):
            list(Value(text).of(DATA))
    else:
        assert list(Value(text).of(DATA)) == [shown]


def test_of__numbers_are_written_as_in_a_browser() -> None:
    data = {"one": 1.0, "half": 0.5, "yes": True, "list": [1.0, None, "x"]}
    assert list(Value("$one $half $yes $list").of(data)) == ["1 0.5 true 1,,x"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (-3.0, "-3"),
        (1e15, "1000000000000000"),
        (1.2345678901234567e20, "123456789012345670000"),
        (1e300, "1e+300"),
        ([1e300, False], "1e+300,false"),
        (None, ""),
        ({"a": 1}, ""),
    ],
)
def test_written__as_in_a_browser(value: object, shown: str) -> None:
    assert written(value) == shown


def test_of__repeaters_within_repeaters() -> None:
    value = Value(
        "$rows[{{i}}].cells[{{j}}]!", (Repeat("$rows", "{{i}}"), Repeat("$rows[{{i}}].cells", "{{j}}"))
    )
    data = {"rows": [{"cells": ["a", "b"]}, {}, {"cells": ["c"]}]}
    assert list(value.of(data)) == ["a!", "b!", None, "c!"]


@pytest.mark.parametrize("pages", [[], "text", 4, None])
def test_of__a_repeater_needs_a_list(pages: object) -> None:
    with pytest.raises(MediaError, match='"pages" is not a list with items'):
        list(Value("$pages[{{idx}}]", (Repeat("$pages", "{{idx}}"),)).of({"pages": pages}))


@pytest.mark.parametrize(
    ("text", "key", "shows"),
    [
        ("$image", "image", True),
        ("$pages[{{idx}}].image", "pages[{{idx}}].image", True),
        ("$my-field", "my-field", True),
        ("Q: $q", "Q: $q", True),
        ("What?", "What?", False),
        ("", "", False),
        ("costs 5 $", "costs 5 $", False),
    ],
)
def test_key__is_the_reference_alone_or_the_text(text: str, key: str, shows: bool) -> None:
    assert (Value(text).key, Value(text).shows_data) == (key, shows)
