from collections.abc import Callable
from dataclasses import replace

from digit_run import Made

from usl_backend.report import build
from usl_backend.report.sources import Sources
from usl_backend.report.view import View


def nothing(_task: int) -> None:
    """No address."""


def view_of(made: Made, **changes: object) -> View:
    report = replace(build(made.run, made.files), **changes)
    return View(made.run, report, Sources(made.files), nothing, nothing)


def test_last_quarter__adds_what_its_picks_cover(make_run: Callable[..., Made]) -> None:
    view = view_of(make_run(90, budget=6, report=True))
    (*_, before, last) = view.report.trust.picks
    size, added = view.last_quarter()
    assert size == 1
    assert abs(added - (last - before)) < 1e-4


def test_last_quarter__of_one_pick_leaves_out_what_labels_covered_before(
    make_run: Callable[..., Made],
) -> None:
    made = make_run(90, budget=6, report=True)
    report = build(made.run, made.files)
    only = replace(report.whys[0], covered=0.25, coverage=0.75)
    assert view_of(made, whys=(only,), trust=replace(report.trust, picks=(0.75,))).last_quarter() == (1, 0.25)
