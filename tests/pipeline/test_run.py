"""A run on real pictures with the real encoder; only Label Studio is played, by a listing that cannot be written to."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from usl_backend import pipeline
from usl_backend.demo.dataset import write_images
from usl_backend.embedding.encoding import load_encoding
from usl_backend.errors import CancelledError, InputError
from usl_backend.instances import Pool, Queue
from usl_backend.media import Location
from usl_backend.pipeline.summarize import summarize
from usl_backend.progress import Progress, StageProgress, ignore
from usl_backend.runs import Run, RunState, RunStore
from usl_backend.runs.budget_curves import load_budgets
from usl_backend.runs.progress import RunProgress
from usl_backend.runs.summary import PoolNote
from usl_backend.selection import Selection
from usl_backend.settings import HostSettings, RunSettings
from usl_backend.sinks.making_up import current_queue
from usl_backend.studio.records import LabeledTask, Project, Task

CONFIG = """<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="a"/><Choice value="b"/>
</Choices></View>"""
PICTURES = 40


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    write_images(folder)
    return folder


@dataclass
class Studio:
    """Tasks 1 .. n that show the pictures; `open_files` counts how often one was located."""

    pictures: Path
    labeled_tasks: frozenset[int] = frozenset()
    broken: frozenset[int] = frozenset()
    noise: frozenset[int] = frozenset()
    located: list[int] = field(default_factory=list)
    listed: int = 0
    url: str = "http://studio.test"
    browser_url: str = "http://studio.test"

    def project(self, project_id: int) -> Project:
        return Project(
            project_id, f"{project_id}.100", "Clothes", 100.0, CONFIG, "", "", 1, False, True, PICTURES
        )

    def tasks(self, project_id: int, *, only_unlabeled: bool, progress: Progress) -> Iterator[Task]:
        self.listed += 1
        for number in range(1, PICTURES + 1):
            name = "missing" if number in self.broken else f"{number:04d}"
            if number in self.noise:
                name = f"noise-{number}"
            yield Task(number, {"image": f"{name}.png"}, int(number in self.labeled_tasks), 0)
        progress("listing tasks", PICTURES, PICTURES)

    def labeled(self, project_id: int) -> Iterator[LabeledTask]:
        for number in sorted(self.labeled_tasks):
            value = {"choices": ["ab"[number % 2]]}
            yield LabeledTask(
                number,
                {},
                ({"id": number, "completed_by": 1, "result": [{"from_name": "c", "value": value}]},),
            )

    def locate(self, task_id: int, source: str, **_: object) -> Location:
        self.located.append(task_id)
        return Location(path=self.pictures / source)

    def version(self) -> str:
        return "1.23.2"


@dataclass
class Bench:
    """Runs of one data directory."""

    store: RunStore
    host: HostSettings

    def start(self, *, key: str = "12.100", **explicit: object) -> Run:
        settings = RunSettings.resolve(explicit={"engine": "torch", **explicit}, environ={}).to_json()
        run = self.store.create(project=12, project_key=key, settings=settings, dry_run=True, place="shell")
        return self.store.claim(run.id)

    def execute(self, run: Run, studio: Studio, watch: StageProgress | None = None) -> None:
        progress = RunProgress(self.store, run.id, watch=watch)
        pipeline.execute(run, store=self.store, host=self.host, client=studio, progress=progress)  # type: ignore[arg-type]


@pytest.fixture
def bench(tmp_path: Path, pictures: Path) -> Iterator[Bench]:
    store = RunStore(tmp_path)
    host = HostSettings(model_dir=tmp_path, label_studio_local_files_document_root=pictures)
    yield Bench(store, host)
    store.close()


def queue(bench: Bench, run: Run, role: str = "pick") -> list[int]:
    return [
        entry.instance
        for entry in bench.store.files(run.id).read_published().queue.places
        if entry.role == role
    ]


def test_execute__dry_run_fills_the_record_and_publishes_nothing(bench: Bench, pictures: Path) -> None:
    seen: list[str] = []
    run = bench.start(budget=5, reserve=3)
    bench.execute(run, Studio(pictures), watch=lambda stage: seen.append(stage) or ignore)
    done = bench.store.get(run.id)
    assert done.state is RunState.DONE
    assert [stage for stage, before in zip(seen, [None, *seen], strict=False) if stage != before] == [
        "fetch", "embed", "select",
    ]  # fmt: skip
    picks, reserve = queue(bench, run), queue(bench, run, "reserve")
    assert (len(set(picks)), len(set(reserve)), set(picks) & set(reserve)) == (5, 3, set())
    assert (done.summary.model_version, done.summary.tab, done.summary.verified) == (
        None,
        None,
        None,
    )
    assert done.summary.pool == PoolNote(40, 0, 40, readable=40, skipped=0, encoded=40)
    assert set(done.summary.seconds) == {"fetch", "embed", "select", "publish"}
    assert done.versions["label-studio"] == "1.23.2"
    assert bench.store.queue_state("12.100") is None
    files = bench.store.files(run.id)
    pool, hashes = files.read_pool()
    np.testing.assert_allclose(np.linalg.norm(pool.embeddings, axis=1), 1, atol=1e-5)
    assert [int(pool.ids[row]) for row in files.read_selection().indices] == picks
    assert len(set(hashes)) == PICTURES
    assert files.read_neighbors().indices.shape == (PICTURES, 20)
    curve = load_budgets(files)
    assert curve is not None
    assert (curve.default, curve.budgets[-1]) == (4, PICTURES)


def test_execute__picks_that_were_made_up_for_are_those_of_the_summary(
    bench: Bench, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = bench.start(budget=5, reserve=3)
    seen = []

    def with_the_last_pick_first(pool: Pool, selection: Selection, **options: Any) -> tuple[Selection, Queue]:
        turned = replace(selection, indices=selection.indices[::-1].copy())
        return turned, current_queue(pool, turned, **options)[1]

    def watched(*arguments: Any, selection: Selection, **options: Any) -> Any:
        seen.append(selection.indices)
        return summarize(*arguments, selection=selection, **options)

    monkeypatch.setattr("usl_backend.pipeline.run.current_queue", with_the_last_pick_first)
    monkeypatch.setattr("usl_backend.pipeline.run.summarize", watched)
    bench.execute(run, Studio(pictures))
    files = bench.store.files(run.id)
    np.testing.assert_array_equal(seen, [files.read_selection().indices])
    assert [int(files.read_pool()[0].ids[row]) for row in seen[0]] == queue(bench, run)


def test_execute__second_run_embeds_nothing_and_chooses_the_same(bench: Bench, pictures: Path) -> None:
    first, studio = bench.start(budget=5), Studio(pictures)
    bench.execute(first, studio)
    second = bench.start(budget=5)
    bench.execute(second, studio)
    one, two = bench.store.get(first.id), bench.store.get(second.id)
    assert two.summary.pool.encoded == 0
    assert queue(bench, first) == queue(bench, second)
    assert one.pool_digest == two.pool_digest
    bench.execute(third := bench.start(budget=5, seed=1), studio)
    assert bench.store.get(third.id).summary.seed == 1


def test_execute__rows_of_two_engines_are_never_mixed(bench: Bench, pictures: Path) -> None:
    """A run by OpenVINO takes nothing from torch's cache, and goes on with its engine."""
    studio = Studio(pictures)
    bench.execute(slow := bench.start(budget=5), studio)
    bench.execute(fast := bench.start(budget=5, engine="auto"), studio)
    first, second = bench.store.get(slow.id).summary, bench.store.get(fast.id).summary
    assert (first.encoder.engine, second.encoder.engine) == ("", "OpenVINO in float32")
    assert second.encoder.key == f"{first.encoder.key.removesuffix('v2')}q1-openvino"
    assert (first.pool.encoded, second.pool.encoded) == (40, 40)
    assert bench.store.get(slow.id).pool_digest != bench.store.get(fast.id).pool_digest
    by_torch, by_openvino = (bench.store.files(run.id).read_pool()[0].embeddings for run in (slow, fast))
    np.testing.assert_allclose(by_openvino, by_torch, atol=2e-6)
    # What an extension or a resumed run reads is the choice that was made, not the setting.
    for run, engine in ((slow, "openvino"), (fast, "torch")):
        changed = RunSettings.resolve(explicit={"engine": engine}, environ={})
        files = bench.store.files(run.id)
        fields = files.read_inventory().fields
        kept = load_encoding(
            changed, fields, choice=files.read_encoders(None, fields), directory=bench.host.encoders
        )
        assert kept.key == bench.store.get(run.id).summary.encoder.key


