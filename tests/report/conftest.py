from collections.abc import Callable
from pathlib import Path

import pytest
from digit_run import Made


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Made]:
    return lambda n=300, **more: Made(tmp_path / "data", n, **more)


@pytest.fixture
def made(make_run: Callable[..., Made]) -> Made:
    return make_run()
