import base64
import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from digit_run import FIRST, Made

from usl_backend.errors import MediaError, RunError
from usl_backend.instances import Instance
from usl_backend.report import build, load, write_report
from usl_backend.report.record import Low
from usl_backend.report.view import PLOTLY, static_directory

# sha256 of package/plotly-gl2d.min.js in npm's plotly.js-gl2d-dist-min-3.7.0.tgz
PUBLISHED = "d396c0d59e2844a167dc4aca8469fe1653060cb105f4d7cbd47b3c7788b1e750"


class Elements(HTMLParser):
    """Tags with their attributes, and the text of script elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag == "script"
        if self._inside:
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = False

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.scripts[-1] += data

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def written(made: Made, path: Path, **more: object) -> tuple[str, int]:
    report = build(made.run, made.files)
    options = {"read": made.read, "studio_url": "http://studio.test", **more}
    missing = write_report(made.run, made.files, report, path, **options)
    return path.read_text(encoding="utf-8"), missing


@pytest.fixture
def small(make_run: Callable[..., Made]) -> Made:
    return make_run(90, budget=6, report=True)


def test_write_report__says_on_how_many_tasks_other_seeds_were_measured(
    small: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, _ = written(small, tmp_path / "whole.html")
    monkeypatch.setattr("usl_backend.report.again.ROWS", 50)
    report = build(small.run, small.files, force=True)
    write_report(small.run, small.files, report, tmp_path / "part.html", read=small.read)
    part = " ".join((tmp_path / "part.html").read_text(encoding="utf-8").split())
    said = "Measured on 60 tasks, evenly spaced, of the 90: 6 were chosen from these with every seed"
    assert said in part
    assert "evenly spaced, of the" not in whole


def test_write_report__needs_nothing_from_outside(small: Made, tmp_path: Path) -> None:
    page, missing = written(small, tmp_path / "report.html")
    assert missing == 0
    elements = Elements(page)
    images = [image["src"] for image in elements.all("img")]
    assert len(images) >= 6
    assert all(source and source.startswith("data:image/jpeg;base64,") for source in images)
    assert [script.get("src") for script in elements.all("script")] == [None] * 8
    assert [link["href"] for link in elements.all("link")] == ["data:,"]
    assert "@import" not in page.partition("</style>")[0]


def test_write_report__every_script_is_the_one_that_is_allowed(small: Made, tmp_path: Path) -> None:
    page, _ = written(small, tmp_path / "report.html")
    elements = Elements(page)
    policy = next(meta["content"] for meta in elements.all("meta") if meta.get("http-equiv")) or ""
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    ran = [script for script in elements.scripts if not script.startswith("{")]
    assert {base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in ran} == allowed
    assert "script-src 'sha256-" in policy
    assert "default-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.partition("style-src")[0]


def test_write_report__shows_the_stored_figures_in_rank_order(small: Made, tmp_path: Path) -> None:
    page, _ = written(small, tmp_path / "report.html")
    report = load(small.files)
    assert report is not None
    links = [a["href"] for a in Elements(page.partition('id="picks"')[2].partition("</section>")[0]).all("a")]
    assert links == [
        f"http://studio.test/projects/12/data?tab=3&task={task}" for task in small.queue.instances
    ]
    data = json.loads(next(s for s in Elements(page).scripts if s.startswith('{"task_url"')))
    assert data["task_url"] == "http://studio.test/projects/12/data?tab=3&task={task}"
    assert f"{100 * report.trust.picks[-1]:.1f} %" in page
    for why in report.whys:
        assert f'id="pick-{why.rank + 1}"' in page


def test_write_report__texts_and_names_with_markup_are_shown_as_text(
    make_run: Callable[..., Made], tmp_path: Path
) -> None:
    hostile = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\"'&<!--"
    made = make_run(40, budget=3, modality="text", title=hostile)
    instances, inventory = made.files.read_instances(), made.files.read_inventory()
    changed = [Instance(one.id, "text", f"{hostile} {one.id}") for one in instances]
    made.files.write_instances(changed, replace(inventory, skipped={7: hostile}))
    page, _ = written(made, tmp_path / "report.html")
    elements = Elements(page)
    assert len(elements.all("script")) == 8
    assert elements.all("img") == []
    assert not any(name.startswith("on") for _, attributes in elements.tags for name in attributes)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    cards = json.loads(elements.scripts[1])
    assert cards[str(made.queue.instances[0])]["text"] == f"{hostile} {made.queue.instances[0]}"


def test_write_report__vanished_pictures_are_counted_and_the_rest_is_shown(
    small: Made, tmp_path: Path
) -> None:
    def read(instance: Instance) -> bytes:
        if instance.id == small.queue.instances[0]:
            raise MediaError("studio.test answered 404 Not Found")
        return small.read(instance)

    page, missing = written(small, tmp_path / "report.html", read=read)
    assert missing == 1
    assert "no image" in page
    assert len(Elements(page).all("img")) > 10


def test_write_report__shows_a_runner_up_in_row_0(make_run: Callable[..., Made], tmp_path: Path) -> None:
    made = make_run(90, budget=6)
    instances, inventory = made.files.read_instances(), made.files.read_inventory()
    made.files.write_instances([replace(instances[0], id=0), *instances], inventory)
    report = build(made.run, made.files)
    clusters = tuple(replace(one, members=(), runner_up=0) for one in report.clusters)
    bare = replace(report, clusters=clusters, lowest=(), duplicates=(), outliers=None)
    assert (
        write_report(made.run, made.files, bare, tmp_path / "r.html", read=lambda _: made.read(instances[0]))
        == 0
    )
    pictures = Elements((tmp_path / "r.html").read_text(encoding="utf-8")).all("img")
    assert "Task 0, 0.png" in {picture["alt"] for picture in pictures}


@pytest.mark.parametrize("merged", [True, False])
def test_write_report__says_what_near_duplicates_counted_for(
    small: Made, tmp_path: Path, merged: bool
) -> None:
    report = build(small.run, small.files)
    told = replace(
        report,
        trust=replace(report.trust, near_duplicates_merged=merged),
        duplicates=((FIRST, FIRST + 1),),
        duplicate_sizes=(2,),
    )
    write_report(small.run, small.files, told, tmp_path / "r.html", read=small.read)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert ("Each group counts as one task" in page) == merged
    assert ("The method took each of them for a task of its own." in page) == (not merged)


@pytest.mark.parametrize(
    ("picks", "said"),
    [(0, "None of these 3 is a pick."), (1, "1 of these 3 is a pick."), (2, "2 of these 3 are picks.")],
)
def test_write_report__says_how_many_of_the_lowest_are_picks(
    small: Made, tmp_path: Path, picks: int, said: str
) -> None:
    report = build(small.run, small.files)
    chosen = [why.task for why in report.whys]
    others = [task for task in small.ids.tolist() if task not in chosen]
    lowest = tuple(Low(task, 0.0) for task in (*chosen[:picks], *others)[:3])
    write_report(small.run, small.files, replace(report, lowest=lowest), tmp_path / "r.html", read=small.read)
    assert said in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_write_report__of_a_pool_that_was_picked_whole(make_run: Callable[..., Made], tmp_path: Path) -> None:
    page, _ = written(make_run(40, budget=40), tmp_path / "r.html")
    assert "The whole pool was picked." in page
    assert "Do not expect" not in page
    assert "40 random tasks cover 100 % of the pool" in page


@pytest.mark.parametrize("before", [0.25, 0.0])
def test_write_report__says_what_labels_covered_before(small: Made, tmp_path: Path, before: float) -> None:
    report = build(small.run, small.files)
    first = replace(report.whys[0], coverage=before + report.whys[0].covered)
    told = replace(report, whys=(first, *report.whys[1:]))
    write_report(small.run, small.files, told, tmp_path / "r.html", read=small.read)
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert ("Tasks labeled before the run cover 25 % of it" in page) == (before > 0)
    assert ("labeled before the run" in page) == (before > 0)


def test_write_report__without_reader_or_studio(small: Made, tmp_path: Path) -> None:
    page, missing = written(small, tmp_path / "report.html", read=None, studio_url="")
    assert missing > 20
    assert Elements(page).all("img") == []
    assert "/data?" not in page.partition("<main>")[2].partition("part-map")[0].replace(
        "http://studio.test/projects/12/data?tab=3", ""
    )


def test_write_report__an_unsafe_address_makes_no_links(small: Made, tmp_path: Path) -> None:
    page, _ = written(small, tmp_path / "report.html", studio_url="javascript:alert(1)//")
    assert "javascript:alert" not in page


def test_write_report__a_failure_leaves_the_earlier_file(
    small: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "report.html"
    path.write_text("earlier")
    monkeypatch.setattr("usl_backend.report.write.SCRIPTS", ("nowhere.js",))
    with pytest.raises(FileNotFoundError):
        written(small, path)
    assert path.read_text() == "earlier"
    assert [item.name for item in tmp_path.iterdir() if "tmp" in item.name] == []


def test_write_report__without_its_map_says_what_to_do(small: Made, tmp_path: Path) -> None:
    report = build(small.run, small.files)
    (small.files.directory / "report" / "map.npz").unlink()
    with pytest.raises(RunError, match=r"report 12-1 --force"):
        write_report(small.run, small.files, report, tmp_path / "x.html", read=small.read)


def test_plotly__is_the_published_file_with_its_licence() -> None:
    script = (static_directory() / PLOTLY).read_bytes()
    assert b"plotly.js (gl2d - minified) v3.7.0" in script[:200]
    assert hashlib.sha256(script).hexdigest() == PUBLISHED
    licence = (static_directory() / "plotly-gl2d.LICENSE.txt").read_text(encoding="utf-8")
    assert "MIT License" in licence
    assert "Plotly" in licence


def test_write_report__keeps_ids_apart_from_rows(small: Made, tmp_path: Path) -> None:
    page, _ = written(small, tmp_path / "report.html")
    shown = {int(task) for task in re.findall(r">task (\d+)<", page)}
    assert min(shown - {5, 7}) >= FIRST


def test_write_report__says_what_to_expect_where_regions_are_drawn(small: Made, tmp_path: Path) -> None:
    expected = (
        "Annotators draw regions here.</b> For boxes, polygons and masks the gain over random tasks is small"
    )
    page, _ = written(small, tmp_path / "report.html")
    assert expected not in page
    listed = small.files.read_inventory()
    small.files.write_instances(small.files.read_instances(), replace(listed, regions=True))
    assert small.files.read_inventory().regions
    report = build(small.run, small.files, force=True)
    write_report(small.run, small.files, report, tmp_path / "regions.html", read=small.read)
    assert expected in (tmp_path / "regions.html").read_text(encoding="utf-8")
