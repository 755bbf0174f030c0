from dataclasses import dataclass

import pytest

from usl_backend.errors import SettingsError
from usl_backend.selection.parameters import Parameters, option

PRESETS = {"big": {"count": 8}}


@dataclass(frozen=True, kw_only=True)
class Sweets(Parameters):
    name = "sweets"
    presets = PRESETS
    preset: str | None = None
    count: int = option(3, "how many", least=1, most=9)
    weight: float = option(0.5, "grams", least=0)
    wrapped: bool = option(True, "in paper")


def test_parameters__options_over_preset_over_default():
    assert Sweets().values() == {"count": 3, "weight": 0.5, "wrapped": True}
    assert Sweets(preset="big").values() == {"count": 8, "weight": 0.5, "wrapped": True}
    assert Sweets(preset="big", count=3, weight=2).values() == {"count": 3, "weight": 2.0, "wrapped": True}
    assert isinstance(Sweets(weight=2).weight, float)
    assert isinstance(Sweets(count=4.0).count, int)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 10}, "give at least 1 and at most 9"),
        ({"count": 0}, "at least 1"),
        ({"count": float("inf")}, "inf"),
        ({"count": True}, "give a whole number"),
        ({"count": "4"}, "give a whole number"),
        ({"weight": "4"}, "give a number"),
        ({"weight": float("nan")}, "nan"),
        ({"wrapped": 1}, "true or false"),
        ({"preset": "bog"}, 'preset of method "sweets" is "bog"; did you mean "big"'),
    ],
)
def test_parameters__bad_values_are_named(options, message):
    with pytest.raises(SettingsError, match=message):
        Sweets(**options)
