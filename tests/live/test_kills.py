"""The kill campaign, short. Long, by hand: `pytest -m slow --log-cli-level=INFO tests/live/test_kills.py`."""

from collections.abc import Callable
from pathlib import Path

import pytest
from kills import Campaign
from live_studio import LiveProject, LiveStudio

from usl_backend.demo.dataset import write_images

MakeProject = Callable[..., LiveProject]
SETTINGS = {"budget": 300, "reserve": 40, "image_size": 32}


def project_of(studio: LiveStudio, make_project: MakeProject, sides: tuple[int, ...]) -> LiveProject:
    """A project of distinct pictures: the bundled ones, again in each size."""
    names = []
    for side in sides:
        folder = studio.documents_root / "kills" / str(side)
        names += [f"kills/{side}/{path.name}" for path in write_images(folder, side=side)]
    return make_project(data=[{"image": f"/data/local-files/?d={name}"} for name in names])


@pytest.mark.parametrize(
    ("kills", "sides", "seed"),
    [
        pytest.param(20, (28,), 7, id="short"),
        pytest.param(120, (28, 32), 70, id="long", marks=[pytest.mark.slow, pytest.mark.timeout(7200)]),
    ],
)
@pytest.mark.timeout(1200)
def test_kill_campaign__nothing_lost_nothing_twice_the_same_picks(
    label_studio: LiveStudio,
    make_project: MakeProject,
    tmp_path: Path,
    kills: int,
    sides: tuple[int, ...],
    seed: int,
) -> None:
    project = project_of(label_studio, make_project, sides)
    tally = Campaign(label_studio, project, tmp_path, SETTINGS, seed).strike(kills)
    assert tally.kills == kills
    assert (tally.lost_rows, tally.duplicates, tally.other_picks) == (0, 0, 0), tally.table()
