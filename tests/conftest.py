"""One real Label Studio for each worker of a test session, started from a migrated data directory that is kept.

TEST_LABEL_STUDIO names another `label-studio` command (an older release in an environment of its own),
TEST_LABEL_STUDIO_TEMPLATES another directory for the migrated data directories. TEST_LABEL_STUDIO_DATABASE=postgresql
puts Label Studio on a PostgreSQL of its own (Debian's package) instead of SQLite, minutes more to start.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import chromium
import postgres
import pytest
from live_studio import CHOICES, LiveProject, LiveStudio, make_personal_token

from usl_backend.demo.annotators import sign_up
from usl_backend.demo.studio_server import LabelStudioServer, find_executable
from usl_backend.studio.client import StudioClient

USERNAME, PASSWORD = "owner@example.com", "owner-password-1"
TOKEN = "0123456789abcdef0123456789abcdef01234567"


NO_BROWSER = "no Chromium or Chrome was found"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-browser",
        action="store_true",
        help="fail the browser tests where there is no browser, instead of leaving them out",
    )


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Workers for `-n auto`: none for single files and tests, so that they start at once and take --pdb."""
    if all(".py" in argument for argument in config.args):
        return 0
    # Tests with a server wait for half of their time: one worker more than there are cores.
    return min((os.cpu_count() or 1) + 1, 4)


def pytest_xdist_setupnodes() -> None:
    """One numerical thread for each worker and what it starts: more would wait for each other on the same cores."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure() -> None:
    """Compute by torch, as a plain installation does; what OpenVINO computes is tested in its own files.

    Also let Ctrl-C reach the programs under test: shells start background jobs, such as a CI's, with it ignored.
    """
    os.environ.setdefault("USL_ENGINE", "torch")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Everything in live/ and browser/ needs the server; what is slow runs only when it is asked for."""
    here = Path(__file__).parent
    for item in items:
        for marker in ("live", "browser"):
            if here / marker in item.path.parents:
                item.add_marker(getattr(pytest.mark, marker))
    if "slow" not in config.option.markexpr:
        slow = [item for item in items if item.get_closest_marker("slow")]
        items[:] = [item for item in items if item not in slow]
        config.hook.pytest_deselected(items=slow)
    if hasattr(config, "workerinput"):
        _longest_first(items)


def _longest_first(items: list[pytest.Item]) -> None:
    """Sort whole files: raised time limits, then what needs a server, so that no worker is left with a long one."""
    weights: dict[Path, float] = {}
    for item in items:
        limit = item.get_closest_marker("timeout")
        served = item.get_closest_marker("live") or item.get_closest_marker("browser")
        weight = limit.args[0] if limit else 300 if served else 0
        weights[item.path] = max(weight, weights.get(item.path, 0))
    items.sort(key=lambda item: -weights[item.path])


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before any server is started for it: a browser test without a browser."""
    if item.get_closest_marker("browser") and chromium.find_chromium() is None:
        if item.config.getoption("--require-browser"):
            pytest.fail(f"{NO_BROWSER}; this brings one: {chromium.REMEDY}", pytrace=False)
        pytest.skip(NO_BROWSER)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """The last line of a run, after pytest's own, names the browser tests that were left out."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    skipped = reporter.stats.get("skipped", []) if reporter else []
    left_out = sum(NO_BROWSER in str(report.longrepr) for report in skipped)
    if left_out:
        told = f"{left_out} browser tests were LEFT OUT: {NO_BROWSER}. This brings one: {chromium.REMEDY}"
        reporter.write_line(told, yellow=True, bold=True)


