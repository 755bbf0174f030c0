import base64
import gzip
import io
import re
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from digit_run import FIRST, Kept, Made, png
from file_host import Host
from flask.testing import FlaskClient
from page_forms import form_of
from PIL import Image
from pydantic import SecretStr

from usl_backend.errors import MediaError, StudioUnreachableError
from usl_backend.instances import Instance
from usl_backend.jobs import Jobs
from usl_backend.media import UnavailableError
from usl_backend.report import build, load
from usl_backend.report.states import Coded, TaskStates, save_states
from usl_backend.report.view import PLOTLY
from usl_backend.runs import RunState
from usl_backend.runs.doubts import Dispute, Doubt, Doubts, write_doubts
from usl_backend.settings import HostSettings
from usl_backend.suggesting.accuracy import RunAccuracy, save_accuracy
from usl_backend.suggestions import Share
from usl_backend.web import create_app
from usl_backend.web.reports import EXTENSION, Reports

DOUBTS = Doubts(
    "12-1",
    doubts=(Doubt(FIRST + 3, "<b>cat</b>", "dog", 0.9),),
    disputes=(Dispute(FIRST + 5, ("cat", "dog"), "cat"),),
    judged=9,
    unjudged=2,
    reason="",
    read_at=1.0,
)
PARTS = ("trust", "map", "gallery", "why")
HTML = {"Accept": "text/html"}


class Tags(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.found if tag == name]


class Site:
    """The app before a data directory with one finished run."""

    def __init__(self, directory: Path, made: Made, command: tuple[str, ...]) -> None:
        self.made = made
        self.host = HostSettings(label_studio_url="http://studio.test", model_dir=directory)
        self.app = create_app(self.host, Jobs(made.store, self.host))
        self.reports = Reports(self.host, made.store, command=command)
        self.reports._readers[""] = made.read
        self.app.extensions[EXTENSION] = self.reports
        self.client: FlaskClient = self.app.test_client()

    def page(self, part: str, **query: object) -> str:
        answer = self.client.get(f"/usl/runs/12-1/{part}", headers=HTML, query_string=query)
        assert answer.status_code == 200
        return answer.text


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Kept:
    return Kept(tmp_path_factory.mktemp("kept"))


@pytest.fixture
def make_site(tmp_path: Path, kept: Kept) -> Iterator[Callable[..., Site]]:
    sites: list[Site] = []

    def make(
        n: int = 90, *, report: bool = True, command: tuple[str, ...] = ("false",), **more: object
    ) -> Site:
        made = kept.copy(tmp_path / "site", n, report=report, **{"budget": 6, **more})
        sites.append(Site(tmp_path / "site", made, command))
        return sites[-1]

    yield make
    for one in sites:
        one.reports.close()
        one.made.store.close()


@pytest.fixture
def site(make_site: Callable[..., Site]) -> Site:
    return make_site()


@pytest.mark.parametrize("part", PARTS)
def test_page__runs_no_script_but_its_own_files(site: Site, part: str) -> None:
    answer = site.client.get(f"/usl/runs/12-1/{part}", headers=HTML)
    tags = Tags(answer.text)
    policy = answer.headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert ("'unsafe-eval'" in policy) == (part == "map")
    assert "'unsafe-inline'" not in policy.partition("style-src")[0]
    assert all((script["src"] or "").startswith("/usl/") for script in tags.all("script"))
    assert not any(name.startswith("on") or name == "style" for _, at in tags.found for name in at)
    assert [a.get("aria-current") for a in tags.all("a") if a.get("aria-current")] == ["page"]


def test_gallery__order_of_the_picks_is_the_rank_order(site: Site) -> None:
    picks = site.page("gallery").partition('id="picks"')[2].partition("</section>")[0]
    assert [int(task) for task in re.findall(r">task (\d+)<", picks)] == list(site.made.queue.instances)
    links = [a["href"] for a in Tags(picks).all("a")]
    assert links[0] == f"http://studio.test/projects/12/data?tab=3&task={site.made.queue.instances[0]}"


def test_gallery__links_lead_to_where_browsers_reach_label_studio(site: Site) -> None:
    assert HostSettings(label_studio_url="http://inside:8080").browser_url == "http://inside:8080"
    outside = site.host.model_copy(update={"label_studio_host": "http://outside.test"})
    client = create_app(outside, Jobs(site.made.store, outside)).test_client()
    page = client.get("/usl/runs/12-1/gallery", headers=HTML).text
    assert f"http://outside.test/projects/12/data?tab=3&amp;task={site.made.queue.instances[0]}" in page


