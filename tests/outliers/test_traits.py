import math

import numpy as np
import pytest

from usl_backend.outliers import traits_of_picture, traits_of_text


def colored(shades: np.ndarray) -> np.ndarray:
    return np.repeat(shades.astype(np.uint8)[..., None], 3, axis=2)


def brute_force(shades: np.ndarray) -> tuple[float, float]:
    """Spread and order, pair by pair."""
    side, mean = len(shades), shades.mean()
    lag, pairs = side // 8, []
    for row in range(side):
        for column in range(side):
            for other in ((row + lag, column), (row, column + lag)):
                if max(other) < side:
                    pairs.append((shades[row, column] - mean) * (shades[other] - mean))
    variance = ((shades - mean) ** 2).mean()
    return math.sqrt(variance), float(np.mean(pairs)) / variance


@pytest.mark.parametrize("side", [8, 32, 64])
def test_traits_of_picture__against_all_pairs(side: int) -> None:
    rng = np.random.default_rng(side)
    shades = np.clip(rng.normal(120, 30, (side, side)) + np.linspace(0, 90, side), 0, 255).astype(np.uint8)
    found = traits_of_picture(colored(shades), side=28)
    spread, order = brute_force(shades.astype(np.float64))
    assert found.spread == pytest.approx(spread, rel=1e-4)
    assert found.order == pytest.approx(order, rel=1e-4)
    assert (found.side, math.isnan(found.letters)) == (28, True)


def test_traits_of_picture__of_large_ones_every_second_pixel() -> None:
    shades = np.random.default_rng(0).integers(0, 256, (128, 128))
    assert traits_of_picture(colored(shades)) == traits_of_picture(colored(shades[::2, ::2]))


def test_traits_of_picture__colors_of_one_green_differ() -> None:
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:8, :, 0] = pixels[8:, :, 2] = 255
    assert traits_of_picture(pixels).spread > 20


def test_traits_of_picture__one_color_is_no_noise() -> None:
    found = traits_of_picture(np.full((16, 16, 3), 7, np.uint8))
    assert (found.spread, found.order, found.side) == (pytest.approx(0, abs=1e-3), 1.0, math.inf)


@pytest.mark.parametrize(
    ("text", "letters"), [("", 0), (" 12.5 %\n", 0), ("Nr. 12_b", 3), ("да, 好的", 4), ("é", 1)], ids=repr
)
def test_traits_of_text__letters_of_any_script(text: str, letters: int) -> None:
    found = traits_of_text(text)
    assert found.letters == letters
    assert all(math.isnan(value) for value in found[:3])
