"""Every way in which Label Studio, or what stands before it, misbehaves: what becomes of a real run on a real one."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from live_studio import LiveProject, LiveStudio
from proxy import HTML, Fault, FaultyProxy
from shell import FOLDER, Shell, Told, local

from usl_backend.demo.project import fill
from usl_backend.embedding import outage
from usl_backend.runs import Run, RunState
from usl_backend.settings import RunSettings
from usl_backend.studio import patience, switch, transport
from usl_backend.studio.client import StudioClient
from usl_backend.studio.preannotations import predictions

MakeProject = Callable[..., LiveProject]
TASKS, BUDGET, RESERVE = 40, 6, 3
IMPORT = r"/import/predictions"
VIEWS, VERSIONS, ANNOTATIONS = r"/api/dm/views/", r"/model-versions/\?extended=true", r"/annotations/"
LISTING = r"/api/tasks\?"
SWITCH = {"method": "PATCH", "path": r"/api/projects/\d+/"}


@dataclass
class Stand:
    """A project behind the proxy, and a shell whose Label Studio the proxy is."""

    shell: Shell
    proxy: FaultyProxy
    project: LiveProject

    def select(self, *faults: Fault, **environment: str) -> tuple[Told, Run]:
        """A run under these faults, which begin after it was asked for."""
        settings = RunSettings.resolve(explicit={"budget": BUDGET, "reserve": RESERVE}, environ={})
        asked = self.shell.store.create(
            project=self.project.id,
            project_key=self.project.now.key,
            settings=settings.to_json(),
            place="shell",
        )
        with self.proxy.misbehaving(*faults):
            told = self.shell("resume", asked.id, **environment)
        return told, self.shell.store.get(asked.id)

    def resume(self, run: Run, **environment: str) -> Run:
        """The same run, with nothing in its way."""
        told = self.shell("resume", run.id, **environment)
        assert told.code == 0, told.err
        return self.shell.store.get(run.id)

    def assert_queue(self, run: Run, *, without: tuple[int, ...] = ()) -> None:
        """Label Studio holds the run's whole queue once, and serves it."""
        assert run.state is RunState.DONE, run.error
        entries = self.shell.store.files(run.id).read_published().queue.places
        expected = [entry.instance for entry in entries if entry.instance not in without]
        assert len(expected) == BUDGET + RESERVE - len(without)
        now = self.project.now
        held = predictions(self.project.client, self.project.id)
        mine = sorted(
            (one for one in held if one.model_version == now.model_version), key=lambda one: one.score or 0.0
        )
        assert [one.task for one in mine] == expected
        assert len({one.model_version for one in held} - {now.model_version}) <= 1, "the one just replaced"
        assert (now.model_version, now.sampling) == (run.summary.model_version, switch.SAMPLING)
        assert sum("USL picks" in view["data"]["title"] for view in self.project.views()) == 1
        served = self.project.client.next_task(self.project.id)
        assert served is not None
        assert served["id"] == expected[0]

    def assert_untouched(self) -> None:
        """Nothing of a run is in force, so annotators notice nothing."""
        now = self.project.now
        assert (now.model_version or "", now.sampling) == ("", "Sequential sampling")
        assert self.project.views() == []