def test_gallery__pictures_enlarge_and_labels_are_shown(site: Site) -> None:
    task = site.made.queue.instances[0]
    found = TaskStates(Coded(("labeled",)), Coded(("<b>cat</b>",), {task: 0}), read_at=time.time())
    save_states(site.made.files, found)
    first = site.page("gallery").partition('id="picks"')[2].partition("</figure>")[0]
    button = Tags(first).all("button")[0]
    assert button["class"] == "enlarge"
    assert button["data-large"] == f"/usl/api/runs/12-1/picture/{task}"
    assert "label: &lt;b&gt;cat&lt;/b&gt;" in first
    assert site.client.get("/usl/api/runs/12-1/labels").json["labels"] == {str(task): "<b>cat</b>"}


def test_why__gain_is_told_in_tasks(site: Site) -> None:
    report = load(site.made.files)
    assert report is not None
    gained = [round(why.covered * 90) for why in report.whys]
    told = re.findall(r"(\d+) tasks? newly within reach", site.page("why"))
    assert [int(number) for number in told] == gained
    assert "about" not in site.page("why").partition("<table")[2]


def test_gallery__names_the_skipped_and_the_least_typical(site: Site) -> None:
    page = site.page("gallery")
    assert "the file is empty (0 bytes)" in page
    lowest = page.partition('id="lowest"')[2].partition("</section>")[0]
    order = np.argsort(site.made.selection.score, kind="stable")[:48]
    assert [int(task) for task in re.findall(r">task (\d+)<", lowest)] == site.made.ids[order].tolist()


def test_gallery__names_the_outliers_with_their_share_of_the_picks(site: Site) -> None:
    assert "Not known for 90 tasks" in site.page("gallery")
    assert "Some picks may show nothing" not in site.page("trust")
    files, picks = site.made.files, site.made.selection.indices
    pool, hashes = files.read_pool()
    traits = np.tile(np.array([60.0, 0.6, 8.0, np.nan]), (90, 1))
    other = np.setdiff1d(np.arange(90), picks)[:2]
    traits[picks[3], 0], traits[other[0], :2], traits[other[1]] = 0.0, (50.0, 0.01), np.nan
    files.write_pool(replace(pool, traits=traits), hashes)
    build(site.made.run, files, force=True)
    page = site.page("gallery").partition('id="outliers"')[2].partition("</section>")[0]
    assert "2 tasks of 89 (2.2 %) seem to show nothing: 1 noise, 1 one color." in page.replace(
        "1 one color, 1 noise", "1 noise, 1 one color"
    )
    assert "1 of the 6 picks is among them (17 %)" in page
    tasks = site.made.ids[[picks[3], other[0]]].tolist()
    assert [int(task) for task in re.findall(r">task (\d+)<", page)] == tasks
    assert page.index(">one color<") < page.index(">noise<")
    assert "Not known for 1 task:" in page
    assert "1 of 6 picks (17 %) are among the 2 outliers" in site.page("trust")


def test_why__has_a_row_for_every_pick_and_leads_to_the_nearest(make_site: Callable[..., Site]) -> None:
    site = make_site(300, budget=130)
    assert [f'id="pick-{n}"' in site.page("why") for n in (1, 100, 101)] == [True, True, False]
    second = site.page("why", page=2)
    assert [f'id="pick-{n}"' in second for n in (100, 101, 130)] == [False, True, True]
    report = load(site.made.files)
    assert report is not None
    nearest = report.whys[0].nearest_rank
    assert nearest is not None
    assert f"why?page={nearest // 100 + 1}#pick-{nearest + 1}" in site.page("why")


@pytest.mark.parametrize("wrong", ["0", "-3", "99", "x", "9" * 50, "٣"])
def test_page__a_page_that_is_not_there_leads_to_one_that_is(site: Site, wrong: str) -> None:
    assert "task 1" in site.page("gallery", page=wrong)


def test_trust__says_it_honestly(site: Site) -> None:
    report = load(site.made.files)
    assert report is not None
    page = site.page("trust")
    assert report.trust.verdict == "clear"
    assert "The picks are worth more than random tasks." in page
    assert f"{100 * report.trust.random_mean[-1]:.1f} %" in page
    assert "usl-backend control 12 --tasks 100" in page


