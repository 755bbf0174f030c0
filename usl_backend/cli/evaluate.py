"""`evaluate`: compare selection methods with random selection on labeled data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from usl_backend.cli.options import DATA, MEDIA, STUDIO, host_options, host_settings, json_option
from usl_backend.cli.verb import Verb
from usl_backend.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from usl_backend.evaluation.efficiency import Efficiency

METHODS = "usl,k-means,typiclust"


@click.command(cls=Verb)
@click.argument("target")
@click.option("--budgets", help="Numbers of labels, such as 10,20,40. Default: 1, 2, 4 and 10 per class.")
@click.option(
    "--methods", default=METHODS, show_default=True, help="Methods to compare with random selection."
)
@click.option(
    "--seeds",
    default=5,
    show_default=True,
    type=click.IntRange(2, 100),
    help="Number of test sets to average over.",
)
@click.option("--control", help="Choices tag to read, if the label config has several.")
@click.option("--data-key", help="Field, column or array with the pictures, texts or vectors.")
@click.option("--label-key", help="Column or array with the labels.")
@click.option("--encoder", help="Encoder for pictures or texts, as for select.")
@click.option(
    "--image-size", type=click.IntRange(min=32), help="Side length of the resized images, in pixels."
)
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="SVG file to write the curve to."
)
@json_option
@host_options(*STUDIO, *DATA, *MEDIA)
def evaluate(
    target: str,
    budgets: str | None,
    methods: str,
    seeds: int,
    control: str | None,
    data_key: str | None,
    label_key: str | None,
    encoder: str | None,
    image_size: int | None,
    plot: Path | None,
    as_json: bool,
    **flags: Any,
) -> None:
    """Compare methods with random selection on labeled data: accuracy by budget.

    TARGET is a project with labeled tasks (12, or its address), a CSV, JSON-lines or Parquet manifest of pictures
    or texts with a column of labels, or a file of vectors and labels (.npz, .parquet). 30 % of the labeled rows are
    held out for testing; for each method, a linear classifier on the embeddings is trained on the labels of the rows
    that the method picks.
    """
    from usl_backend.cli.labeled import LabeledReader
    from usl_backend.evaluation.curve import draw
    from usl_backend.evaluation.efficiency import replay
    from usl_backend.runs.artifacts import check_folder
    from usl_backend.selection import METHODS as KNOWN
    from usl_backend.settings import RunSettings
    from usl_backend.sources import find
    from usl_backend.studio.target import is_project

    names = [name.strip() for name in methods.split(",") if name.strip() not in ("", "random")]
    if unknown := [name for name in names if name not in KNOWN]:
        raise InputError(f"method is {unknown[0]!r}; choose among {', '.join(KNOWN)}")
    asked = _asked(budgets)  # before hours of embedding
    if plot is not None:
        check_folder(plot)
    host = host_settings(flags)
    wanted = {"encoder": encoder, "image_size": image_size}
    if is_project(target):
        settings = RunSettings.resolve(explicit=_given(**wanted, data_key=data_key), free_paths=True)
        labeled = LabeledReader(host, settings, quiet=as_json).project(target, control=control)
    else:
        settings = RunSettings.resolve(explicit=_given(**wanted), free_paths=True)
        manifest = find(target, data_key=data_key, label_key=label_key)
        labeled = LabeledReader(host, settings, quiet=as_json).manifest(manifest)
    if labeled.warning:
        click.echo(f"warning: {labeled.warning}", err=True)
    kinds = sorted(set(labeled.labels))
    places = {kind: place for place, kind in enumerate(kinds)}
    import numpy as np

    classes = np.array([places[label] for label in labeled.labels], dtype=np.int64)
    bought = asked or _usual(classes=len(kinds), rows=len(labeled.rows))
    with click.progressbar(length=seeds * len(bought), label="replaying", hidden=as_json) as bar:
        found = replay(
            labeled.rows,
            classes,
            budgets=bought,
            methods={name: KNOWN[name]() for name in names},
            seeds=seeds,
            progress=lambda _step, done, _total: bar.update(done - bar.pos),
        )
    if as_json:
        click.echo(json.dumps(_json(found), indent=1))
    else:
        _table(found, seeds)
    if plot is not None:
        _write(plot, draw(found))
        click.echo(f"curve: {plot}", err=as_json)


def _worth(labels: float | None, budgets: NDArray[np.int64]) -> str:
    """Write a number of random labels; nothing is known beyond the budgets of the random curve."""
    if labels is None:
        return f"> {budgets[-1]}"
    return f"<= {budgets[0]}" if labels <= budgets[0] else f"{labels:.0f}"


def _given(**options: Any) -> dict[str, Any]:
    """Return the options that are set."""
    return {name: value for name, value in options.items() if value is not None}


def _write(plot: Path, drawing: str) -> None:
    """Write the curve to a file."""
    try:
        plot.write_text(drawing, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{plot} cannot be written ({error.strerror}); choose another file") from error


def _asked(budgets: str | None) -> list[int]:
    """Return the budgets that were given; none for the usual ones."""
    if budgets is None:
        return []
    parts = [part.strip() for part in budgets.split(",")]
    if not all(
        part.isascii() and part.isdecimal() and 0 < len(part) < 10 and int(part) > 0 for part in parts
    ):
        raise InputError(f"budgets is {budgets!r}; give numbers such as 10,20,40")
    return list(map(int, parts))


def _usual(*, classes: int, rows: int) -> list[int]:
    """Return the usual budgets: 1, 2, 4 and 10 per class, up to a third of the rows."""
    return [b for b in (classes, 2 * classes, 4 * classes, 10 * classes) if b <= rows // 3] or [classes]


def _json(found: Efficiency) -> dict[str, Any]:
    """Return the results as a JSON object."""
    return {
        "rows": found.rows,
        "classes": found.classes,
        "budgets": list(found.budgets),
        "methods": {
            name: {
                "accuracy": values.tolist(),
                "classes_covered": found.covered[name].tolist(),
                "random_equivalent": [
                    found.random_equivalent(name, place) for place in range(len(found.budgets))
                ],
            }
            for name, values in found.accuracy.items()
        },
        "random": {"budgets": found.random_budgets.tolist(), "accuracy": found.random_accuracy.tolist()},
    }


def _table(found: Efficiency, seeds: int) -> None:
    """Print one line per budget and method."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for heading in ("labels", "method", "accuracy", "s.d.", "classes seen", "worth random labels"):
        table.add_column(heading, justify="left" if heading == "method" else "right")
    for place, budget in enumerate(found.budgets):
        for name, values in found.accuracy.items():
            worth = found.random_equivalent(name, place)
            table.add_row(
                str(budget),
                name,
                f"{100 * values[place].mean():.1f} %",
                f"{100 * values[place].std(ddof=1):.1f}",
                f"{100 * found.covered[name][place].mean():.0f} %",
                _worth(worth, found.random_budgets),
            )
    click.echo(
        f"{found.rows} labeled rows, {found.classes} classes, {seeds} seeds, 30 % of the rows for testing"
    )
    Console().print(table)