def test_execute__resumed_run_goes_on_after_its_last_complete_stage(bench: Bench, pictures: Path) -> None:
    studio = Studio(pictures)
    run = bench.start(budget=5)
    bench.execute(run, studio)
    files, picks = bench.store.files(run.id), queue(bench, run)
    for name in (files.SELECTION, files.PUBLISHED):
        (files.directory / name).unlink()
    again = Studio(pictures)
    resumed = bench.start(budget=5)
    for artifact in (files.INSTANCES, files.EMBEDDINGS, files.POOL, files.NEIGHBORS):
        (bench.store.files(resumed.id).directory / artifact).write_bytes(
            (files.directory / artifact).read_bytes()
        )
    bench.execute(resumed, again)
    assert (again.listed, again.located) == (0, [])
    assert queue(bench, resumed) == picks
    assert set(bench.store.get(resumed.id).summary.seconds) == {"select", "publish"}
    assert bench.store.get(resumed.id).summary.pool.encoded is None


def test_execute__labeled_tasks_hold_their_place_and_are_never_queued(bench: Bench, pictures: Path) -> None:
    labeled = frozenset(range(1, 21))
    run = bench.start(budget=6, reserve=14, keep_labels=True)
    bench.execute(run, Studio(pictures, labeled_tasks=labeled))
    queued = {*queue(bench, run), *queue(bench, run, "reserve")}
    assert len(queued) == 20
    assert not queued & labeled
    pool, _ = bench.store.files(run.id).read_pool()
    assert labeled <= set(pool.ids.tolist())
    assert bench.store.get(run.id).summary.pool.readable == 20