@pytest.fixture
def stand(
    shell: Shell, label_studio: LiveStudio, make_project: MakeProject, pictures: list[str]
) -> Iterator[Stand]:
    proxy = FaultyProxy(label_studio.url)
    proxy.listen()
    shell.environment["LABEL_STUDIO_URL"] = proxy.url
    project = make_project(data=[local(name) for name in pictures[:TASKS]])
    yield Stand(shell, proxy, project)
    proxy.hang_up()


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same number of attempts in seconds instead of a minute."""
    monkeypatch.setattr(transport, "BACK_OFF", 0.02)
    monkeypatch.setattr(patience, "PAUSE_SECONDS", 0.1)


# What passes is waited out: the run is done, its queue whole, nothing twice.
PASSING = {
    "429 with Retry-After": Fault(times=3, status=429, headers={"Retry-After": "1"}),
    "429 at the write": Fault("POST", IMPORT, times=2, status=429),
    "500 twice": Fault("GET", LISTING, times=2, status=500, body=b'{"detail": "database is locked"}'),
    "502 with a page of the proxy": Fault("GET", times=5, status=502, body=HTML),
    "502 instead of the write": Fault("POST", IMPORT, times=2, status=502, body=HTML),
    "502 after the write": Fault("POST", IMPORT, times=1, status=502, body=HTML, delivered=True),
    "504 at the switch": Fault(**SWITCH, times=2, status=504, delivered=True),
    "listing cut off": Fault("GET", LISTING, times=2, cut=0.5),
    "listing of half a JSON": Fault("GET", LISTING, times=1, truncated=0.5),
    "half an answer to the write": Fault("POST", IMPORT, times=1, truncated=0.5),
    "reset before the write": Fault("POST", IMPORT, times=1, reset=True),
    "reset after the write": Fault("POST", IMPORT, times=1, reset=True, delivered=True),
    "reset while reading": Fault("GET", times=4, reset=True),
    "slow": Fault(delay=0.3),
    "502 at the tab": Fault("POST", VIEWS, times=2, status=502, body=HTML),
    "reset after the tab": Fault("POST", VIEWS, times=3, reset=True, delivered=True),
    "502 at the cleanup": Fault("GET", VERSIONS + "$", times=4, status=502, body=HTML),
    "reset at the skip of the read-back": Fault("POST", ANNOTATIONS, times=1, reset=True, delivered=True),
    "502 at the end of the read-back": Fault("DELETE", ANNOTATIONS, times=2, status=502, delivered=True),
    "created fewer, once": Fault("POST", IMPORT, times=1, rewrite=lambda rows: rows[:-2]),
}


@pytest.mark.parametrize("name", PASSING)
def test_passing_fault__is_waited_out(stand: Stand, name: str) -> None:
    told, run = stand.select(PASSING[name])
    assert told.code == 0, told.err
    stand.assert_queue(run)
    assert all(task.unlabeled for task in stand.project.client.tasks(stand.project.id, only_unlabeled=False))


# What lasts pauses the run: bounded requests, nothing in force; resumed, it is as if nothing had been.
LASTING: dict[str, tuple[Fault, str, str]] = {
    "429 for ever": (Fault("GET", LISTING, status=429), "StudioTroubleError", "429"),
    "500 for ever": (Fault("GET", LISTING, status=500), "StudioTroubleError", "500"),
    "502 for ever": (Fault(status=502, body=HTML), "StudioTroubleError", "502"),
    "502 at the write for ever": (Fault("POST", IMPORT, status=502, body=HTML), "StudioTroubleError", "502"),
    "401 for ever": (Fault(status=401), "StudioAuthError", "LABEL_STUDIO_API_KEY"),
    "401 at the write": (Fault("POST", IMPORT, status=401), "StudioAuthError", "LABEL_STUDIO_API_KEY"),
    "half a JSON for ever": (
        Fault("GET", LISTING, truncated=0.5),
        "StudioTroubleError",
        "incomplete JSON",
    ),
    "reset for ever": (Fault("POST", IMPORT, reset=True), "StudioUnreachableError", "no answer"),
    "created fewer for ever": (
        Fault("POST", IMPORT, rewrite=lambda rows: rows[:-2]),
        "StudioTroubleError",
        "created",
    ),
}


@pytest.mark.parametrize("name", LASTING)
def test_lasting_fault__pauses_the_run_and_touches_nothing(stand: Stand, name: str) -> None:
    fault, kind, words = LASTING[name]
    told, run = stand.select(fault)
    assert told.code == 1
    assert (run.state, run.error["type"]) == (RunState.PAUSED, kind)
    assert words in run.error["message"]
    assert len(stand.proxy.asked) < 80
    stand.assert_untouched()
    stand.assert_queue(stand.resume(run))


def test_lasting_fault__after_the_switch_pauses_and_is_gone_on_with(stand: Stand) -> None:
    told, run = stand.select(Fault(path=VIEWS, status=502, body=HTML))
    assert (told.code, run.state, run.error["type"]) == (1, RunState.PAUSED, "StudioTroubleError")
    assert (stand.project.now.sampling, stand.project.views()) == (switch.SAMPLING, [])
    in_force = stand.project.now.model_version
    done = stand.resume(run)
    stand.assert_queue(done)
    assert in_force == done.summary.model_version, "a queue in force is not switched again"


def test_down__from_the_start_pauses(stand: Stand) -> None:
    stand.proxy.hang_up()
    told, run = stand.select()
    assert (told.code, run.state, run.error["type"]) == (1, RunState.PAUSED, "StudioUnreachableError")
    assert "Connection refused" in run.error["message"]
    stand.proxy.listen()
    stand.assert_queue(stand.resume(run))


def test_down__while_the_queue_is_written_leaves_nothing_in_force(stand: Stand) -> None:
    """It goes down for good right after it has taken the predictions."""
    gone = Fault("POST", IMPORT, reset=True, delivered=True, before=None)
    switch = Fault(**SWITCH, before=stand.proxy.hang_up, reset=True)
    told, run = stand.select(switch)
    assert (told.code, run.state, run.error["type"]) == (1, RunState.PAUSED, "StudioUnreachableError")
    stand.assert_untouched()
    stand.proxy.listen()
    with stand.proxy.misbehaving(gone):  # and each write that follows loses its answer
        stand.assert_queue(stand.resume(run))


@pytest.mark.parametrize(
    "during", [{"path": LISTING}, {"path": IMPORT}, SWITCH], ids=["fetch", "the write", "the switch"]
)
def test_restart__is_waited_out(
    stand: Stand, monkeypatch: pytest.MonkeyPatch, during: dict[str, str]
) -> None:
    monkeypatch.setattr(transport, "BACK_OFF", 0.1)
    told, run = stand.select(Fault(**during, times=1, before=stand.proxy.absent_for(1.5), reset=True))
    assert told.code == 0, told.err
    stand.assert_queue(run)


MEDIA = r"/data/upload/"


@pytest.fixture
def fetched_over_http(
    stand: Stand,
    label_studio: LiveStudio,
    make_project: MakeProject,
    pictures: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Stand:
    """A project of uploads: its pictures come from Label Studio too, and not from the disk."""
    monkeypatch.setattr(outage, "_PROBE_SECONDS", 0.2)
    stand.project = make_project()
    folder = label_studio.documents_root / FOLDER
    fill(stand.project.client, stand.project.id, [folder / name for name in pictures[:TASKS]])
    return stand


@pytest.mark.parametrize("name", ["restart", "500 now and then", "cut off"])
def test_pictures__a_short_outage_costs_none(fetched_over_http: Stand, name: str) -> None:
    stand = fetched_over_http
    fault = {
        "restart": Fault(path=MEDIA, times=1, before=stand.proxy.absent_for(6.0), reset=True),
        "500 now and then": Fault(path=MEDIA, times=9, status=500),
        "cut off": Fault(path=MEDIA, times=20, cut=0.5),
    }[name]
    told, run = stand.select(fault)
    assert told.code == 0, told.err
    assert run.summary.pool.readable == TASKS
    stand.assert_queue(run)


def test_pictures__an_outage_that_lasts_pauses_the_run(fetched_over_http: Stand) -> None:
    stand = fetched_over_http
    told, run = stand.select(Fault(path=MEDIA, status=502, body=HTML))
    assert (told.code, run.state, run.error["type"]) == (1, RunState.PAUSED, "StudioUnreachableError")
    assert "502" in run.error["message"]
    stand.assert_untouched()
    stand.assert_queue(stand.resume(run))


def test_pictures__of_a_token_that_is_not_accepted_any_more_pause_the_run(fetched_over_http: Stand) -> None:
    stand = fetched_over_http
    told, run = stand.select(Fault(path=MEDIA, status=401))
    assert (told.code, run.state, run.error["type"]) == (1, RunState.PAUSED, "StudioAuthError")
    stand.assert_queue(stand.resume(run))


def test_slow__beyond_the_time_out_pauses(stand: Stand, monkeypatch: pytest.MonkeyPatch) -> None:
    patient = StudioClient.from_settings
    monkeypatch.setattr(StudioClient, "from_settings", functools.partial(_hurried, patient))
    told, run = stand.select(Fault("GET", LISTING, delay=2.0))
    assert (told.code, run.state, run.error["type"]) == (1, RunState.PAUSED, "StudioUnreachableError")
    assert "in time" in run.error["message"]
    monkeypatch.undo()
    stand.shell.environment["LABEL_STUDIO_URL"] = stand.proxy.url
    stand.assert_queue(stand.resume(run))


def _hurried(patient: Callable[..., StudioClient], *arguments: Any, **options: Any) -> StudioClient:
    client = patient(*arguments, **options)
    client.http.timeout = 0.5
    return client


def test_401__of_an_expired_access_token_is_renewed(stand: Stand, personal_token: str) -> None:
    expired: set[str] = set()

    def expire() -> None:
        expired.add("now")

    fault = Fault("POST", IMPORT, times=1, status=401, authorized_by="^Bearer ", before=expire)
    told, run = stand.select(fault, LABEL_STUDIO_API_KEY=personal_token)
    assert told.code == 0, told.err
    assert expired
    assert [path for _, path in stand.proxy.asked].count("/api/token/refresh/") == 2
    stand.assert_queue(run)


def test_task_deleted__while_the_queue_is_written_is_left_out(stand: Stand) -> None:
    gone: list[int] = []

    def delete_a_pick(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        gone.append(rows[1]["task"])
        stand.project.client.http.request("DELETE", f"/api/tasks/{gone[0]}/").close()
        return rows

    told, run = stand.select(Fault("POST", IMPORT, times=1, rewrite=delete_a_pick))
    assert told.code == 0, told.err
    stand.assert_queue(run, without=tuple(gone))
    assert any("were deleted during the run" in warning for warning in run.summary.warnings)


@pytest.mark.parametrize("path", [LISTING, IMPORT], ids=["fetch", "publish"])
def test_project_deleted__fails_and_says_so(
    stand: Stand, label_studio: LiveStudio, make_project: MakeProject, pictures: list[str], path: str
) -> None:
    doomed = stand.project.client
    body = {"title": "doomed", "label_config": stand.project.now.label_config}
    number = int(doomed.http.json("POST", "/api/projects/", body=body)["id"])
    tasks = [{"data": local(name)} for name in pictures[:TASKS]]
    doomed.http.json("POST", f"/api/projects/{number}/import", body=tasks)
    stand.project = LiveProject(doomed, number, ())

    def delete() -> None:
        doomed.http.request("DELETE", f"/api/projects/{number}/").close()

    told, run = stand.select(Fault(path=path, times=1, before=delete))
    assert (told.code, run.state) == (1, RunState.FAILED), run.error
    assert run.error["type"] in ("StudioNotFoundError", "StudioError")
    again = stand.shell("resume", run.id)
    assert again.code == 1
    assert f"project {number} does not exist" in again.err or "404" in again.err
