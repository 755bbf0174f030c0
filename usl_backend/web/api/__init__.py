"""The JSON API under /usl/api, one blueprint per group of routes. Pages are elsewhere."""

from __future__ import annotations

from . import exports, runs

BLUEPRINTS = (runs.blueprint, exports.blueprint)

__all__ = ["BLUEPRINTS"]
