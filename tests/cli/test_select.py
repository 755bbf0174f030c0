"""What `usl-backend select` does around the run itself."""

from contextlib import contextmanager
from types import SimpleNamespace

from usl_backend.cli import select
from usl_backend.settings import HostSettings


def test_compute__the_allocator_is_told_before_the_bars_have_a_thread(monkeypatch, tmp_path) -> None:
    happened: list[str] = []

    @contextmanager
    def bars():
        happened.append("bars")
        yield

    monkeypatch.setattr(select, "bars", bars)
    monkeypatch.setattr(
        "usl_backend.encoders.allocator.keep_freed_memory", lambda: happened.append("allocator")
    )
    monkeypatch.setattr("usl_backend.jobs.run_here", lambda *_, **__: happened.append("run"))
    store = SimpleNamespace(files=lambda _: SimpleNamespace(log=tmp_path / "log.txt"))
    select.compute(store, SimpleNamespace(id="run-1"), HostSettings(model_dir=tmp_path))
    assert happened == ["allocator", "bars", "run"]
