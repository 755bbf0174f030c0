import argparse

import embedding
import gpu_stage
import numpy as np
import pytest


@pytest.fixture
def stage(tmp_path, monkeypatch) -> gpu_stage.Stage:
    monkeypatch.setattr(gpu_stage.Stage, "_network", lambda self, name: (None, None, None))
    paths = embedding.pictures_below(embedding.demo_pictures(tmp_path, 16))
    return gpu_stage.Stage(argparse.Namespace(device="cpu", quick=True, workers=1, batch=16), paths, "none")


def test_stage__every_way_brings_the_pictures_of_the_files(stage) -> None:
    wanted = np.stack([gpu_stage.decoded(path, 64) for path in stage.paths])
    whole = np.stack([gpu_stage.decoded(path, 0) for path in stage.paths])
    for batches, expected in (
        (stage.pipes(), wanted),
        (stage.ring(64, scaled=True, pinned=False), wanted),
        (stage.ring(224, scaled=False, pinned=False), whole),
    ):
        for _ in range(3):  # the slots are filled again
            np.testing.assert_array_equal(next(batches).numpy(), expected)
        batches.close()
