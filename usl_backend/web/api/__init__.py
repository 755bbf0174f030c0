"""The JSON API under /usl/api, one blueprint per group of routes. Pages are elsewhere."""

from __future__ import annotations

from . import runs

BLUEPRINTS = (runs.blueprint,)

__all__ = ["BLUEPRINTS"]