def test_trust__accuracy_of_suggestions_only_by_control_labels(site: Site) -> None:
    page = site.page("trust")
    assert "100 labeled control tasks tell the accuracy to about ±8 points" in page
    assert "usl-backend accuracy 12-1 --target 0.9" in page
    right = Share(0.8, 0.71, 0.83, 100, strata=5)
    save_accuracy(site.made.files, RunAccuracy("12-1", 40, 100, 100, right, None, 0.9, 0.0))
    page = site.page("trust")
    assert "80 % (71 to 83 %) of the suggestions are right, by 100 control labels, in 5 parts" in page
    assert "Target 90 %: not yet: 71-83 %." in page
    assert "Labels of 1970-01-01 00:00 UTC" in page
    assert "±8 points" not in page


@pytest.mark.parametrize("verdict", ["small", "none"])
def test_trust__a_small_gain_is_told_first(site: Site, verdict: str) -> None:
    path = site.made.files.directory / "report" / "report.json"
    path.write_text(path.read_text().replace('"verdict": "clear"', f'"verdict": "{verdict}"'))
    text = site.page("trust").partition('class="verdict')[2]
    expected = (
        "The gain over random tasks is small here" if verdict == "small" else "cover no more of the pool"
    )
    assert expected in text.partition("</p>")[0]


def test_page__of_texts_shows_markup_as_text(make_site: Callable[..., Site]) -> None:
    hostile = '<script>alert(1)</script><img src=x onerror=alert(1)>"&'
    site = make_site(report=False, modality="text", title=hostile)
    instances, inventory = site.made.files.read_instances(), site.made.files.read_inventory()
    changed = [Instance(one.id, "text", f"{hostile} {one.id}") for one in instances]
    site.made.files.write_instances(changed, replace(inventory, skipped={7: hostile}))
    build(site.made.run, site.made.files)
    for part in PARTS:
        page = site.page(part)
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
        assert Tags(page).all("img") == []


def test_page__hostile_file_name_is_shown_as_text(make_site: Callable[..., Site]) -> None:
    site = make_site(report=False)
    instances, inventory = site.made.files.read_instances(), site.made.files.read_inventory()
    name = "/data/upload/12/%22%3E%3Cscript%3Ealert(1)%3C/script%3E.png"
    site.made.files.write_instances([Instance(one.id, "image", name) for one in instances], inventory)
    build(site.made.run, site.made.files)
    page = site.page("gallery")
    assert "<script>alert" not in page
    assert {image["alt"] for image in Tags(page).all("img")} >= {
        f"Task {site.made.queue.instances[0]}, script>.png"
    }


@pytest.mark.parametrize("part", PARTS)
def test_page__unknown_run(site: Site, part: str) -> None:
    answer = site.client.get(f"/usl/runs/12-99/{part}", headers=HTML)
    assert answer.status_code == 404
    assert "12-99" in answer.text


@pytest.mark.parametrize("part", PARTS)
def test_page__queued_run_says_so_and_waits(site: Site, part: str) -> None:
    run = site.made.store.create(project=13, settings={})
    answer = site.client.get(f"/usl/runs/{run.id}/{part}", headers=HTML)
    assert answer.status_code == 200
    assert "The run is queued" in answer.text
    assert "wait.js" in answer.text


def test_page__run_that_failed_before_it_was_done(site: Site) -> None:
    run = site.made.store.create(project=13, settings={})
    site.made.store.fail(run.id, "StudioError", "no such project")
    answer = site.client.get(f"/usl/runs/{run.id}/trust", headers=HTML)
    assert "The run failed before it was done" in answer.text
    assert "wait.js" not in answer.text


def test_page__run_whose_files_were_removed(site: Site) -> None:
    for path in site.made.files.directory.rglob("*.*"):
        path.unlink()
    assert "removed to free disk space" in site.page("trust")


def test_page__run_whose_list_of_tasks_was_removed(site: Site) -> None:
    (site.made.files.directory / "instances.jsonl").unlink()
    assert "removed to free disk space" in site.page("trust")


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 100
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def test_page__a_missing_report_is_made_by_a_process(make_site: Callable[..., Site]) -> None:
    site = make_site(report=False, command=(sys.executable, "-m", "usl_backend", "report"))
    assert "The report is being made" in site.page("trust")
    wait_for(lambda: "wait.js" not in site.page("trust"))
    assert "The picks are worth more" in site.page("trust")


