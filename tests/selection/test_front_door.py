"""Constructor, options and docstring of every selector say the same."""

import ast
import inspect
import math
import re
from dataclasses import fields, replace
from typing import get_args, get_type_hints

import pytest

from usl_backend.errors import SettingsError
from usl_backend.selection import METHODS, USL, USLT, make
from usl_backend.selection.parameters import Default, MethodOption

BESIDE = {"usl-t": ["checkpoint", "trainer"]}
"""Arguments of a constructor that are neither preset nor option."""


def entry(option: MethodOption) -> str:
    """An option as the docstring has it, wherever its lines break."""
    kind = getattr(option.annotation, "__name__", "")
    bounds = {
        (False, False): "",
        (True, False): f" >= {option.least:g}",
        (True, True): f" in [{option.least:g}, {option.most:g}]",
    }[math.isfinite(option.least), math.isfinite(option.most)]
    if number := [part for part in get_args(option.annotation) if part in (int, float)]:
        words = "".join(f' or "{word}"' for word in option.words)
        kind, bounds = number[0].__name__, bounds + words
    elif choices := get_args(option.annotation):
        kind = "{" + ", ".join(f'"{choice}"' for choice in choices) + "}"
    default = f'"{option.default}"' if isinstance(option.default, str) else repr(option.default)
    meaning = option.help[0].upper() + option.help[1:]
    return f"{option.name} : {kind}{bounds}, default {default} {meaning}."


def documented(method: type) -> dict[str, str]:
    """Name -> entry of the section Parameters of a class's docstring."""
    text = inspect.getdoc(method) or ""
    section = re.search(r"^Parameters\n-+\n(.*?)(?=\n\n|\Z)", text, re.DOTALL | re.MULTILINE)
    assert section, f"{method.__name__} has no section Parameters"
    entries = re.split(r"\n(?=\S)", section[1])
    return {re.split(r"\W", one)[0]: " ".join(one.split()) for one in entries}


@pytest.mark.parametrize("name", METHODS)
def test_constructor__takes_the_options_by_keyword_and_nothing_else(name):
    method = METHODS[name]
    arguments = inspect.signature(method).parameters
    preset = ["preset"] if method.presets else []
    assert list(arguments) == [*preset, *method.options(), *BESIDE.get(name, [])]
    assert {one.kind for one in arguments.values()} == {inspect.Parameter.KEYWORD_ONLY}
    for option in method.options().values():
        assert repr(arguments[option.name].default) == repr(option.default)
        assert type(option.default) is option.annotation or option.default in option.words
        assert arguments[option.name].annotation in {
            field.type for field in fields(method) if field.name == option.name
        }


@pytest.mark.parametrize("name", METHODS)
def test_option__default_is_the_first_choice(name):
    # numpydoc's convention, by which the reference shows defaults
    for option in METHODS[name].options().values():
        if option.words:
            assert option.default == option.words[0], option.name


@pytest.mark.parametrize("name", METHODS)
def test_constructor__is_one_that_editors_can_read(name):
    # Editors and type checkers know the constructor of a class that is itself marked as a dataclass, not one that is
    # put together at run time.
    for base in METHODS[name].__mro__[:-1]:
        written = ast.parse(inspect.getsource(base).lstrip()).body[0]
        assert "__init__" not in {
            node.name for node in ast.walk(written) if isinstance(node, ast.FunctionDef)
        }
        own = [one for one in METHODS[name].options() if one in inspect.get_annotations(base)]
        decorators = [ast.unparse(decorator) for decorator in written.decorator_list]
        if own or base is METHODS[name]:
            assert decorators == ["dataclass(frozen=True, kw_only=True)"]


@pytest.mark.parametrize("name", METHODS)
def test_docstring__lists_every_option_with_type_default_and_meaning(name):
    method = METHODS[name]
    found = documented(method)
    for option in method.options().values():
        assert found.get(option.name) == entry(option)
    assert list(found) == list(inspect.signature(method).parameters)


@pytest.mark.parametrize("method", [USL, USLT])
def test_preset__is_typed_by_the_names_that_there_are(method):
    owner = next(base for base in method.__mro__ if "preset" in inspect.get_annotations(base))
    choice, nothing = get_args(get_type_hints(owner)["preset"])
    assert set(get_args(choice)) == set(method.presets)
    assert nothing is type(None)


@pytest.mark.parametrize(
    ("method", "preset"), [(each, name) for each in (USL, USLT) for name in each.presets]
)
def test_preset__yields_to_every_value_that_is_given(method, preset):
    plain, laid = method().values(), method(preset=preset)
    changed = {name for name, value in laid.values().items() if value != plain[name]}
    assert changed == {name for name, value in method.presets[preset].items() if value != plain[name]}
    assert changed
    for name in changed:
        assert getattr(method(preset=preset, **{name: plain[name]}), name) == plain[name]
    assert method(preset=preset, **plain).values() == plain


def test_values__are_those_in_use_and_no_default_is_left_unsettled():
    for name, method in METHODS.items():
        assert method().values() == {one.name: one.default for one in method.options().values()}
        assert not any(isinstance(value, Default) for value in vars(method()).values())
        assert method.name == name
    assert replace(USL(preset="paper-cifar10"), rounds=3).values() == {
        **USL(preset="paper-cifar10").values(),
        "rounds": 3,
    }


def test_make__reads_text():
    made = make("usl", options={"neighbors": "7", "alpha": " 2 ", "smoothing": "False", "start": "rows"})
    assert make("usl", options={"neighbors": " Auto "}) == USL(neighbors="auto") == USL()
    assert made == USL(neighbors=7, alpha=2.0, smoothing=False, start="rows")
    assert make("usl", options={"rounds": "3.0", "normalize": 0, "exact": "on"}) == USL(
        rounds=3, normalize=False, exact=True
    )


@pytest.mark.parametrize(
    ("name", "preset", "options", "message"),
    [
        ("uls", None, {}, 'method is "uls"; did you mean "usl"'),
        (
            "usl",
            "paper-cifar11",
            {},
            'preset of method "usl" is "paper-cifar11"; did you mean "paper-cifar10"',
        ),
        ("random", "paper", {}, 'preset of method "random" is "paper"; it has none'),
        (
            "usl",
            None,
            {"neighbours": 5},
            '"neighbours" is no option of method "usl"; did you mean "neighbors"',
        ),
        (
            "k-means",
            None,
            {"restart": 3},
            '"restart" is no option of method "k-means"; did you mean "restarts"',
        ),
        ("usl", None, {"neighbors": "0"}, "usl option neighbors is 0; give at least 1"),
        ("usl", None, {"neighbors": "five"}, "usl option neighbors is 'five'; give a whole number"),
        ("usl", None, {"neighbors": "2.5"}, "usl option neighbors is 2.5; give a whole number"),
        ("usl", None, {"neighbors": True}, "usl option neighbors is True; give a whole number"),
        ("usl", None, {"neighbors": None}, "usl option neighbors is None; give a whole number"),
        ("usl", None, {"alpha": "nan"}, "usl option alpha is nan; give at least 0"),
        ("usl", None, {"smoothing": "perhaps"}, "usl option smoothing is 'perhaps'; give true or false"),
        ("usl", None, {"start": "row"}, "usl option start is 'row'; did you mean \"rows\""),
        ("usl", None, {"start": ["rows"]}, "usl option start is"),
    ],
)
def test_make__names_what_cannot_be(name, preset, options, message):
    with pytest.raises(SettingsError, match=re.escape(message)):
        make(name, preset=preset, options=options)
