"""Two runs beside each other, against brute force in float64."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from digit_run import Made

from usl_backend.errors import InputError, RunError
from usl_backend.evaluation.reach import DRAWS
from usl_backend.instances import Pool, Queue
from usl_backend.report.compare import Comparison, compare_runs
from usl_backend.runs.published import Published
from usl_backend.runs.summary import EncoderNote
from usl_backend.selection.rows.preparation import fit_projection


@pytest.fixture
def made(tmp_path: Path):
    run = Made(tmp_path, 80, budget=10)
    yield run
    run.store.close()


def another(made: Made, picks: list[int], *, ids=None, encoder="", **settings):
    """A second run with these picks over the pool, or a part of it in rows of another encoder."""
    store = made.store
    run = store.create(project=12, settings={**made.run.settings, **settings})
    store.claim(run.id)
    files = store.files(run.id)
    pool, _ = made.files.read_pool()
    rows = np.asarray(pool.embeddings)
    keep = np.isin(pool.ids, pool.ids if ids is None else ids)
    rows = rows[keep] if not encoder else np.ascontiguousarray(rows[keep][:, ::-1] ** 3)
    files.write_pool(Pool(pool.ids[keep], rows), ["00" * 32] * int(keep.sum()))
    files.write_published(Published(Queue.of(picks, control=[1001], reserve=[1002])))
    store.finish(run.id, replace(made.summary, encoder=EncoderNote(encoder, encoder, None), picks=len(picks)))
    return store.get(run.id)


def share(embeddings, ids, common, picks, others):
    """Coverage of both, by loops over plain distances."""
    projection = fit_projection(embeddings, dimensions=128)
    place = {int(one): row for row, one in enumerate(ids)}
    rows = projection.apply(embeddings).astype(np.float64)

    def apart(task, chosen):
        return min(((rows[place[task]] - rows[place[one]]) ** 2).sum() for one in chosen)

    rng = np.random.default_rng(0x5EED)
    size = max(len(picks), len(others))
    drawn = [rng.choice(common, size, replace=False).tolist() for _ in range(DRAWS)]
    radius = np.median([apart(task, chosen) for chosen in drawn for task in common]) + 1e-6
    return [
        np.mean([apart(task, [one for one in chosen if one in place]) <= radius for task in common])
        for chosen in (picks, others)
    ]


def test_compare_runs__same_encoder(made):
    picks = made.queue.instances
    others = [*picks[3:], 1070, 1001]
    run = another(made, others, budget="9", seed=7, exclude=["1005"])
    found = compare_runs(made.run, run, store=made.store)
    assert Comparison.from_json(found.to_json()) == found
    assert found.shared == tuple(one for one in picks if one in others)
    assert found.only_a == tuple(one for one in picks if one not in others)
    assert found.only_b == tuple(one for one in others if one not in picks)
    told = {one.name: (one.a, one.b) for one in found.settings}
    assert told == {"budget": ("10", "9"), "seed": (0, 7), "exclude": (None, ["1005"])}
    pool, _ = made.files.read_pool()
    (covered,) = found.coverage
    assert found.same_encoder
    assert (covered.tasks, covered.evaluated) == (80, 80)
    expected = share(pool.embeddings, pool.ids, pool.ids.tolist(), picks, others)
    np.testing.assert_allclose([covered.a, covered.b], expected, atol=1 / 80 + 1e-9)


def test_compare_runs__another_encoder_is_measured_in_the_rows_of_each(made):
    picks = made.queue.instances
    ids = [*made.ids[10:].tolist()]
    run = another(made, [1020, 1030, 1040], ids=ids, encoder="other")
    found = compare_runs(made.run, run, store=made.store)
    assert not found.same_encoder
    assert [one.rows for one in found.coverage] == [made.run.id, run.id]
    assert {"encoder"} <= {one.name for one in found.settings}
    for covered, files in zip(found.coverage, (made.files, made.store.files(run.id)), strict=True):
        pool, _ = files.read_pool()
        expected = share(np.asarray(pool.embeddings), pool.ids, ids, picks, [1020, 1030, 1040])
        np.testing.assert_allclose([covered.a, covered.b], expected, atol=1 / 70 + 1e-9)
        assert covered.tasks == 70


def test_compare_runs__what_cannot_be_compared(made):
    with pytest.raises(InputError, match="run 12-1 is compared with itself"):
        compare_runs(made.run, made.run, store=made.store)
    other = made.store.create(project=13, settings={})
    with pytest.raises(InputError, match="run 12-1 is over project 12 and run 13-1 over project 13"):
        compare_runs(made.run, other, store=made.store)
    queued = made.store.create(project=12, settings={})
    with pytest.raises(RunError, match="run 12-2 is queued"):
        compare_runs(made.run, queued, store=made.store)
