"""Another site's page in a browser that remembers our password: whatever it sends, nothing happens."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from flask import Flask
from pydantic import SecretStr
from werkzeug.serving import make_server

from usl_backend.jobs import Jobs
from usl_backend.runs import RunState, RunStore
from usl_backend.settings import HostSettings
from usl_backend.web import create_app

FORM = """<form method="post" action="TARGET" enctype="KIND">
<input name="form_token" value="guessed"><button>win a prize</button></form>"""
SCRIPT = """<button>win a prize</button><p id="said"></p><script>
document.querySelector("button").onclick = async () => {
  try { await fetch("TARGET", {method: "POST", mode: "no-cors", credentials: "include", body: BODY}); } catch {}
  document.getElementById("said").textContent = "sent";
};
</script>"""
NO_REFERRER = '<meta name="referrer" content="no-referrer">'


@contextmanager
def served(app: Flask) -> Iterator[int]:
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.port
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def store(tmp_path):
    store = RunStore(tmp_path / "data")
    yield store
    store.close()


@pytest.fixture
def arrived():
    """(method, path, whether the browser sent the password) of every request that reached our server."""
    return []


@pytest.fixture
def ours(store, arrived):
    """Our server behind a password, at 127.0.0.1."""
    host = HostSettings(
        label_studio_api_key=SecretStr("x" * 40),
        model_dir=store.directory,
        basic_auth_user="usl",
        basic_auth_pass=SecretStr("remembered"),
    )
    app = create_app(host, Jobs(store, host))
    inner = app.wsgi_app

    def noting(environ, start_response):
        known = environ.get("HTTP_AUTHORIZATION", "").startswith("Basic ")
        arrived.append((environ["REQUEST_METHOD"], environ["PATH_INFO"], known))
        return inner(environ, start_response)

    app.wsgi_app = noting
    with served(app) as port:
        yield port


@pytest.fixture
def evil():
    """Another site, which shows what the test puts into `evil.html`."""
    app = Flask("evil")
    app.html = ""
    app.add_url_rule("/", view_func=lambda: app.html, endpoint="bait")

    with served(app) as port:
        app.port = port
        yield app


PAGE, API = "/usl/runs/12-1/cancel", "/usl/api/runs/12-1/cancel"


@pytest.mark.browser
@pytest.mark.parametrize(
    ("name", "path", "bait"),
    [
        ("localhost", PAGE, FORM.replace("KIND", "application/x-www-form-urlencoded")),
        ("localhost", API, NO_REFERRER + FORM.replace("KIND", "text/plain")),
        ("127.0.0.1", PAGE, FORM.replace("KIND", "multipart/form-data")),
        # to scripts of localhost Chromium does not lend the password for 127.0.0.1; to those of another port it does
        ("127.0.0.1", PAGE, SCRIPT.replace("BODY", "new URLSearchParams('form_token=x')")),
        ("127.0.0.1", API, SCRIPT.replace("BODY", "new Blob(['x'])")),
    ],
    ids=["form", "form without referrer", "form of another port", "fetch", "fetch without content type"],
)
def test_cross_site__nothing_acts(page, ours, evil, store, arrived, name, path, bait):
    store.create(project=12, settings={"seed": 0})
    page.goto(f"http://usl:remembered@127.0.0.1:{ours}/usl/runs/12-1")
    page.get_by_text("Cancel", exact=True).wait_for()
    evil.html = bait.replace("TARGET", f"http://127.0.0.1:{ours}{path}")
    page.goto(f"http://{name}:{evil.port}/")
    arrived.clear()
    page.get_by_text("win a prize").click()
    if "<form" in bait:
        page.wait_for_url(f"http://127.0.0.1:{ours}{path}")
    else:
        page.get_by_text("sent", exact=True).wait_for()
    assert ("POST", path, True) in arrived  # the browser did send the request, and the password with it
    assert store.get("12-1").state is RunState.QUEUED
    page.goto(f"http://127.0.0.1:{ours}/usl/runs/12-1")
    page.get_by_text("Cancel", exact=True).click()
    page.get_by_text("cancelled", exact=True).wait_for()
    assert store.get("12-1").state is RunState.CANCELLED


@pytest.mark.browser
def test_cross_site__nothing_is_shown_in_a_frame_or_read(page, ours, evil, store):
    store.create(project=12, settings={"seed": 0})
    address = f"http://127.0.0.1:{ours}/usl/runs/12-1"
    page.goto(address.replace("http://", "http://usl:remembered@"))
    evil.html = f"""<iframe src="{address}"></iframe><p id="said"></p><script>
      fetch("{address}", {{credentials: "include"}}).then(() => "read", () => "refused")
        .then((word) => {{ document.getElementById("said").textContent = word; }});
    </script>"""
    page.goto(f"http://localhost:{evil.port}/")
    page.get_by_text("refused", exact=True).wait_for()
    frame = page.frames[1]
    frame.wait_for_load_state()
    assert "12-1" not in frame.content()
