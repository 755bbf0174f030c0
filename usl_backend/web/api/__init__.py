"""JSON API under /usl/api, one blueprint per group of routes."""

from __future__ import annotations

from usl_backend.web.api import exports, projects, report, runs, steering, suggestions

BLUEPRINTS = (
    runs.blueprint,
    exports.blueprint,
    report.blueprint,
    projects.blueprint,
    steering.blueprint,
    suggestions.blueprint,
)

__all__ = ["BLUEPRINTS"]
