import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from digit_run import Made

from usl_backend.errors import CancelledError, RunError
from usl_backend.evaluation.reach import reach
from usl_backend.instances import Instance
from usl_backend.report.compute import build
from usl_backend.report.record import folder, load, load_map
from usl_backend.selection import METHODS
from usl_backend.selection.rows.preparation import fit_projection


@pytest.fixture
def small(make_run: Callable[..., Made]) -> Made:
    return make_run(90, budget=6)


def test_build__figures_belong_to_the_run(small: Made) -> None:
    report = build(small.run, small.files)
    assert [why.task for why in report.whys] == list(small.queue.instances)
    assert sum(why.size for why in report.whys) == report.instances == 90
    assert report.skipped == {7: '"image" is empty', 5: "the file is empty (0 bytes)"}
    order = np.argsort(small.selection.score, kind="stable")
    assert [low.task for low in report.lowest[:10]] == small.ids[order[:10]].tolist()
    rows = fit_projection(small.digits / np.linalg.norm(small.digits, axis=1)[:, None], dimensions=128).apply(
        small.digits / np.linalg.norm(small.digits, axis=1)[:, None]
    )
    again = reach(rows, small.selection.indices, rng=np.random.default_rng([0, 0x5EED]))
    assert report.trust.picks == pytest.approx(again.picks, abs=1e-5)
    assert report.whys[-1].coverage == pytest.approx(again.picks[-1])
    assert report.map.method == "pca"


def test_build__every_shown_task_is_of_the_run(small: Made) -> None:
    report = build(small.run, small.files)
    known = set(small.ids.tolist())
    picks = {why.task for why in report.whys}
    for view in report.clusters:
        assert {view.runner_up, *view.members} - {None} <= known - picks
        mine = small.selection.cluster[np.searchsorted(small.ids, view.members)]
        assert set(mine.tolist()) <= {view.rank}


def test_build__map_has_every_instance_and_numbers_the_picks(small: Made) -> None:
    build(small.run, small.files)
    points = load_map(small.files)
    assert points is not None
    assert points.ids.tolist() == small.ids.tolist()
    numbered = {int(points.ids[row]): int(points.rank[row]) for row in np.flatnonzero(points.rank >= 0)}
    assert numbered == {place.instance: place.rank for place in small.queue.places}
    assert points.cluster.tolist() == small.selection.cluster.tolist()


def test_build__is_computed_once_and_again_when_forced(small: Made) -> None:
    first = build(small.run, small.files)
    steps: list[str] = []

    def note(step: str, _done: int, _total: int) -> None:
        steps.append(step)

    assert build(small.run, small.files, progress=note) == first
    assert steps == []
    again = build(small.run, small.files, force=True, progress=note)
    assert steps == [
        "comparing",
        "measuring coverage",
        "building galleries",
        "selecting with other seeds",
        "drawing the map",
    ]
    assert (again.whys, again.trust) == (first.whys, first.trust)


def test_build__of_a_method_that_is_gone_says_so_and_has_all_else(
    make_run: Callable[..., Made], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_run(90, budget=6, method="k-means", restarts=2)
    before = build(made.run, made.files)
    left = {name: method for name, method in METHODS.items() if name != "k-means"}
    for module in ("report.compute", "selection.registry", "settings.run"):
        monkeypatch.setattr(f"usl_backend.{module}.METHODS", left)
    report = build(made.run, made.files, force=True)
    assert report.trust.stability is None
    assert report.trust.stability_note == (
        "Not computed: the method k-means is no longer part of this version, so nothing can be selected with it again."
    )
    assert before.trust.stability is not None
    assert (report.whys, report.clusters, report.trust.picks) == (
        before.whys,
        before.clusters,
        before.trust.picks,
    )


def test_build__of_a_next_round_by_labels_has_no_other_seeds(make_run: Callable[..., Made]) -> None:
    made = make_run(90, budget=6)
    chosen = made.files.read_selection()
    for rule, told in (("smallest-margin", True), ("keep-labels", False)):
        diagnostics = {**chosen.diagnostics, "next": {"rule": rule}}
        made.files.write_selection(dataclasses.replace(chosen, diagnostics=diagnostics))
        trust = build(made.run, made.files, force=True).trust
        assert (trust.stability is None, "chosen by the labels" in (trust.stability_note or "")) == (
            told,
            told,
        )


def test_build__stopped_on_the_way_leaves_no_report(small: Made) -> None:
    def stop(step: str, _done: int, _total: int) -> None:
        if step == "drawing the map":
            raise CancelledError("enough")

    with pytest.raises(CancelledError):
        build(small.run, small.files, progress=stop)
    assert load(small.files) is None


@pytest.mark.parametrize("damage", ["", "{", '{"layout": 1}'])
def test_load__a_damaged_report_counts_as_none(small: Made, damage: str) -> None:
    build(small.run, small.files)
    (folder(small.files) / "report.json").write_text(damage)
    assert load(small.files) is None


def test_load__a_report_of_another_layout_counts_as_none(small: Made) -> None:
    build(small.run, small.files)
    path = folder(small.files) / "report.json"
    path.write_text(path.read_text().replace('"layout": 1', '"layout": 0'))
    assert load(small.files) is None


def test_load_map__damaged_counts_as_none(small: Made) -> None:
    build(small.run, small.files)
    (folder(small.files) / "map.npz").write_bytes(b"rubbish")
    assert load_map(small.files) is None


def test_build__a_run_without_files_is_told(small: Made) -> None:
    (small.files.directory / "pool.npz").unlink()
    with pytest.raises(RunError, match="files of run 12-1 were removed"):
        build(small.run, small.files)


def test_build__a_run_that_is_not_done_is_told(small: Made) -> None:
    run = small.store.create(project=13, settings={})
    with pytest.raises(RunError, match="run 13-1 is queued; its report can be computed once it is done"):
        build(run, small.store.files(run.id))


def test_build__other_seeds_choose_from_a_part_of_a_large_pool(
    small: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = build(small.run, small.files).trust.stability
    monkeypatch.setattr("usl_backend.report.again.ROWS", 50)
    part = build(small.run, small.files, force=True).trust.stability
    assert whole is not None
    assert part is not None
    # ten per pick are more than fifty
    assert (whole.tasks, part.tasks) == (None, 60)
    assert part.same_clusters > part.same_clusters_random


def test_build__reads_no_list_of_pictures(small: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    read, count = Instance.from_json, 0

    def counted(values: dict[str, object]) -> Instance:
        nonlocal count
        count += 1
        return read(values)

    monkeypatch.setattr(Instance, "from_json", staticmethod(counted))
    assert build(small.run, small.files).modality == "image"
    assert count == 1
