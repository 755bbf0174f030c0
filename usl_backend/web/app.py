"""Flask app factory: registers guard, error handler and blueprints."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from flask import Flask

from usl_backend.runs.columns import proper
from usl_backend.web import (
    api,
    compare_pages,
    errors,
    guard,
    metrics,
    pages,
    probes,
    project_actions,
    project_pages,
    protocol,
    report_pages,
    suggest_pages,
)
from usl_backend.web.services import EXTENSION, Services
from usl_backend.web.watch import StudioWatch

if TYPE_CHECKING:
    from usl_backend.jobs import Jobs
    from usl_backend.settings import HostSettings


def create_app(host: HostSettings, jobs: Jobs) -> Flask:
    """Create the app; it starts nothing by itself.

    Parameters
    ----------
    host
        Credentials, limits and addresses.
    jobs
        Run queue; the caller starts and stops its supervisor.

    Returns
    -------
    Flask
        WSGI app, thread-safe within one process.
    """
    app = Flask("usl_backend.web", static_url_path="/usl/static")
    app.jinja_options = {"finalize": _in_utf8}
    app.json.sort_keys = False  # type: ignore[attr-defined]  # DefaultJSONProvider has it
    app.add_template_filter(_moment, "moment")
    app.add_template_filter(_duration, "duration")
    app.extensions[EXTENSION] = Services(host, jobs, StudioWatch(host.label_studio_url))
    guard.register(app, host)
    errors.register(app)
    app.register_blueprint(protocol.blueprint)
    app.register_blueprint(probes.blueprint)
    app.register_blueprint(metrics.blueprint)
    app.register_blueprint(pages.root)
    app.register_blueprint(pages.blueprint, url_prefix="/usl")
    app.register_blueprint(project_pages.blueprint, url_prefix="/usl")
    app.register_blueprint(project_actions.blueprint, url_prefix="/usl")
    app.register_blueprint(report_pages.blueprint, url_prefix="/usl")
    app.register_blueprint(suggest_pages.blueprint, url_prefix="/usl")
    app.register_blueprint(compare_pages.blueprint, url_prefix="/usl")
    app.register_blueprint(compare_pages.api, url_prefix="/usl/api")
    for blueprint in api.BLUEPRINTS:
        app.register_blueprint(blueprint, url_prefix="/usl/api")
    return app


def _in_utf8(value: object) -> object:
    """Write what a page shows so that it can be sent: the names of files may not be UTF-8."""
    return proper(value) if type(value) is str and not value.isascii() else value


def _moment(seconds: float) -> str:
    """Format Unix seconds as ISO 8601 in UTC."""
    return datetime.fromtimestamp(seconds, tz=UTC).isoformat(timespec="seconds")


def _duration(seconds: float) -> str:
    """Format a time span for people: "40 minutes", "3.5 hours", "2 days"."""
    for unit, size, most in (("minute", 60, 90), ("hour", 3600, 36)):
        if seconds < most * size:
            amount = max(1.0, round(seconds / size, 0 if unit == "minute" else 1))
            return f"{amount:g} {unit}{'' if amount == 1 else 's'}"
    return f"{seconds / 86_400:.0f} days"
