import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usl_backend.errors import SettingsError
from usl_backend.settings import RunSettings, check_extra_params
from usl_backend.settings.ids import MOST_IDS, parse_ids, read_ids


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ()),
        ("", ()),
        (" 7, 12,,7 ", ("7", "12")),
        (7, ("7",)),
        ([7, "12", 7], ("7", "12")),
        (["a, b.jpg"], ("a, b.jpg",)),
    ],
)
def test_parse_ids(value, expected):
    assert parse_ids(value, name="pin") == expected


@pytest.mark.parametrize("value", [True, 1.5, {"a": 1}, [1.5], [[1]], [None], ["x" * 1001]])
def test_parse_ids__other_forms_are_refused(value):
    with pytest.raises(SettingsError, match=r"pin (is|has) .*give ids separated by commas"):
        parse_ids(value, name="pin")


def test_parse_ids__too_many():
    with pytest.raises(SettingsError, match="exclude has 10,001 ids; give at most 10,000"):
        parse_ids(list(range(MOST_IDS + 1)), name="exclude")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("ids.txt", "7\n\n12\n a, b.jpg \n", ("7", "12", "a, b.jpg")),
        ("ids.csv", "rank,id,score\n0,7,1\n1,12,2\n", ("7", "12")),
        ("ids.csv", '\ufefftask\n7\n"a, b.jpg"\n', ("7", "a, b.jpg")),
        ("ids.csv", "7,x\n12,y\n", ("7", "12")),
        ("ids.csv", "", ()),
    ],
)
def test_read_ids__files(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_ids(f"@{tmp_path / name}", name="pin") == expected


def test_read_ids__unreadable_file(tmp_path):
    with pytest.raises(SettingsError, match=r"pin names the file .*nothing\.txt, which cannot be read"):
        read_ids(f"@{tmp_path / 'nothing.txt'}", name="pin")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_ids(f"@{tmp_path / 'binary'}", name="pin")


def test_resolve__only_the_host_may_name_a_file(tmp_path):
    file = tmp_path / "ids.txt"
    file.write_text("7\n12\n")
    named = {"pin": f"@{file}"}
    assert RunSettings.resolve(explicit=named, environ={}, free_paths=True).pin == ("7", "12")
    assert RunSettings.resolve(environ={"USL_PIN": f"@{file}"}).pin == ("7", "12")
    for given_by in ({"explicit": named, "environ": {}}, {"extra_params": named, "environ": {}}):
        with pytest.raises(SettingsError, match="only the command line and the environment"):
            RunSettings.resolve(**given_by)


def test_resolve__pinned_and_excluded():
    with pytest.raises(SettingsError, match='"12" is pinned and excluded'):
        check_extra_params({"pin": "7,12", "exclude": [12]})


def test_json__round_trip_of_ids():
    settings = check_extra_params({"pin": "7,12", "exclude": ["a, b.jpg"]})
    assert settings.to_json()["pin"] == ["7", "12"]
    assert RunSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings
    assert check_extra_params({}).to_json()["pin"] is None


IDS = st.lists(st.integers(1, 6), unique=True)


@given(pin=IDS, exclude=IDS, wished=IDS, barred=IDS)
def test_steered__standing_wishes_never_overrule_the_run(pin, exclude, wished, barred):
    exclude = [one for one in exclude if one not in pin]
    barred = [one for one in barred if one not in wished]
    found = check_extra_params({"pin": pin, "exclude": exclude}).steered(pin=wished, exclude=barred)
    assert list(map(int, found.pin)) == pin + [one for one in wished if one not in pin + exclude]
    assert list(map(int, found.exclude)) == exclude + [one for one in barred if one not in pin + exclude]
    assert not set(found.pin) & set(found.exclude)


def test_steered__more_wishes_than_a_run_takes_are_refused_before_it_is_queued():
    own = check_extra_params({"exclude": "1,2"})
    assert len(own.steered(pin=[], exclude=range(3, MOST_IDS + 1)).exclude) == MOST_IDS
    with pytest.raises(SettingsError, match="exclude has 10,001 ids; give at most 10,000"):
        own.steered(pin=[], exclude=range(3, MOST_IDS + 2))
