import pytest

from usl_backend.report import words


@pytest.mark.parametrize(
    ("share", "text"),
    [(0.0, "0 %"), (0.42, "42 %"), (0.0042, "0.4 %"), (1.0, "100 %"), (0.0996, "10.0 %")],
)
def test_percent__small_shares_keep_a_digit(share: float, text: str) -> None:
    assert words.percent(share) == text


def test_percent__digits_as_asked() -> None:
    assert words.percent(0.4567, 1) == "45.7 %"


@pytest.mark.parametrize(
    ("difference", "text"),
    [(0.123, "+12.3 points"), (-0.02, "−2.0 points"), (0.0, "±0.0 points"), (0.0004, "±0.0 points")],  # noqa: RUF001
)
def test_points__always_signed(difference: float, text: str) -> None:
    assert words.points(difference) == text


def test_tasks__singular_plural_and_thousands() -> None:
    assert [words.tasks(n) for n in (0, 1, 60_000)] == ["0 tasks", "1 task", "60,000 tasks"]
    assert words.count(1234567) == "1,234,567"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0, "0"), (1162.56, "1,163"), (4.8341, "4.83"), (0.0123456, "0.0123"), (1.5e-12, "1.5e-12")],
)
def test_small__three_digits(number: float, text: str) -> None:
    assert words.small(number) == text


def test_moment__to_the_minute() -> None:
    assert words.moment(0.0) == "1970-01-01 00:00 UTC"
    assert words.moment(1_700_000_059.9) == "2023-11-14 22:14 UTC"
