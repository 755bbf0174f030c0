from collections.abc import Callable
from pathlib import Path

import pytest
from digit_run import Kept, Made


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def make_run(tmp_path: Path, kept: Kept) -> Callable[..., Made]:
    """A finished run, with `report=True` its report too."""
    return lambda n=300, **more: kept.copy(tmp_path / "data", n, **more)


@pytest.fixture
def made(make_run: Callable[..., Made]) -> Made:
    return make_run()
