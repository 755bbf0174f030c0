from __future__ import annotations

import json
from pathlib import Path

import pytest

from usl_backend.errors import SettingsError
from usl_backend.selection import METHODS, USL, KMeans
from usl_backend.settings import (
    OPTIONS,
    Budget,
    HostSettings,
    RunSettings,
    check_extra_params,
    parse_extra_params,
    settings_table,
)


@pytest.mark.parametrize("value", [None, "", "  ", {}, "{}", "null"])
def test_parse_extra_params__nothing(value: object) -> None:
    assert parse_extra_params(value) == {}


@pytest.mark.parametrize("value", ['{"budget": 7}', {"budget": 7}])
def test_parse_extra_params__string_and_object_are_the_same(value: object) -> None:
    assert parse_extra_params(value) == {"budget": 7}


@pytest.mark.parametrize("value", ["{budget: 7}", "[1]", 3, [1], "7"])
def test_parse_extra_params__not_an_object_is_refused_with_an_instance(value: object) -> None:
    with pytest.raises(SettingsError, match=r'write \{"budget": 100\}'):
        parse_extra_params(value)


def test_resolve__precedence_is_default_environment_extra_params_explicit() -> None:
    environ = {"USL_BUDGET": "11", "USL_SEED": "12", "USL_RESERVE": "13"}
    settings = RunSettings.resolve(
        extra_params='{"seed": 22, "reserve": 23}', explicit={"reserve": 33, "budget": None}, environ=environ
    )
    assert settings.budget == Budget("11", "count", 11)
    assert (settings.seed, settings.reserve, settings.image_size) == (22, 33, None)


def test_resolve__unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(SettingsError, match='unknown setting "budgte"; did you mean "budget"'):
        check_extra_params({"budgte": 5})
    with pytest.raises(SettingsError, match='"USL_BUGDET"; did you mean "USL_BUDGET"'):
        RunSettings.resolve(environ={"USL_BUGDET": "5"})


@pytest.mark.parametrize("name", ["label_studio_api_key", "model_dir", "label_studio_url"])
def test_resolve__host_settings_are_refused_from_a_project(name: str) -> None:
    with pytest.raises(SettingsError, match=f"set {name.upper()} where the backend runs"):
        check_extra_params({name: "x"})


@pytest.mark.parametrize(
    "budget", [0, -3, "0", "-3", "many", "101%", "0%", 2.5, "2.5/class", True, [5], "5 %%"]
)
def test_resolve__impossible_budget_names_value_and_remedy(budget: object) -> None:
    with pytest.raises(
        SettingsError, match=r'budget is .*give a positive number, a share such as "5%", or "4/class"'
    ):
        check_extra_params({"budget": budget})


@pytest.mark.parametrize(
    ("budget", "classes", "pool", "expected"),
    [
        (None, 10, 1000, 40),
        (None, 2, 1000, 20),
        (None, 10, 100, 10),
        (None, 10, 3, 1),
        ("7", 10, 7, 7),
        ("5%", 0, 1000, 50),
        ("0.1%", 0, 10, 1),
        ("4/class", 3, 12, 12),
    ],
)
def test_rows_to_choose(budget: str | None, classes: int, pool: int, expected: int) -> None:
    settings = RunSettings.resolve(explicit={"budget": budget}, environ={})
    assert settings.rows_to_choose(classes=classes, pool=pool) == expected


@pytest.mark.parametrize(
    ("budget", "classes", "pool", "message"),
    [
        ("500", 0, 312, "budget is 500 but only 312"),
        ("4/class", 10, 39, "budget is 40 but only 39"),
        ("4/class", 0, 100, "names no classes"),
        (None, 2, 0, "the pool is empty"),
    ],
)
def test_rows_to_choose__impossible(budget: str | None, classes: int, pool: int, message: str) -> None:
    settings = RunSettings.resolve(explicit={"budget": budget}, environ={})
    with pytest.raises(SettingsError, match=message):
        settings.rows_to_choose(classes=classes, pool=pool)


def test_json__round_trip_keeps_everything() -> None:
    settings = check_extra_params({"budget": "5%", "preset": "paper-cifar10", "seed": 3})
    assert RunSettings.from_json(json.loads(json.dumps(settings.to_json()))) == settings


def test_from_json__reads_the_settings_of_a_method_that_is_gone() -> None:
    stored = RunSettings.resolve(environ={}).to_json() | {"method": "bygone", "radius": 0.5, "seed": 3}
    settings = RunSettings.from_json(stored)
    assert (settings.method, settings.seed, settings.options) == ("bygone", 3, {"radius": 0.5})
    assert settings.to_json() == stored
    with pytest.raises(SettingsError, match='method is "bygone"'):
        settings.selector()
    with pytest.raises(SettingsError, match='method is "bygone"'):
        RunSettings.resolve(explicit={"method": "bygone"}, environ={})


