from pathlib import Path

import numpy as np
import pytest

from usl_backend.embedding.fields import joined
from usl_backend.instances import Instance, Pool


def unit(rng: np.random.Generator, rows: int, dim: int) -> np.ndarray:
    values = rng.normal(size=(rows, dim))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def test_joined__cosines_are_the_weighted_mean_of_the_fields(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    instances = [
        Instance(number, "image", f"{number}.png", fields=((f"text {number}",),)) for number in range(1, 8)
    ]
    rows = [unit(rng, 7, 5), unit(rng, 7, 3)]
    unread = [{2: "no picture"}, {2: "no text", 5: "no text"}]
    seen: list[tuple[str, str]] = []

    def embed(number: int, part: list[Instance], folder: Path) -> tuple[Pool, list[str]]:
        assert folder.is_dir()
        seen.extend((one.modality, one.source) for one in part[:1])
        kept = [one.id for one in part if one.id not in unread[number]]
        measured = np.full((len(kept), 4), np.nan)
        measured[:, 3 * number] = 10.0 * np.array(kept) + number
        pool = Pool(np.array(kept), rows[number][np.array(kept) - 1], unread[number], traits=measured)
        return pool, [f"{number}{one:063d}" for one in kept]

    pool, hashes = joined(instances, ("image", "text"), (1.0, 0.5), embed=embed, directory=tmp_path)
    assert seen == [("image", "1.png"), ("text", "text 1")]
    assert pool.ids.tolist() == [1, 3, 4, 6, 7]
    assert pool.skipped == {2: "no picture", 5: "no text"}
    kept = pool.ids - 1
    cosines = [part[kept].astype(np.float64) @ part[kept].astype(np.float64).T for part in rows]
    wanted = (1.0 * cosines[0] + 0.25 * cosines[1]) / 1.25
    np.testing.assert_allclose(pool.embeddings @ pool.embeddings.T, wanted, atol=1e-6)
    assert pool.traits[:, 0].tolist() == [10, 30, 40, 60, 70]
    assert pool.traits[:, 3].tolist() == [11, 31, 41, 61, 71]
    assert np.isnan(pool.traits[:, 1:3]).all()
    assert len(set(hashes)) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["embeddings.npy"]


def test_joined__nothing_readable(tmp_path: Path) -> None:
    def embed(number: int, part: list[Instance], folder: Path) -> tuple[Pool, list[str]]:
        return Pool(np.empty(0, np.int64), np.empty((0, 4), np.float32), {1: f"field {number}"}), []

    pool, hashes = joined(
        [Instance(1, "image", "a", fields=(("b",),))],
        ("image", "text"),
        (1, 1),
        embed=embed,
        directory=tmp_path,
    )
    assert (len(pool), hashes, pool.skipped) == (0, [], {1: "field 0"})


def test_joined__folders_of_the_fields_go_when_one_fails(tmp_path: Path) -> None:
    def embed(number: int, part: list[Instance], folder: Path) -> tuple[Pool, list[str]]:
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        joined(
            [Instance(1, "image", "a", fields=(("b",),))],
            ("image", "text"),
            (1, 1),
            embed=embed,
            directory=tmp_path,
        )
    assert list(tmp_path.iterdir()) == []


def test_joined__a_field_may_show_several_and_lack_some(tmp_path: Path) -> None:
    shown: dict[int, list[tuple[str, ...]]] = {}

    def embed(number: int, part: list[Instance], folder: Path) -> tuple[Pool, list[str]]:
        shown[number] = [one.sources for one in part]
        kept = part[: len(part) - number]
        skipped = {one.id: "no text" for one in part[len(part) - number :]}
        pool = Pool(
            np.array([one.id for one in kept]), np.ones((len(kept), 1), np.float32), skipped, {2: "b", 3: "c"}
        )
        return pool, [f"{one.id:064d}" for one in kept]

    instances = [Instance(number, "image", "a", ("b", "c"), (("t", "u"),)) for number in (1, 2, 3)]
    pool, _ = joined(instances, ("image", "text"), (1.0, 1.0), embed=embed, directory=tmp_path)
    assert shown == {0: [("a", "b", "c")] * 3, 1: [("t", "u")] * 3}
    assert pool.skipped == {3: "no text"}
    assert pool.incomplete == {2: "b"}