def test_execute__pinned_tasks_come_first_and_excluded_ones_never(bench: Bench, pictures: Path) -> None:
    plain = bench.start(budget=6)
    bench.execute(plain, Studio(pictures))
    barred = [*queue(bench, plain)[:3], *queue(bench, plain, "reserve")[:3]]
    pins = [one for one in (37, 2) if one not in barred]
    run = bench.start(budget=6, reserve=40, control=20, pin=pins, exclude=barred)
    bench.execute(run, Studio(pictures))
    assert queue(bench, run)[: len(pins)] == pins
    queued = bench.store.files(run.id).read_published().queue.tasks
    assert sorted(queued) == sorted({*range(1, PICTURES + 1)} - {*barred})
    pool, _ = bench.store.files(run.id).read_pool()
    assert {*barred} <= {*pool.ids.tolist()}, "still rows of the pool"
    again = bench.start(**bench.store.get(run.id).settings)
    bench.execute(again, Studio(pictures))
    assert bench.store.files(again.id).read_published().queue.tasks == queued


def test_execute__outliers_are_named_and_where_asked_kept_out_of_picks_and_reserve(
    bench: Bench, pictures: Path
) -> None:
    rng, noise = np.random.default_rng(0), frozenset(range(4, 40, 5))
    for number in noise:
        shades = np.full((28, 28), 90, np.uint8) if number == 4 else rng.integers(0, 256, (28, 28), np.uint8)
        Image.fromarray(shades).save(pictures / f"noise-{number}.png")
    studio = Studio(pictures, noise=noise)
    plain = bench.start(budget=8, reserve=32)
    bench.execute(plain, studio)
    summary = bench.store.get(plain.id).summary
    picked = [task for task in queue(bench, plain) if task in noise]
    assert picked
    assert (summary.outliers.known, summary.outliers.count, summary.outliers.picks) == (40, 8, len(picked))
    assert [one.task for one in summary.outliers.first][: len(picked)] == picked
    assert {one.task: one.reason for one in summary.outliers.first} == dict.fromkeys(noise, "noise") | {
        4: "one color"
    }
    assert summary.warnings[0].startswith(
        f"outliers are {len(picked)} of 8 picks and 8 of 40 tasks (7 noise, 1"
    )
    again = bench.start(budget=8, reserve=32, control=39, exclude_outliers=True, pin=[9])
    bench.execute(again, studio)
    summary = bench.store.get(again.id).summary
    assert (summary.outliers.count, summary.outliers.picks, summary.outliers.kept_out) == (8, 1, True)
    assert summary.warnings == ()
    assert (len(queue(bench, again)), queue(bench, again)[0]) == (8, 9)
    assert noise & {*queue(bench, again), *queue(bench, again, "reserve")} == {9}
    drawn = bench.store.files(again.id).read_published().queue.control_set
    assert len(noise & {*drawn}) >= 7, "the control set is drawn from the whole pool"
    with pytest.raises(InputError, match="budget is 33 but only 32 tasks can be chosen"):
        bench.execute(bench.start(budget=33, exclude_outliers=True), studio)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"pin": "2,41"}, "41 is pinned, but project 12 has no such task"),
        ({"exclude": "9x"}, "9x is excluded, but project 12 has no such task"),
        ({"pin": "1"}, "1 is pinned, but has a label already"),
        ({"pin": "1", "keep_labels": True}, "1 is pinned, but has a label already"),
        ({"pin": "3"}, "3 is pinned, but could not be read: "),
        ({"pin": "2,4,5", "budget": 2}, "budget is 2, but 3 tasks are pinned; raise the budget to 3 or more"),
        ({"exclude": [*range(4, 41)], "budget": 5}, "budget is 5 but only 2 tasks can be chosen"),
    ],
    ids=str,
)
def test_execute__wishes_that_cannot_be_kept_are_named(
    bench: Bench, pictures: Path, settings: dict[str, object], words: str
) -> None:
    run = bench.start(**{"budget": 5, **settings})
    with pytest.raises(InputError, match=words):
        bench.execute(run, Studio(pictures, labeled_tasks=frozenset({1}), broken=frozenset({3})))


