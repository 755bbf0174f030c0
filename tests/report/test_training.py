from collections.abc import Callable
from pathlib import Path

from digit_run import Made

from usl_backend.report.compute import build
from usl_backend.report.record import load
from usl_backend.report.training import training_figures
from usl_backend.report.write import write_report


def test_training_figures__are_those_of_the_selection_and_shown(
    make_run: Callable[..., Made], tmp_path: Path
) -> None:
    made = make_run(150, budget=8, method="usl-t", epochs=3, batch=50)
    report = build(made.run, made.files)
    told = made.selection.diagnostics["training"]
    figures = report.training
    assert figures is not None
    assert list(figures.local_loss) == told["local_loss"]
    assert (figures.clusters, figures.clusters_in_use) == (8, told["clusters_in_use"])
    assert sum(figures.confidence_histogram) == 150
    stored = load(made.files)
    assert stored is not None
    assert stored.training == figures
    write_report(made.run, made.files, report, tmp_path / "report.html", read=None)
    page = (tmp_path / "report.html").read_text()
    assert "How did the training go?" in page
    assert f"{told['clusters_in_use']} of 8 learned clusters are in use" in page
    assert '<polyline class="ours"' in page.partition("training-title")[2]


def test_training_figures__a_method_that_does_not_train_has_none(make_run: Callable[..., Made]) -> None:
    made = make_run(60, budget=4)
    assert training_figures(made.selection.diagnostics) is None
    assert build(made.run, made.files).training is None


def test_training_figures__what_is_not_understood_is_left_out() -> None:
    assert training_figures({}) is None
    assert training_figures({"training": {"trained": False, "warnings": []}}) is None
    assert training_figures({"training": {"trained": True, "clusters": "many"}}) is None
