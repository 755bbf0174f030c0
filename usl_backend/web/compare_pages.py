"""Two runs beside each other, as a page and as JSON; computed in a child process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flask import Blueprint, render_template, request

from usl_backend.errors import InputError
from usl_backend.jobs.answering import comparison_of_runs
from usl_backend.report import words
from usl_backend.web.report_pages import view_of
from usl_backend.web.reports import Awaited, reports
from usl_backend.web.services import services

if TYPE_CHECKING:
    from usl_backend.report.compare import Comparison
    from usl_backend.runs import Run

blueprint = Blueprint("compare", __name__)
api = Blueprint("api_compare", __name__)

SHOWN = 60
"""Picks of one run shown as pictures or texts."""


@blueprint.get("/compare")
def show() -> str:
    """Compare two runs: settings, picks as pictures or texts, and coverage; `?a=12-6&b=12-7`."""
    first, second = _runs()
    shown = [reports().get(run) for run in (first, second)]
    return render_template(
        "compare.html",
        found=_compared(first, second),
        a=first,
        b=second,
        views=[
            None if isinstance(one, Awaited) else view_of(run, one)
            for run, one in zip((first, second), shown, strict=True)
        ],
        awaited=[one.message for one in shown if isinstance(one, Awaited)],
        most=SHOWN,
        w=words,
    )


@api.get("/compare")
def compare() -> Mapping[str, Any]:
    """Compare two runs over one project or pool: `?a=12-6&b=12-7`."""
    return _compared(*_runs()).to_json()


def _runs() -> tuple[Run, Run]:
    """Return the runs of the query string."""
    from usl_backend.report.compare import check_comparable

    names = [request.args.get(name, "") for name in ("a", "b")]
    if not all(names):
        raise InputError("two runs are compared; name them, such as ?a=12-6&b=12-7")
    first, second = (services().store.get(name) for name in names)
    check_comparable(first, second)
    return first, second


def _compared(first: Run, second: Run) -> Comparison:
    """Compare two runs in a child process."""
    return comparison_of_runs(services().host, first, second)