def test_execute__excluded_task_with_a_label_is_no_mistake(bench: Bench, pictures: Path) -> None:
    run = bench.start(budget=5, exclude="1")
    bench.execute(run, Studio(pictures, labeled_tasks=frozenset({1})))
    assert bench.store.get(run.id).summary.picks == 5


def test_execute__unreadable_tasks_are_set_aside(bench: Bench, pictures: Path) -> None:
    run = bench.start(budget=5)
    bench.execute(run, Studio(pictures, broken=frozenset({3, 17})))
    summary = bench.store.get(run.id).summary
    assert [unread.task for unread in summary.skipped.first] == [3, 17]
    assert summary.pool.readable == 38
    assert summary.warnings[0].startswith("2 of 40 unlabeled tasks could not be read")


def test_execute__budget_that_only_the_unreadable_would_fill_is_refused(bench: Bench, pictures: Path) -> None:
    run = bench.start(budget=39)
    with pytest.raises(InputError, match=f"budget is 39 but only 38 of 40 .* /usl/runs/{run.id} "):
        bench.execute(run, Studio(pictures, broken=frozenset({3, 17})))
    assert bench.store.get(run.id).state is RunState.RUNNING
    assert not bench.store.files(run.id).has_selection()


@pytest.mark.parametrize("stage", ["fetch", "embed", "select"])
def test_execute__cancelled_in_any_stage_stops_there(bench: Bench, pictures: Path, stage: str) -> None:
    run = bench.start(budget=5)

    def cancel(now: str) -> Progress:
        if now == stage and bench.store.get(run.id).state is RunState.RUNNING:
            bench.store.cancel(run.id)
        return ignore

    with pytest.raises(CancelledError):
        bench.execute(run, Studio(pictures), watch=cancel)
    files = bench.store.files(run.id)
    done = [files.has_instances(), files.has_pool(), files.has_selection(), files.has_published()]
    assert (
        done
        == {"fetch": [False] * 4, "embed": [True, *[False] * 3], "select": [True, True, False, False]}[stage]
    )
    assert bench.store.get(run.id).state is RunState.CANCELLED


def test_execute__control_set_follows_the_picks_and_may_share_with_them(bench: Bench, pictures: Path) -> None:
    run = bench.start(budget=20, reserve=3, control=20)
    bench.execute(run, Studio(pictures))
    entries = bench.store.files(run.id).read_published().queue.places
    roles = [entry.role for entry in entries]
    drawn = [entry for entry in entries if entry.control]
    behind = [entry for entry in drawn if entry.role == "control"]
    assert len(drawn) == 20
    # 20 of 40 drawn without regard to 20 picks: some are picks, some are not
    assert 0 < len(behind) < 20
    assert {entry.role for entry in drawn} == {"pick", "control"}
    assert roles == ["pick"] * 20 + ["control"] * len(behind) + ["reserve"] * 3
    assert [entry.rank for entry in entries] == list(range(len(entries)))
    assert len({entry.instance for entry in entries}) == len(entries)
    summary = bench.store.get(run.id).summary
    assert (summary.picks, summary.control, summary.reserve) == (20, 20, 3)


def test_execute__control_set_does_not_depend_on_budget_or_change_the_picks(
    bench: Bench, pictures: Path
) -> None:
    found = []
    for explicit in ({"budget": 6, "control": 20}, {"budget": 12, "control": 20}, {"budget": 6}):
        run = bench.start(reserve=0, **explicit)
        bench.execute(run, Studio(pictures))
        entries = bench.store.files(run.id).read_published().queue.places
        found.append(({entry.instance for entry in entries if entry.control}, queue(bench, run)))
    assert found[0][0] == found[1][0]
    assert found[0][1] == found[2][1]


