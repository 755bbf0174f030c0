"""The methods that users choose from by name, and the one place that builds a method from settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from usl_backend.errors import SettingsError, nearest_name
from usl_backend.selection.baselines import KMeans, Random, TypiClust
from usl_backend.selection.greedy import FacilityLocation, MaxHerding
from usl_backend.selection.selector import Selector
from usl_backend.selection.usl import USL
from usl_backend.selection.uslt.method import USLT

_CLASSES: tuple[type[Selector], ...] = (USL, USLT, Random, KMeans, TypiClust, MaxHerding, FacilityLocation)
METHODS: dict[str, type[Selector]] = {method.name: method for method in _CLASSES}
"""Method name -> class."""


def make(name: str, *, preset: str | None = None, options: Mapping[str, Any] | None = None) -> Selector:
    """Build a method from settings.

    Parameters
    ----------
    name
        Key of `METHODS`.
    preset
        One of the method's presets, or None for its defaults.
    options
        Option name -> value, laid over the preset; numbers and switches may come as text.

    Raises
    ------
    SettingsError
        Unknown method, preset or option (the nearest known name is suggested), or an impossible value.
    """
    if name not in METHODS:
        raise SettingsError(f'method is "{name}"; {nearest_name(name, METHODS)}')
    method = METHODS[name]
    known = method.options()
    given: dict[str, Any] = {}
    if preset is not None:
        if not method.presets:
            raise SettingsError(f'preset of method "{name}" is "{preset}"; it has none')
        given["preset"] = preset
    for each, value in (options or {}).items():
        if each not in known:
            raise SettingsError(f'"{each}" is no option of method "{name}"; {nearest_name(each, known)}')
        given[each] = known[each].parse(value)
    return method(**given)
