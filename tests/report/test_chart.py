from dataclasses import replace

import numpy as np
import pytest

from usl_backend.report.chart import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, coverage_chart
from usl_backend.report.record import Trust


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