def test_selector__threads_are_those_of_the_settings_or_else_those_offered() -> None:
    assert check_extra_params({}).selector(workers=5) == USL(workers=5)
    assert check_extra_params({"workers": 2}).selector(workers=5) == USL(workers=2)
    assert check_extra_params({}).selector() == USL()
    assert check_extra_params({"method": "k-means", "restarts": 2}).selector(workers=5) == KMeans(restarts=2)


def test_resolve__method_options_are_typed_as_the_constructor_says() -> None:
    for method in METHODS:
        for name, option in METHODS[method].options().items():
            text = RunSettings.resolve(
                explicit={"method": method}, environ={f"USL_{name.upper()}": str(option.default)}
            )
            assert text.options == {name: option.default}
            assert type(text.options[name]) is type(option.default)


def test_resolve__option_of_another_method_is_refused() -> None:
    name = next(name for name in METHODS["usl"].options() if name not in METHODS["random"].options())
    with pytest.raises(SettingsError, match=f'"{name}" is no option of method "random"'):
        check_extra_params({"method": "random", name: 3})


def test_resolve__unknown_method_and_preset() -> None:
    with pytest.raises(SettingsError, match='method is "uls"; did you mean "usl"'):
        check_extra_params({"method": "uls"})
    with pytest.raises(SettingsError, match='"paper-cifar11"; did you mean "paper-cifar10'):
        check_extra_params({"preset": "paper-cifar11"})


def test_host_settings__environment_then_explicit() -> None:
    environ = {
        "LABEL_STUDIO_URL": "http://ls:8080/",
        "USL_PORT": "9000",
        "LABEL_STUDIO_API_KEY": "secret-token\n",
    }
    host = HostSettings.load({"port": 9001, "host": None}, environ=environ)
    assert (host.label_studio_url, host.port, host.host, host.api_key) == (
        "http://ls:8080",
        9001,
        "127.0.0.1",
        "secret-token",
    )
    assert "secret-token" not in repr(host)
    assert "secret-token" not in host.model_dump_json()


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"USL_PORT": "nine"}, "USL_PORT is 'nine'"),
        ({"LABEL_STUDIO_URL": "localhost:8080"}, "LABEL_STUDIO_URL is 'localhost:8080'; give an address"),
        ({"USL_MEDIA_WORKERS": "0"}, "USL_MEDIA_WORKERS is '0'"),
    ],
)
def test_host_settings__bad_value_names_the_variable(environ: dict[str, str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        HostSettings.load(environ=environ)


def test_options__names_flags_and_variables_are_unique_and_documented() -> None:
    names = [option.name for option in OPTIONS]
    assert len(names) == len(set(names))
    assert len({option.environment for option in OPTIONS}) == len(names)
    assert [option.name for option in OPTIONS if not option.help] == []
    table = settings_table()
    assert all(f"| `{name}` |" in table for name in names)


def test_host_settings__default_directory_is_below_the_home_directory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert HostSettings.load(environ={}).model_dir == tmp_path / ".local/share/usl-backend"


@pytest.mark.parametrize("path", ["/etc/model", "../model", "a/../../model", "~/model", "./model"])
def test_resolve__paths_out_of_the_encoder_directory_come_from_this_host_only(path: str) -> None:
    encoder = f"sentence-transformers:{path}"
    for source in ({"extra_params": {"encoder": encoder}}, {"explicit": {"encoder": encoder}}):
        with pytest.raises(SettingsError, match="could lead out of it; put the file there"):
            RunSettings.resolve(environ={}, **source)
    assert RunSettings.resolve(environ={"USL_ENCODER": encoder}).encoder == encoder
    from_shell = RunSettings.resolve(explicit={"encoder": encoder}, environ={}, free_paths=True)
    assert RunSettings.from_json(from_shell.to_json()).encoder == encoder
    with pytest.raises(SettingsError, match="could lead out of it"):
        RunSettings.resolve(extra_params={"encoder": encoder}, environ={}, free_paths=True)


def test_resolve__unknown_encoder_suggests_the_nearest() -> None:
    with pytest.raises(SettingsError, match='unknown encoder "minilmm"; did you mean "minilm"'):
        RunSettings.resolve(extra_params={"encoder": "minilmm"}, environ={})
    with pytest.raises(SettingsError, match="write torchvision:MODEL"):
        RunSettings.resolve(explicit={"encoder": "torchvision"}, environ={})


def test_resolve__a_control_set_that_can_never_suffice_is_refused_but_stays_readable() -> None:
    with pytest.raises(
        SettingsError, match=r"control is 19, but nothing can be measured .* fewer than 20; give 20"
    ):
        RunSettings.resolve(explicit={"control": 19}, environ={})
    assert RunSettings.resolve(explicit={"control": 20}, environ={}).control == 20
    assert RunSettings.from_json({"control": 5}).control == 5
