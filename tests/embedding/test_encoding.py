from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from usl_backend.embedding import encoding as module
from usl_backend.embedding.encoding import Encoding
from usl_backend.instances import Instance, Pool


@pytest.mark.parametrize(
    ("device", "modality", "count", "expected"),
    [
        ("cuda", "image", 2_000, True),
        ("mps", "image", 2_000, True),
        ("cuda", "image", 1_999, False),
        ("cuda", "text", 2_000, False),
        ("cpu", "image", 2_000, False),
    ],
)
def test_encoding__processes_read_many_pictures_for_a_gpu(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, modality: str, count: int, expected: bool
) -> None:
    told: list[object] = []

    def embed(part, **arguments):
        told.append(arguments["processes"])
        return Pool(np.empty(0, np.int64), np.empty((0, 4), np.float32), {}), []

    monkeypatch.setattr(module, "embed", embed)
    monkeypatch.setattr(module, "best_device", lambda: device)
    encoder = SimpleNamespace(key="some", dim=4, modality=modality)
    Encoding((encoder,), (1.0,), (lambda: encoder,)).embed(
        [Instance(number, modality, "a") for number in range(count)],
        media=None, cache_directory=tmp_path, directory=tmp_path, progress=None, workers=3, missing=0.0,
    )  # fmt: skip
    assert told == [expected]
