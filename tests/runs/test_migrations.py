import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from usl_backend.runs import RunState, RunStore
from usl_backend.runs.migrations import MIGRATIONS

LAYOUTS = Path(__file__).parent.parent / "data" / "layouts"
"""Dumps of files that earlier versions wrote, each with the same runs; `<layout>.sql`."""


@pytest.fixture(params=range(1, len(MIGRATIONS)))
def earlier(request, tmp_path):
    """A data directory as an earlier layout left it."""
    with closing(sqlite3.connect(tmp_path / "usl.sqlite3")) as sql:
        sql.executescript((LAYOUTS / f"{request.param}.sql").read_text())
    return tmp_path


def schema(directory):
    """Tables and indexes with their columns, whatever way the file came to them."""
    with closing(sqlite3.connect(directory / "usl.sqlite3")) as sql:
        names = sorted(name for (name,) in sql.execute("SELECT name FROM sqlite_schema"))
        tables = {name: sql.execute(f"PRAGMA table_info({name})").fetchall() for name in names}
        return tables, sql.execute("PRAGMA user_version").fetchone()


def test_layouts__each_released_one_has_its_dump():
    assert {path.stem for path in LAYOUTS.glob("*.sql")} == {str(n) for n in range(1, len(MIGRATIONS))}


def test_migrate__an_earlier_file_becomes_what_a_new_one_is(earlier, tmp_path_factory):
    RunStore(earlier).close()
    new = tmp_path_factory.mktemp("new")
    RunStore(new).close()
    assert schema(earlier) == schema(new)


def test_migrate__nothing_is_lost(earlier):
    with closing(RunStore(earlier)) as store:
        queued, failed, done = store.list()
        assert (queued.id, queued.state, queued.place, queued.dry_run) == (
            "13-1",
            RunState.QUEUED,
            "shell",
            True,
        )
        assert failed.error == {"type": "StudioError", "message": "no answer from Label Studio"}
        assert (done.id, done.state, done.summary.model_version) == ("12-1", RunState.DONE, "usl-12-1")
        assert done.settings == {"budget": "10", "method": "usl"}
        assert done.pool_digest == "ab" * 32
        assert store.setup(12).extra_params == {"budget": 100}
        assert store.setup(13).refused == 'unknown setting "budegt"'
        state = store.queue_state("12.1795452443")
        assert (state.run_id, state.view_id) == ("12-1", 3)
        assert store.create(project=12, settings={}).id == "12-3"


def test_migrate__a_step_that_fails_leaves_the_file_as_it_was(earlier, monkeypatch):
    before = schema(earlier)
    broken = (*MIGRATIONS[:-1], "CREATE TABLE half (id TEXT); CREATE TABLE half (id TEXT)")
    monkeypatch.setattr("usl_backend.runs.database.MIGRATIONS", broken)
    with pytest.raises(Exception, match="half"):
        RunStore(earlier)
    # every step before the broken one stands; the broken one left nothing
    tables, (version,) = schema(earlier)
    assert version == len(MIGRATIONS) - 1
    assert "half" not in tables
    assert set(before[0]) <= set(tables)


def test_installation__is_drawn_once_per_directory(tmp_path):
    names = []
    for directory in ("a", "b", "a"):
        with closing(RunStore(tmp_path / directory)) as store:
            names.append(store.installation)
    assert names[0] == names[2] != names[1]
    assert all(len(name) == 6 and set(name) <= set("0123456789abcdef") for name in names)