def test_execute__a_control_set_larger_than_the_pool_is_refused_before_any_picture_is_read(
    bench: Bench, pictures: Path
) -> None:
    run, studio = bench.start(budget=4, control=41), Studio(pictures)
    with pytest.raises(InputError, match="control is 41 but only 40 tasks can be drawn; lower control to 40"):
        bench.execute(run, studio)
    assert not studio.located


def test_execute__a_control_set_larger_than_what_can_be_read_is_refused_before_the_selection(
    bench: Bench, pictures: Path
) -> None:
    run = bench.start(budget=4, control=39)
    with pytest.raises(InputError, match="control is 39 but only 38 tasks can be drawn; lower control to 38"):
        bench.execute(run, Studio(pictures, broken=frozenset({3, 4})))
    assert not bench.store.files(run.id).has_selection()


def test_execute__cancelled_training_goes_on_from_its_last_epoch(
    bench: Bench, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usl_backend.runs.progress.INTERVAL", 0.0)
    wanted = {"method": "usl-t", "budget": 5, "epochs": 4, "batch": 20}
    whole = bench.start(**wanted)
    bench.execute(whole, Studio(pictures))
    run = bench.start(**wanted)
    files = bench.store.files(run.id)

    def cancel(stage: str) -> Progress:
        def report(step: str, done: int, total: int) -> None:
            if step == "training" and files.checkpoint().read() is not None:
                raise CancelledError("enough")

        return report

    with pytest.raises(CancelledError):
        bench.execute(run, Studio(pictures), watch=cancel)
    assert not files.has_selection()
    assert files.has_neighbors()
    bench.execute(run, Studio(pictures))
    told = files.read_selection().diagnostics["training"]
    assert 1 <= told["resumed_from"] <= 3
    assert len(told["local_loss"]) == 4
    assert queue(bench, run) == queue(bench, whole)
    assert files.checkpoint().read() is None
    summary = bench.store.get(run.id).summary.method
    assert (summary.name, summary.diagnostics["training"]["clusters"]) == ("usl-t", 5)


def test_execute__encoder_is_finetuned_on_the_pictures_of_the_run(bench: Bench, pictures: Path) -> None:
    steps: list[str | None] = []
    run = bench.start(method="usl-t", mode="finetune", budget=4, epochs=2, image_size=32, micro_batch=16)
    bench.execute(run, Studio(pictures), watch=lambda _stage: lambda step, _done, _total: steps.append(step))
    files = bench.store.files(run.id)
    told = files.read_selection().diagnostics["training"]
    assert len(told["local_loss"]) == 2
    assert len(set(queue(bench, run))) == 4
    assert {"reading pictures", "training"} <= set(steps)
    assert not (files.directory / "pictures.npy").exists()
    assert files.checkpoint().read() is None


@pytest.mark.parametrize(
    ("labeled", "rule"), [(7, "keep-labels"), (8, "least-sure-half"), (20, "smallest-margin")]
)
def test_execute__next_round_goes_by_the_labels_and_says_so(
    bench: Bench, pictures: Path, labeled: int, rule: str
) -> None:
    run = bench.start(budget=4, reserve=2, next=True)
    assert run.settings["keep_labels"]
    bench.execute(run, Studio(pictures, labeled_tasks=frozenset(range(1, labeled + 1))))
    picks, summary = queue(bench, run), bench.store.get(run.id).summary
    assert len(set(picks)) == 4
    assert min(picks) > labeled
    assert summary.method.diagnostics["next"]["rule"] == rule
    assert summary.method.next_round.startswith(f"next round by {rule} (")
    assert f"{labeled} labels of 2 classes are {labeled / 2:.1f} per class" in summary.method.next_round
    stored = bench.store.files(run.id).read_labels()
    assert stored == {number: "ab"[number % 2] for number in range(1, labeled + 1)}


def test_execute__resumed_next_round_goes_by_the_labels_of_its_first_attempt(
    bench: Bench, pictures: Path
) -> None:
    chosen = []
    for later in (8, 20):
        run = bench.start(budget=4, reserve=2, next=True)

        def cancel(stage: str) -> Progress:
            def stop(step: str, _done: int, _total: int, /) -> None:
                if step == "suggesting":
                    raise CancelledError

            return stop

        with pytest.raises(CancelledError):
            bench.execute(run, Studio(pictures, labeled_tasks=frozenset(range(1, 9))), watch=cancel)
        bench.execute(run, Studio(pictures, labeled_tasks=frozenset(range(1, later + 1))))
        chosen.append(queue(bench, run))
    assert chosen[0] == chosen[1]