def test_page__the_process_gets_no_secret(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LABEL_STUDIO_API_KEY", "BASIC_AUTH_PASS", "BASIC_AUTH_USER"):
        monkeypatch.setenv(name, "tok-secret-123")
    told = "import os; print(dict(os.environ)); raise SystemExit(1)"
    site = make_site(report=False, command=(sys.executable, "-c", told))
    site.page("trust")
    wait_for(lambda: "could not be made" in site.page("trust"))
    log = (site.made.files.directory / "report" / "log.txt").read_text()
    assert "MODEL_DIR" in log
    assert "tok-secret-123" not in log


def test_page__a_failed_report_says_why_and_can_be_tried_again(make_site: Callable[..., Site]) -> None:
    site = make_site(
        report=False, command=(sys.executable, "-c", "import sys; sys.exit('error: no space on the disk')")
    )
    site.page("trust")
    wait_for(lambda: "no space on the disk" in site.page("trust"))
    assert "wait.js" not in site.page("trust")
    form = form_of(site.client, "/usl/runs/12-1/trust")
    assert site.client.post("/usl/runs/12-1/report", data=form).status_code == 303
    assert "is being made" in site.page("trust")


def test_page__a_process_that_leaves_no_report_is_not_started_again_and_again(
    make_site: Callable[..., Site],
) -> None:
    site = make_site(report=False, command=(sys.executable, "-c", ""))
    site.page("trust")
    wait_for(lambda: "its process left no report" in site.page("trust"))
    assert "wait.js" not in site.page("trust")


def test_page__one_report_at_a_time(make_site: Callable[..., Site]) -> None:
    site = make_site(report=False, command=(sys.executable, "-c", "import time; time.sleep(60)"))
    other = Made(site.host.model_dir, 40, budget=3)
    assert other.run.state is RunState.DONE
    assert "is being made" in site.page("trust")
    answer = site.client.get(f"/usl/runs/{other.run.id}/trust", headers=HTML)
    assert "waits for that of run 12-1" in answer.text


def test_page__a_report_made_anew_is_shown(site: Site) -> None:
    site.page("trust")
    path = site.made.files.directory / "report" / "report.json"
    path.write_text(path.read_text().replace('"verdict": "clear"', '"verdict": "none"'))
    assert "cover no more of the pool" in site.page("trust")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("report.css", "text/css"),
        ("map.js", "javascript"),
        (PLOTLY, "javascript"),
        ("wait.js", "javascript"),
    ],
)
def test_file__is_served_packed_and_kept(site: Site, name: str, kind: str) -> None:
    plain = site.client.get(f"/usl/report/{name}")
    packed = site.client.get(f"/usl/report/{name}", headers={"Accept-Encoding": "gzip"})
    assert kind in plain.headers["Content-Type"]
    assert gzip.decompress(packed.data) == plain.data
    again = site.client.get(f"/usl/report/{name}", headers={"If-None-Match": plain.headers["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("name", ["../record.py", "..%2frecord.py", "file.html", "__init__.py", "%2e%2e"])
def test_file__nothing_else_is_served(site: Site, name: str) -> None:
    assert site.client.get(f"/usl/report/{name}").status_code == 404


def test_thumbnail__is_the_picture_of_the_task(site: Site) -> None:
    answer = site.client.get(f"/usl/api/runs/12-1/thumbnail/{FIRST + 4}")
    assert answer.headers["Content-Type"] == "image/jpeg"
    assert "private" in answer.headers["Cache-Control"]
    kept = site.made.files.directory / "report" / "thumbnails" / f"{FIRST + 4}.jpg"
    assert answer.data == kept.read_bytes()


def test_picture__is_as_large_as_the_source_allows(site: Site) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (2000, 1000)).save(stream, "PNG")
    site.reports._readers[""] = lambda _instance: stream.getvalue()
    sizes = {
        part: Image.open(io.BytesIO(site.client.get(f"/usl/api/runs/12-1/{part}/{FIRST}").data)).size
        for part in ("picture", "thumbnail")
    }
    assert sizes == {"picture": (1280, 640), "thumbnail": (160, 80)}


@pytest.mark.parametrize("task", ["1", "999999", str(2**70), "-1", "..%2f..%2fusl.sqlite3", "7"])
def test_thumbnail__of_anything_else_is_not_found(site: Site, task: str) -> None:
    answer = site.client.get(f"/usl/api/runs/12-1/thumbnail/{task}")
    assert answer.status_code == 404


def test_thumbnail__vanished_media_show_a_placeholder(site: Site) -> None:
    def read(_: Instance) -> bytes:
        raise MediaError("http://studio.test/secret answered 404")

    site.reports._readers[""] = read
    answer = site.client.get(f"/usl/api/runs/12-1/thumbnail/{FIRST}")
    assert (answer.status_code, answer.mimetype) == (404, "image/svg+xml")
    assert b"secret" not in answer.data
    site.reports._readers[""] = lambda instance: png(site.made.digits[instance.id - FIRST])
    assert site.client.get(f"/usl/api/runs/12-1/thumbnail/{FIRST}").status_code == 200


@pytest.mark.parametrize("error", [UnavailableError("busy"), StudioUnreachableError("nobody answers")])
def test_thumbnail__a_silent_source_is_left_alone_for_a_while(
    site: Site, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def read(instance: Instance) -> bytes:
        asked.append(instance.id)
        raise error

    site.reports._readers[""] = read
    statuses = [site.client.get(f"/usl/api/runs/12-1/thumbnail/{FIRST + i}").status_code for i in range(5)]
    assert (statuses, asked) == ([404] * 5, [FIRST])
    monkeypatch.setattr("usl_backend.web.reports.PAUSE", 0.0)
    site.reports._silent_until.clear()
    site.client.get(f"/usl/api/runs/12-1/thumbnail/{FIRST + 1}")
    site.client.get(f"/usl/api/runs/12-1/thumbnail/{FIRST + 2}")
    assert asked == [FIRST, FIRST + 1, FIRST + 2]


def test_bytes__a_silent_host_silences_no_other(site: Site) -> None:
    def read(instance: Instance) -> bytes:
        if "away.test" in instance.source:
            raise UnavailableError("nobody answers", host="away.test")
        return b"picture"

    site.reports._readers |= {"": read, "photos-1": read}
    site.reports._silent_until["", "long-ago.test"] = 0.0
    away, other = (Instance(1, "image", f"http://{name}.test/1.png") for name in ("away", "other"))
    own, pool = (
        Instance(2, "image", "/data/upload/12/2.png"),
        replace(site.made.run, id="photos-1", pool="photos"),
    )
    with pytest.raises(UnavailableError):
        site.reports._bytes(site.made.run, away)
    with pytest.raises(MediaError, match="trying again soon"):
        site.reports._bytes(site.made.run, away)
    assert [site.reports._bytes(site.made.run, one) for one in (other, own)] == [b"picture"] * 2
    with pytest.raises(UnavailableError):
        site.reports._bytes(pool, away)
    assert site.reports._bytes(pool, other) == b"picture"
    assert set(site.reports._silent_until) == {("", "away.test"), ("photos-1", "away.test")}


def test_bytes__an_address_of_label_studio_that_was_told_later(
    make_site: Callable[..., Site], tmp_path: Path
) -> None:
    site, file = make_site(report=False), tmp_path / "data" / "local-files" / "1.png"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"picture")
    shown = Instance(FIRST, "image", "http://outside.test/data/local-files/1.png")
    with Host.running(tmp_path) as studio:
        update = {"label_studio_url": f"http://{studio.name}", "label_studio_api_key": SecretStr("a" * 40)}
        reports = Reports(site.host.model_copy(update=update), site.made.store, command=("false",))
        with pytest.raises(MediaError):
            reports._bytes(site.made.run, shown)
        site.made.store.remember_setup(13, "13.5", hostname="http://outside.test")
        reports._silent_until.clear()
        assert reports._bytes(site.made.run, shown) == b"picture"
        reports.close()


def test_bytes__label_studio_that_never_answers_costs_seconds(
    make_site: Callable[..., Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = make_site(report=False)
    claims = base64.urlsafe_b64encode(b'{"token_type": "refresh", "exp": 9000000000}').decode().rstrip("=")
    monkeypatch.setattr("usl_backend.web.reports._TOKEN_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        host = site.host.model_copy(
            update={
                "label_studio_url": f"http://127.0.0.1:{silent.getsockname()[1]}",
                "label_studio_api_key": SecretStr(f"a.{claims}.b"),
            }
        )
        reports = Reports(host, site.made.store, command=("false",))
        begun = time.monotonic()
        with pytest.raises(StudioUnreachableError, match="in time"):
            reports._bytes(site.made.run, Instance(FIRST, "image", "/data/upload/12/1.png"))
        assert time.monotonic() - begun < 5
        reports.close()


def test_thumbnail__without_a_token_is_a_placeholder(site: Site) -> None:
    site.reports._readers.clear()
    assert site.client.get(f"/usl/api/runs/12-1/thumbnail/{FIRST}").status_code == 404


def test_api_why__every_pick_in_order(site: Site) -> None:
    told = site.client.get("/usl/api/runs/12-1/why").json
    assert [why["task"] for why in told["picks"]] == list(site.made.queue.instances)
    assert [why["rank"] for why in told["picks"]] == list(range(6))


def test_api_trust__is_the_stored_report(site: Site) -> None:
    report = load(site.made.files)
    assert report is not None
    told = site.client.get("/usl/api/runs/12-1/trust").json
    assert tuple(told["picks"]) == report.trust.picks
    assert told["verdict"] == report.trust.verdict


def test_api_map__has_every_point_and_answers_304(site: Site) -> None:
    answer = site.client.get("/usl/api/runs/12-1/map")
    assert answer.json["task_url"] == "http://studio.test/projects/12/data?tab=3&task={task}"
    assert set(answer.json["arrays"]) == {"ids", "x", "y", "cluster", "density", "picks"}
    again = site.client.get("/usl/api/runs/12-1/map", headers={"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304


def test_api_map__says_what_each_pick_stands_for(make_site: Callable[..., Site]) -> None:
    site = make_site(modality="text")
    told = site.client.get("/usl/api/runs/12-1/map").json
    report = load(site.made.files)
    assert report is not None
    assert told["modality"] == "text"
    assert [one["size"] for one in told["clusters"]] == [why.size for why in report.whys]
    assert [one["name"] for one in told["clusters"]] == [one.name for one in report.clusters]
    assert told["clusters"][0]["members"] == list(report.clusters[0].members)


def test_api_map_states__without_label_studio_the_queue_still_tells(site: Site) -> None:
    told = site.client.get("/usl/api/runs/12-1/map/states").json
    codes = np.frombuffer(base64.b64decode(told["kinds"]["status"]["codes"]["data"]), "i1")
    assert set(told["kinds"]) == {"status"}
    assert told["kinds"]["status"]["names"][0] == "pick"
    assert int((codes == 0).sum()) == 6
    assert told["note"].startswith("Labels are not shown: ")


def test_api_instance__text_or_thumbnail(make_site: Callable[..., Site]) -> None:
    site = make_site(modality="text")
    told = site.client.get(f"/usl/api/runs/12-1/instances/{FIRST}").json
    assert told == {
        "task": FIRST,
        "name": f"task {FIRST}",
        "text": "the digit in row 0 of the table",
        "image": None,
        "alt": f"Task {FIRST}",
    }
    assert site.client.get("/usl/api/runs/12-1/instances/3").status_code == 404


@pytest.mark.parametrize(
    "part",
    ["why", "trust", "map", "map/states", "labels", "picture/1001", "instances/1001", "thumbnail/1001"],
)
def test_api__without_a_report_says_so(make_site: Callable[..., Site], part: str) -> None:
    site = make_site(report=False)
    answer = site.client.get(f"/usl/api/runs/12-1/{part}")
    assert answer.status_code == 409
    assert "has no report yet" in answer.json["error"]["message"]


def test_doubts__each_with_its_picture_and_its_place_in_label_studio(site: Site) -> None:
    assert "The labels have not been checked yet." in site.page("doubts")
    assert site.client.get("/usl/api/runs/12-1/doubts").status_code == 404
    write_doubts(site.made.files, DOUBTS)
    page = site.page("doubts")
    assert "1 of 9 labels, most doubtful first" in page
    assert "2 labels are the only ones of their class" in page
    assert "&lt;b&gt;cat&lt;/b&gt;" in page
    assert "<b>cat</b>" not in page
    assert "others say dog" in page
    assert "cat or dog" in page
    tags = Tags(page)
    for task in (FIRST + 3, FIRST + 5):
        assert f"/usl/api/runs/12-1/thumbnail/{task}" in {image["src"] for image in tags.all("img")}
        assert any(str(link["href"]).endswith(f"task={task}") for link in tags.all("a"))
    assert site.client.get("/usl/api/runs/12-1/doubts").json["disputes"][0]["labels"] == ["cat", "dog"]
