"""The steps of suggesting in a row; what they write to Label Studio is tested in tests/live."""

from typing import Any

import pytest
from played_project import Studio, labeled

from usl_backend.errors import InputError
from usl_backend.progress import ignore
from usl_backend.runs import Run, RunStore
from usl_backend.settings import HostSettings
from usl_backend.suggesting import work
from usl_backend.suggesting.accuracy import load_accuracy, measure_run
from usl_backend.suggesting.labels import read_run_labels
from usl_backend.suggesting.publish import Filled
from usl_backend.suggesting.request import SuggestRequest

PICKS = labeled(1, 2, 3, 4)
CONTROL = range(101, 161)


def carry_out(store: RunStore, run: Run, studio: Any, **request: Any) -> work.SuggestOutcome:
    return work.carry_out(
        SuggestRequest(**request),
        project=12,
        run=run,
        store=store,
        host=HostSettings.load({"model_dir": store.directory}, environ={}),
        client=studio,
        watch=lambda _: ignore,
    )


@pytest.fixture
def filled(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run is in force, and what is written goes nowhere."""
    done = Filled(run.id, "usl-suggest-12-1", 0, 0, 0, (), ())
    monkeypatch.setattr(work, "_in_force", lambda *_, **__: run)
    monkeypatch.setattr(work, "fill_in", lambda *_, **__: done)


@pytest.mark.usefixtures("filled")
def test_carry_out__stores_what_the_newest_labels_say_of_the_accuracy(store: RunStore, run: Run) -> None:
    files = store.files(run.id)
    carry_out(store, run, Studio(PICKS))
    before = load_accuracy(files)
    assert before is not None
    assert before.right is None
    studio: Any = Studio({**PICKS, **labeled(*CONTROL)})
    carry_out(store, run, studio)
    after = load_accuracy(files)
    assert after is not None
    assert after.right is not None
    assert (after.controls, after.right.share, after.target) == (60, 1.0, None)
    labels = read_run_labels(store, run, client=studio)
    host = HostSettings.load({"model_dir": store.directory}, environ={})
    assert after.right == measure_run(store, labels, host=host, client=studio, target=0.9).right
    # The target that somebody asked about is asked about again.
    carry_out(store, run, studio)
    again = load_accuracy(files)
    assert again is not None
    assert (again.target, again.reached) == (0.9, True)


@pytest.mark.usefixtures("filled")
def test_carry_out__dry_runs_and_refusals_store_nothing(store: RunStore, run: Run) -> None:
    carry_out(store, run, Studio({**PICKS, **labeled(*CONTROL)}), dry_run=True)
    with pytest.raises(InputError, match="none can be accepted at 99 %"):
        carry_out(store, run, Studio({**PICKS, **labeled(*CONTROL)}), accept=0.99)
    assert load_accuracy(store.files(run.id)) is None
