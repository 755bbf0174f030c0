from dataclasses import replace

import numpy as np
import pytest

from usl_backend.evaluation.budgets import BudgetCurve
from usl_backend.report.chart import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    budget_chart,
    coverage_chart,
    loss_chart,
    pick_place,
)
from usl_backend.report.record import TrainingFigures, Trust


def trust_of(picks: list[float], random: list[float]) -> Trust:
    return Trust(
        verdict="clear",
        radius=1.0,
        picks=tuple(picks),
        random_mean=tuple(random),
        random_low=tuple(value - 0.05 for value in random),
        random_high=tuple(value + 0.05 for value in random),
        draws=20,
        evaluated=10,
        matched=1,
        near_duplicate_share=0.0,
        near_duplicate_groups=0,
        effective_clusters=1.0,
        largest_share=0.5,
        smallest_size=1,
        stability=None,
        stability_note=None,
    )


def places(text: str) -> np.ndarray:
    return np.array([[float(part) for part in point.split(",")] for point in text.split()])


def test_coverage_chart__axes_run_from_nothing_to_all_picks() -> None:
    chart = coverage_chart(trust_of([0.4, 0.8], [0.2, 0.5]))
    ours = places(chart.picks)
    assert ours[:, 0].tolist() == [LEFT + (WIDTH - LEFT - RIGHT) / 2, WIDTH - RIGHT]
    # the axis ends at 80 %, the highest value
    assert ours[:, 1].tolist() == [TOP + (HEIGHT - BOTTOM - TOP) / 2, TOP]
    assert [tick.text for tick in chart.y_ticks] == ["0 %", "20 %", "40 %", "60 %", "80 %"]
    assert [tick.text for tick in chart.x_ticks] == ["1", "2"]
    assert chart.end_picks == TOP
    assert chart.end_mean == pytest.approx(places(chart.mean)[-1, 1])


def test_coverage_chart__band_encloses_the_mean() -> None:
    chart = coverage_chart(trust_of([0.1, 0.2, 0.3], [0.1, 0.2, 0.3]))
    band, mean = places(chart.band), places(chart.mean)
    assert (band[:3, 1] < mean[:, 1]).all()
    assert (band[:2:-1, 1] > mean[:, 1]).all()


def test_coverage_chart__long_orders_are_thinned_but_keep_their_ends() -> None:
    curve = np.linspace(0.01, 0.9, 3000).tolist()
    chart = coverage_chart(trust_of(curve, curve))
    ours = places(chart.picks)
    assert len(ours) == 400
    assert ours[-1, 0] == WIDTH - RIGHT
    assert [tick.text for tick in chart.x_ticks] == ["500", "1,000", "1,500", "2,000", "2,500", "3,000"]


def test_coverage_chart__full_and_empty_coverage_stay_inside() -> None:
    full = coverage_chart(trust_of([1.0], [1.0]))
    assert full.y_ticks[-1].text == "100 %"
    nothing = coverage_chart(replace(trust_of([0.0], [0.0]), random_high=(0.0,)))
    assert places(nothing.picks).tolist() == [[WIDTH - RIGHT, HEIGHT - BOTTOM]]


def training_of(local: list[float], whole: list[float]) -> TrainingFigures:
    return TrainingFigures(
        clusters=4,
        clusters_in_use=4,
        split=0,
        largest_over_mean=1.5,
        confidence_histogram=(0,) * 9 + (40,),
        agreement=0.8,
        local_loss=tuple(local),
        global_loss=tuple(whole),
        reseeded=0,
    )


def test_loss_chart__both_losses_begin_at_the_whole_and_keep_their_ends() -> None:
    chart = loss_chart(training_of([8.0, 4.0, 2.0], [1.0, 2.0, 0.0]))
    local, whole = places(chart.local_loss), places(chart.global_loss)
    middle = (TOP + HEIGHT - BOTTOM) / 2
    assert local[:, 0].tolist() == [LEFT, (LEFT + WIDTH - RIGHT) / 2, WIDTH - RIGHT]
    # the axis ends at 200 %, the highest share
    assert local[:2, 1].tolist() == [middle, (middle + HEIGHT - BOTTOM) / 2]
    assert whole[:, 1].tolist() == [middle, TOP, HEIGHT - BOTTOM]
    assert [tick.text for tick in chart.y_ticks] == ["0 %", "50 %", "100 %", "150 %", "200 %"]
    assert [tick.text for tick in chart.x_ticks] == ["1", "2", "3"]


def test_loss_chart__a_loss_that_was_never_there_lies_on_the_ground() -> None:
    chart = loss_chart(training_of([1.0, 0.5], [0.0, 0.0]))
    assert (places(chart.global_loss)[:, 1] == HEIGHT - BOTTOM).all()


def test_pick_place__lies_on_the_curve() -> None:
    trust = trust_of([0.2, 0.3, 0.5], [0.1, 0.2, 0.3])
    on_curve = places(coverage_chart(trust).picks)
    for labeled, share in enumerate(trust.picks, 1):
        np.testing.assert_allclose(pick_place(trust, labeled, share), on_curve[labeled - 1], atol=0.1)
    assert pick_place(trust, 0, 0.0) == (LEFT, HEIGHT - BOTTOM)


def test_budget_chart__budgets_stand_where_their_number_is() -> None:
    chart = budget_chart(BudgetCurve(20, (1, 50, 200), (0.1, 0.5, 1.0), (0.0, 0.25, 0.5)))
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - BOTTOM - TOP
    wanted = [(LEFT + width * budget / 200, TOP + height * (1 - share))
              for budget, share in ((1, 0.1), (50, 0.5), (200, 1.0))]  # fmt: skip
    np.testing.assert_allclose(places(chart.picks), wanted, atol=0.1)
    assert places(chart.mean)[-1].tolist() == [WIDTH - RIGHT, TOP + height / 2]
    assert (chart.end_picks, chart.x_ticks[-1].text, chart.y_ticks[-1].text) == (TOP, "200", "100 %")
