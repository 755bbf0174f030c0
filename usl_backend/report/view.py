"""View model of the templates: a report with its images, texts and links."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from usl_backend.report import words
from usl_backend.report.chart import Chart, LossChart, coverage_chart, loss_chart
from usl_backend.runs.summary import OutlierNote
from usl_backend.studio.regions import EXPECTATION

if TYPE_CHECKING:
    from pathlib import Path

    from usl_backend.report.check import ControlCheck
    from usl_backend.report.record import ClusterView, Report, Why
    from usl_backend.report.sources import Sources
    from usl_backend.runs import Run
    from usl_backend.suggesting.accuracy import RunAccuracy

PLOTLY: Final = "plotly-gl2d-3.7.0.min.js"
"""Plotly's WebGL bundle from npm's plotly.js-gl2d-dist-min, the smallest one with `scattergl`."""

SCRIPTS: Final = ("map_move.js", "map_colors.js", "map.js", PLOTLY)
"""Scripts of the map, in the order in which they run: the points are fetched while Plotly, the largest, loads."""

PER_PAGE: Final = 100
"""Picks per page of the gallery and of the table."""


@dataclass(frozen=True)
class Card:
    """One task as displayed.

    Attributes
    ----------
    task
        Task id.
    name
        Display name, as `sources.called` gives it.
    url
        Address of the task in Label Studio, if known.
    image
        Address of its thumbnail; None for a text or a missing thumbnail.
    large
        Address of a larger picture; None where there is none.
    text
        Excerpt of a text; "" for an image.
    alt
        Alternative text of the image.
    missing
        True for an image that cannot be shown.
    label
        Class that annotators gave it, as far as labels were read; "" without one.
    """

    task: int
    name: str
    url: str | None
    image: str | None
    text: str
    alt: str
    missing: bool
    large: str | None = None
    label: str = ""


@dataclass(frozen=True)
class Page:
    """One page of picks: ranks from `first` to below `end`; page numbers start at 1."""

    number: int
    pages: int
    first: int
    end: int


@dataclass(frozen=True)
class View:
    """A report prepared for the templates.

    Parameters
    ----------
    run, report, sources
        Run, report and instances to show.
    image
        Returns the address of a task's thumbnail, or None.
    task_url
        Returns the address of a task in Label Studio, or None.
    controls
        Number of tasks in the control set.
    check
        Evaluation on the labels of the control set, if they were read.
    accuracy
        Accuracy of the suggestions, if it was measured.
    large
        Returns the address of a larger picture of a task, or None.
    labels
        Instance id -> class that annotators gave it, as far as labels were read.
    """

    run: Run
    report: Report
    sources: Sources
    image: Callable[[int], str | None]
    task_url: Callable[[int], str | None]
    controls: int = 0
    check: ControlCheck | None = None
    accuracy: RunAccuracy | None = None
    large: Callable[[int], str | None] = lambda _task: None
    labels: Mapping[int, str] = field(default_factory=dict)
    words: object = field(default=words)

    @property
    def title(self) -> str:
        """The project's title, or its id."""
        summary = self.run.summary
        return (summary.project.title if summary is not None else "") or self.run.subject

    @property
    def accuracy_lines(self) -> list[str]:
        """What is known about the accuracy of suggestions, or what a control set would buy."""
        from usl_backend.suggesting.accuracy import purchases

        if self.accuracy is None:
            return [str(one) for one in purchases()]
        return list(self.accuracy.sentences(project=self.run.project))

    @property
    def expectation_of_regions(self) -> str:
        """How much picks help where annotators draw regions."""
        return EXPECTATION

    @property
    def outliers(self) -> OutlierNote:
        """The outliers; nothing is known in reports of former versions."""
        return self.report.outliers or OutlierNote()

    @property
    def low_picks(self) -> int:
        """Number of the lowest-scored tasks shown that are picks."""
        return len({low.task for low in self.report.lowest} & {why.task for why in self.report.whys})

    @property
    def chart(self) -> Chart:
        """The coverage chart."""
        return coverage_chart(self.report.trust)

    @property
    def losses(self) -> LossChart | None:
        """The loss chart; None for fewer than two epochs."""
        training = self.report.training
        return loss_chart(training) if training is not None and len(training.local_loss) > 1 else None

    @property
    def tab_url(self) -> str | None:
        """Address of the queue's tab in Label Studio."""
        tab = None if self.run.summary is None else self.run.summary.tab
        return tab.url if tab is not None and tab.url.startswith(("http://", "https://")) else None

    def card(self, task: int) -> Card:
        """Return the card of a task."""
        from usl_backend.report.sources import called, excerpt_of

        instance = self.sources.get(task)
        text = "" if instance is None else excerpt_of(instance)
        image = self.image(task) if instance is not None and instance.located else None
        name, alt = called(instance, task, pool=bool(self.run.pool))
        return Card(
            task=task,
            name=name,
            url=self.task_url(task),
            image=image,
            text=text,
            alt=alt,
            missing=image is None and (instance is None or instance.located),
            large=None if image is None else self.large(task),
            label=self.labels.get(task, ""),
        )

    def gain(self, why: Why) -> str:
        """Say how many tasks come within reach of a pick: "12 tasks newly within reach"."""
        sampled = "about " if self.report.trust.evaluated < self.report.instances else ""
        return f"{sampled}{words.tasks(round(why.covered * self.report.instances))} newly within reach"

    def page(self, number: int) -> Page:
        """Return a page of picks; a number out of range gives the nearest page."""
        total = len(self.report.whys)
        pages = max(1, -(-total // PER_PAGE))
        number = min(max(1, number), pages)
        return Page(number, pages, (number - 1) * PER_PAGE, min(total, number * PER_PAGE))

    @property
    def before(self) -> float:
        """Share of the pool that labels covered before the first pick, 0 to 1."""
        first = self.report.whys[0]
        return first.coverage - first.covered

    def quarters(self) -> Iterator[tuple[int, float, float]]:
        """Yield number of picks, their coverage and that of random ones, after each quarter of the picks."""
        trust, m = self.report.trust, len(self.report.trust.picks)
        for number in sorted({max(1, round(m * part / 4)) for part in (1, 2, 3, 4)}):
            yield number, trust.picks[number - 1], trust.random_mean[number - 1]

    def last_quarter(self) -> tuple[int, float]:
        """Return the number of picks in the last quarter, and the coverage it adds."""
        whys = self.report.whys
        size = max(1, len(whys) // 4)
        return size, sum(why.covered for why in whys[-size:])

    def shown(self) -> list[int]:
        """Return the distinct tasks of a one-page report."""
        found: dict[int, None] = {}
        for why in self.report.whys:
            found[why.task] = None
        for view in self.clusters(0, PER_PAGE):
            found.update(dict.fromkeys(view[1].members))
            if view[1].runner_up is not None:
                found[view[1].runner_up] = None
        found.update(dict.fromkeys(low.task for low in self.report.lowest))
        found.update(dict.fromkeys(one.task for one in self.outliers.first))
        found.update(dict.fromkeys(task for group in self.report.duplicates for task in group))
        return list(found)

    def clusters(self, first: int, end: int) -> list[tuple[Why, ClusterView]]:
        """Return a range of picks with their clusters."""
        return list(zip(self.report.whys[first:end], self.report.clusters[first:end], strict=True))


def studio_links(run: Run, studio_url: str) -> Callable[[int], str | None]:
    """Return a function that maps a run's tasks to their addresses in Label Studio.

    Parameters
    ----------
    run
        The run, for its project and tab.
    studio_url
        Address of Label Studio for the reader's browser; "" disables links.

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
    """Return the directory of the style sheet and the scripts."""
    from pathlib import Path

    return Path(__file__).parent / "static"


def template_directory() -> Path:
    """Return the directory of the templates."""
    from pathlib import Path

    return Path(__file__).parent / "templates"
