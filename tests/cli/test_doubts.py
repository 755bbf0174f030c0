"""Lines of `doubts`; what is found is tested in tests/suggesting, the whole verb in tests/live."""

from contextlib import closing
from pathlib import Path

import pytest

from usl_backend.cli import main
from usl_backend.runs import RunStore
from usl_backend.runs.doubts import Dispute, Doubt, Doubts
from usl_backend.runs.summary import Summary

FOUND = Doubts(
    "12-1", (Doubt(4711, "cat", "dog", 0.9),), (Dispute(4712, ("cat", "dog"), "cat"),), 9, 0, "", 1.0
)


def test_doubts__links_lead_to_where_browsers_reach_label_studio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in (
        ("MODEL_DIR", str(tmp_path)),
        ("LABEL_STUDIO_URL", "http://inside.test"),
        ("LABEL_STUDIO_HOST", "http://outside.test"),
        ("LABEL_STUDIO_API_KEY", "0123456789abcdef"),
    ):
        monkeypatch.setenv(name, value)
    with closing(RunStore(tmp_path)) as store:
        run = store.claim(store.create(project=12, settings={}).id)
        store.finish(run.id, Summary())
    monkeypatch.setattr("usl_backend.suggesting.labels.read_run_labels", lambda *_, **__: None)
    monkeypatch.setattr("usl_backend.suggesting.doubts.find_doubts", lambda *_, **__: FOUND)
    with pytest.raises(SystemExit):
        main(["doubts", run.id])
    assert capsys.readouterr().out.splitlines() == [
        "run 12-1: 1 of 9 labels look wrong, most doubtful first",
        "0.90  task 4711: labeled cat, others say dog  http://outside.test/projects/12/data?task=4711",
        "task 4712: annotators disagree (cat or dog), others say cat  http://outside.test/projects/12/data?task=4712",
    ]
