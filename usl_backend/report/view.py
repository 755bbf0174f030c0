"""What the templates are given: a report with its pictures, texts and links. Nothing is rendered or read here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from usl_backend.report import words
from usl_backend.report.chart import Chart, LossChart, coverage_chart, loss_chart
from usl_backend.report.record import ClusterView, Report, Why
from usl_backend.report.sources import Sources, excerpt_of, name_of

if TYPE_CHECKING:
    from pathlib import Path

    from usl_backend.report.check import Check
    from usl_backend.runs import Run

PLOTLY: Final = "plotly-gl2d-3.7.0.min.js"
"""Plotly's script for points drawn by WebGL, as npm's plotly.js-gl2d-dist-min has it; the smallest with `scattergl`."""

PER_PAGE: Final = 100
"""Picks on one page of the gallery and of the table."""


@dataclass(frozen=True)
class Card:
    """One task as it is shown.

    Attributes
    ----------
    task
        Its id.
    name
        What it is called: "task 4711", or the name of a file outside Label Studio.
    url
        Where it opens in Label Studio; None where that is not known.
    image
        Address of its thumbnail; None for a text and where there is none.
    text
        Excerpt of a text; "" for a picture.
    alt
        What the picture is, for who does not see it.
    missing
        Whether it is a picture that cannot be shown.
    """

    task: int
    name: str
    url: str | None
    image: str | None
    text: str
    alt: str
    missing: bool


@dataclass(frozen=True)
class Page:
    """A stretch of the picks: numbers from `first` to below `end`, and neighbors to go to (1 = first page)."""

    number: int
    pages: int
    first: int
    end: int


@dataclass(frozen=True)
class View:
    """A report as the templates see it.

    Parameters
    ----------
    run, report, sources
        What is shown.
    image
        Address of a task's thumbnail, or None.
    task_url
        Address of a task in Label Studio, or None.
    check
        What the labels of the control set say, where they were read.
    """

    run: Run
    report: Report
    sources: Sources
    image: Callable[[int], str | None]
    task_url: Callable[[int], str | None]
    check: Check | None = None
    words: object = field(default=words)

    @property
    def title(self) -> str:
        """The project's title, or its number."""
        summary = self.run.summary
        return (summary.project.title if summary is not None else "") or self.run.subject

    @property
    def chart(self) -> Chart:
        """The coverage curve."""
        return coverage_chart(self.report.trust)

    @property
    def losses(self) -> LossChart | None:
        """The losses over the epochs of a training of two or more."""
        training = self.report.training
        return loss_chart(training) if training is not None and len(training.local_loss) > 1 else None

    @property
    def tab_url(self) -> str | None:
        """The ordered tab in Label Studio."""
        tab = None if self.run.summary is None else self.run.summary.tab
        return tab.url if tab is not None and tab.url.startswith(("http://", "https://")) else None

    def card(self, task: int) -> Card:
        """One task."""
        instance = self.sources.get(task)
        text = "" if instance is None else excerpt_of(instance)
        name = "" if instance is None else name_of(instance)
        image = self.image(task) if instance is not None and instance.modality == "image" else None
        called = (name or f"row {task}") if self.run.pool else f"task {task}"
        return Card(
            task=task,
            name=called,
            url=self.task_url(task),
            image=image,
            text=text,
            alt=called if self.run.pool else f"Task {task}" + (f", {name}" if name else ""),
            missing=image is None and not text,
        )

    def page(self, number: int) -> Page:
        """The stretch of picks on a page; a number out of range leads to the nearest page."""
        total = len(self.report.whys)
        pages = max(1, -(-total // PER_PAGE))
        number = min(max(1, number), pages)
        return Page(number, pages, (number - 1) * PER_PAGE, min(total, number * PER_PAGE))

    def quarters(self) -> Iterator[tuple[int, float, float]]:
        """Picks, their coverage and that of random, after each quarter of the picks."""
        trust, m = self.report.trust, len(self.report.trust.picks)
        for number in sorted({max(1, round(m * part / 4)) for part in (1, 2, 3, 4)}):
            yield number, trust.picks[number - 1], trust.random_mean[number - 1]

    def last_quarter(self) -> tuple[int, float]:
        """How many picks the last quarter has, and what it adds to the coverage."""
        picks = self.report.trust.picks
        size = max(1, len(picks) // 4)
        return size, picks[-1] - (picks[-1 - size] if size < len(picks) else 0.0)

    def shown(self) -> list[int]:
        """Every task of a one-page report, each once."""
        found: dict[int, None] = {}
        for why in self.report.whys:
            found[why.task] = None
        for view in self.clusters(0, PER_PAGE):
            found.update(dict.fromkeys((*view[1].members, view[1].runner_up or view[0].task)))
        found.update(dict.fromkeys(low.task for low in self.report.lowest))
        found.update(dict.fromkeys(task for group in self.report.duplicates for task in group))
        return list(found)

    def clusters(self, first: int, end: int) -> list[tuple[Why, ClusterView]]:
        """Picks with what they stand for, of a stretch of the picks."""
        return list(zip(self.report.whys[first:end], self.report.clusters[first:end], strict=True))


def studio_links(run: Run, studio_url: str) -> Callable[[int], str | None]:
    """Addresses of a run's tasks in Label Studio.

    Parameters
    ----------
    run
        Its project, and its tab where one was published.
    studio_url
        Address of Label Studio as the reader of the report reaches it; "" gives no links.

    Returns
    -------
    callable
        Task id -> address or None.
    """
    if run.pool or not studio_url.startswith(("http://", "https://")):
        return lambda _task: None
    tab = None if run.summary is None else run.summary.tab
    base = f"{studio_url}/projects/{run.project}/data?" + ("" if tab is None else f"tab={tab.id}&")
    return lambda task: f"{base}task={task}"


def static_directory() -> Path:
    """Where the style sheet and the scripts lie."""
    from pathlib import Path

    return Path(__file__).parent / "static"


def template_directory() -> Path:
    """Where the templates lie."""
    from pathlib import Path

    return Path(__file__).parent / "templates"