@pytest.fixture
def wait_until() -> Callable[..., None]:
    """Wait until a condition holds; fail when it does not within `seconds`."""

    def wait(condition: Callable[[], object], seconds: float = 100.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it never happened"
            time.sleep(0.02)

    return wait


@pytest.fixture
def empty_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No weights that the host's cache of Hugging Face happens to hold."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


class _Refuses(BaseHTTPRequestHandler):
    """Accepts no token."""

    def do_GET(self) -> None:
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def refusing_studio() -> Iterator[str]:
    """Address of something that refuses every token: a run pauses at once, where nobody there is waited for."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refuses) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="session")
def studio_executable() -> Path:
    named = os.environ.get("TEST_LABEL_STUDIO")
    return Path(named) if named else find_executable()


@pytest.fixture(scope="session")
def studio_template(studio_executable: Path, pytestconfig: pytest.Config) -> Path:
    """A data directory after all migrations, kept per release: a restart takes seconds, the first start 30."""
    python = studio_executable.with_name("python")
    version = subprocess.run(
        [python, "-c", "import importlib.metadata as m; print(m.version('label-studio'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    cache = os.environ.get("TEST_LABEL_STUDIO_TEMPLATES")
    home = Path(cache) if cache else Path(pytestconfig.cache.mkdir("label-studio"))
    template = home / version
    # Of several workers one makes it and the others wait; under another name until it is complete.
    with (home / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            fresh = home / f"{version}.{uuid.uuid4().hex}"
            with LabelStudioServer(
                fresh, username=USERNAME, password=PASSWORD, token=TOKEN, executable=studio_executable
            ):
                pass
            fresh.rename(template)
    return template


@pytest.fixture(scope="session")
def database() -> Iterator[Mapping[str, str] | None]:
    """Variables of a PostgreSQL for Label Studio, if one is asked for; None for SQLite."""
    if os.environ.get("TEST_LABEL_STUDIO_DATABASE", "sqlite") != "postgresql":
        yield None
        return
    with postgres.cluster() as environment:
        yield environment


@pytest.fixture(scope="session")
def start_studio(
    studio_executable: Path, database: Mapping[str, str] | None, request: pytest.FixtureRequest
) -> Callable[..., AbstractContextManager[LiveStudio]]:
    """Starts a server from a copy of the migrated data directory: `start_studio(directory, port=None, NAME=value)`."""
    template: Path | None = request.getfixturevalue("studio_template") if database is None else None

    @contextmanager
    def start(directory: Path, *, port: int | None = None, **environment: str) -> Iterator[LiveStudio]:
        if template is not None:
            shutil.copytree(template, directory)
        documents = directory / "documents"
        with LabelStudioServer(
            directory,
            port=port,
            documents_root=documents,
            username=USERNAME,
            password=PASSWORD,
            token=TOKEN,
            executable=studio_executable,
            environment={**(database or {}), **environment},
            timeout=300 if database is None else 900,
        ) as server:
            assert bool(list(directory.glob("*.sqlite3"))) == (database is None)
            with StudioClient(server.url, TOKEN) as client:
                version = client.version()
            yield LiveStudio(server.url, TOKEN, USERNAME, PASSWORD, version, documents, directory)

    return start


@pytest.fixture(scope="session")
def label_studio(
    start_studio: Callable[..., AbstractContextManager[LiveStudio]], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LiveStudio]:
    with start_studio(tmp_path_factory.mktemp("label-studio") / "data") as studio:
        yield studio


@pytest.fixture(scope="session")
def client(label_studio: LiveStudio) -> Iterator[StudioClient]:
    """The administrator, who owns every project."""
    with StudioClient(label_studio.url, label_studio.token, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def second_annotator(label_studio: LiveStudio, client: StudioClient) -> Iterator[StudioClient]:
    """Another user of the same organisation, with a legacy token of their own."""
    token = sign_up(client, "second@example.com", "second-password-1")
    with StudioClient(label_studio.url, token, timeout=120) as annotator:
        yield annotator


@pytest.fixture(scope="session")
def personal_token(client: StudioClient) -> str:
    """A personal access token of the administrator."""
    return make_personal_token(client)


@pytest.fixture
def make_project(client: StudioClient) -> Iterator[Callable[..., LiveProject]]:
    """Factory of fresh projects, deleted after the test: `make_project(50, label_config, **settings)`."""
    made: list[int] = []

    def make(
        n_tasks: int = 0,
        label_config: str = CHOICES,
        *,
        data: Sequence[dict[str, Any]] | None = None,
        **settings: Any,
    ) -> LiveProject:
        title = f"test {uuid.uuid4().hex[:8]}"
        body = {"title": title, "label_config": label_config} | settings
        project = int(client.http.json("POST", "/api/projects/", body=body)["id"])
        made.append(project)
        rows = (
            data if data is not None else [{"image": f"http://example.com/{i}.png"} for i in range(n_tasks)]
        )
        if rows:
            client.http.json("POST", f"/api/projects/{project}/import", body=[{"data": row} for row in rows])
        tasks = tuple(task.id for task in client.tasks(project))
        assert len(tasks) == len(rows)
        return LiveProject(client, project, tasks)

    yield make
    for project in made:
        client.http.request("DELETE", f"/api/projects/{project}/").close()
