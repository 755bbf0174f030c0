import math

import numpy as np
import pytest

from usl_backend.outliers import REASONS, Traits, find_outliers

RNG = np.random.default_rng(0)
PICTURES = [Traits(60 + RNG.normal(0, 5), 0.6 + RNG.normal(0, 0.08), 300) for _ in range(40)]
TEXTS = [Traits(letters=float(number)) for number in RNG.integers(80, 400, 40)]


def found(traits: list[Traits]) -> list[tuple[int, str]]:
    outliers = find_outliers(np.array(traits, np.float32))
    return list(zip(outliers.rows.tolist(), outliers.reasons, strict=True))


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (Traits(0.5, 1.0, math.inf), "one color"),
        (Traits(0.0, 1.0, 1), "one color"),
        (Traits(60, 0.02, 300), "noise"),
        (Traits(60, -0.4, 300), "noise"),
        (Traits(60, 0.6, 16), "tiny"),
        (Traits(5, 0.6, 300), ""),
        (Traits(60, 0.2, 300), ""),
        (Traits(60, 0.6, 40), ""),
    ],
    ids=str,
)
def test_find_outliers__pictures(one: Traits, reason: str) -> None:
    assert found([*PICTURES[:7], one, *PICTURES[7:]]) == ([(7, reason)] if reason else [])


@pytest.mark.parametrize(("letters", "reason"), [(0, "no letters"), (5, "few letters"), (12, "")])
def test_find_outliers__texts(letters: float, reason: str) -> None:
    assert found([Traits(letters=letters), *TEXTS]) == ([(0, reason)] if reason else [])


@pytest.mark.parametrize(
    "usual",
    [
        [Traits(2.0, 0.6, 300)],
        [Traits(60, 0.02 + part / 100, 300) for part in range(9)],
        [Traits(60, 0.6, 16)],
        [Traits(letters=0)],
        [Traits(letters=3)],
    ],
    ids=("flat", "textures", "icons", "numbers", "words"),
)
def test_find_outliers__what_most_of_a_pool_is_like_is_none(usual: list[Traits]) -> None:
    others = PICTURES if math.isnan(usual[0].letters) else TEXTS
    assert found([*usual * 60, *others]) == []


def test_find_outliers__a_fifth_of_junk_hides_nothing() -> None:
    junk = [Traits(60, float(order), 300) for order in RNG.normal(0, 0.03, 10)]
    assert found([*PICTURES, *junk]) == [(row, "noise") for row in range(40, 50)]


def test_find_outliers__pure_noise_is_found_among_pictures_of_all_kinds() -> None:
    pictures = [Traits(60, order, 300) for order in np.linspace(0.06, 1.0, 40)]
    assert found([*pictures, Traits(60, 0.04, 300)]) == [(40, "noise")]


def test_find_outliers__a_picture_with_a_text_needs_both_to_be_bad() -> None:
    both = [Traits(*picture[:3], text.letters) for picture, text in zip(PICTURES, TEXTS, strict=True)]
    flat, mute = Traits(0, 1, 300), Traits(letters=0)
    odd = [Traits(*flat[:3], 99), Traits(*PICTURES[0][:3], 0), Traits(*flat[:3], mute.letters)]
    assert found([*both, *odd]) == [(42, "one color")]


def test_find_outliers__nothing_is_known() -> None:
    for traits in (None, np.empty((0, 4)), np.full((3, 4), np.nan)):
        outliers = find_outliers(traits)
        assert (outliers.rows.tolist(), outliers.reasons, outliers.known) == ([], (), 0)
    partly = [*PICTURES, *[Traits()] * 30, Traits(0, 1, 9)]
    assert found(partly) == [(70, "one color")]
    assert find_outliers(np.array(partly, np.float32)).known == 41


def test_reasons__are_what_rows_are_named_by() -> None:
    assert len(REASONS) == len(set(REASONS)) == 5
