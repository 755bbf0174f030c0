"""What has become of queues, after every order of publishing and resetting."""

import random

import pytest

from usl_backend.instances import QueueState
from usl_backend.runs import RunStore
from usl_backend.runs.extensions import ExtensionNote, note_extension, read_extensions
from usl_backend.runs.succession import Succession, former, in_force, linked, succession, titles
from usl_backend.runs.summary import ProjectNote, Summary, Tab


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path)
    yield store
    store.close()


def finished(store, key, *, dry_run=False):
    run = store.claim(store.create(project=12, project_key=key, settings={}, dry_run=dry_run).id)
    version = None if dry_run else f"usl-{run.id}"
    tab = Tab(1, "http://ls")
    store.finish(run.id, Summary(ProjectNote(12, key, f"title of {run.id}"), model_version=version, tab=tab))
    if not dry_run:
        store.save_queue_state(key, QueueState(run.id, f"usl-{run.id}", "u", 1, None, "s", None))
    return run.id


@pytest.mark.parametrize("seed", range(6))
def test_succession__against_the_history(store, seed):
    """Two projects that had one id after the other, dry runs, failures and resets in any order."""
    draw = random.Random(seed)
    published, now = {"12.100": [], "12.200": []}, {}
    others = []
    for _ in range(12):
        key = draw.choice(list(published))
        match draw.choice(["publish", "publish", "dry", "fail", "reset"]):
            case "publish":
                now[key] = finished(store, key)
                published[key].append(now[key])
            case "dry":
                others.append(finished(store, key, dry_run=True))
            case "fail":
                run = store.claim(store.create(project=12, project_key=key, settings={}).id)
                store.fail(run.id, "StudioError", "no")
                others.append(run.id)
            case "reset":
                store.save_queue_state(key, None)
                now.pop(key, None)
    for key, runs in published.items():
        for place, run_id in enumerate(runs):
            told = succession(store, store.get(run_id))
            mine = now.get(key) == run_id
            later = runs[place + 1] if place + 1 < len(runs) else ""
            assert told == Succession(True, mine, "" if mine else later, now.get(key, ""))
            assert (linked(store, store.get(run_id)).summary.tab is not None) == mine
    for run_id in others:
        assert succession(store, store.get(run_id)) == Succession()
    assert in_force(store, store.list()) == set(now.values())


def test_titles__newest_run_that_knows_one(store):
    finished(store, "12.100")
    newest = finished(store, "12.100")
    store.create(project=12, project_key="12.100", settings={})
    assert titles(store.list()) == {12: f"title of {newest}"}


def test_extensions__are_kept_in_order(store):
    files = store.files("12-1")
    assert read_extensions(files) == ()
    notes = tuple(ExtensionNote(float(n), n, n, 0, False, "why") for n in range(3))
    for note in notes:
        note_extension(files, note)
    assert read_extensions(files) == notes


def test_former__completed_run_of_the_same_project_before_it(store):
    first, second = finished(store, "12.100"), finished(store, "12.100", dry_run=True)
    other = store.claim(store.create(project=13, settings={}).id)
    store.finish(other.id, Summary())
    failed = store.claim(store.create(project=12, settings={}).id)
    store.fail(failed.id, "X", "y")
    last = finished(store, "12.100")
    assert former(store.list()) == {last: second, second: first}
