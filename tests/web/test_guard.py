import base64
import hmac
import json

import pytest
from page_forms import form_of
from pydantic import SecretStr

from usl_backend.errors import SettingsError
from usl_backend.settings import HostSettings
from usl_backend.web import create_app
from usl_backend.web.credentials import WEBHOOK_HEADER, check_exposure, is_loopback
from usl_backend.web.guard import MAX_BODY, MAX_PREDICT_BODY, MAX_STRANGER_BODY, body_limit


def _basic(user, password, encoding="utf-8"):
    token = base64.b64encode(f"{user}:{password}".encode(encoding)).decode()
    return {"Authorization": f"Basic {token}"}


def _routes(app):
    """Every (method, path) that the app answers, with likely arguments."""
    arguments = {"run_id": "12-1", "filename": "run.js", "name": "report.css", "task": 7, "project": 12}
    with app.test_request_context():
        for rule in app.url_map.iter_rules():
            path = rule.build({name: arguments[name] for name in rule.arguments})[1]
            yield from ((method, path) for method in rule.methods - {"HEAD", "OPTIONS"})


def test_credentials__nothing_without_them(guarded_client, store):
    routes = [*_routes(guarded_client.application), ("GET", "/nowhere")]
    assert len(routes) > 15
    for method, path in routes:
        answer = guarded_client.open(
            path, method=method, json={"action": "START_TRAINING", "project": {"id": 12}}
        )
        if path in ("/livez", "/readyz"):
            assert answer.status_code != 401
        else:
            assert (path, answer.status_code) == (path, 401)
            assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert store.list() == []


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_credentials__right_ones_in_either_encoding(guarded_client, encoding):
    assert guarded_client.get("/health", headers=_basic("usl", "pass wörd", encoding)).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        _basic("usl", "wrong"),
        _basic("Usl", "pass wörd"),
        _basic("usl", ""),
        _basic("", ""),
        {"Authorization": "Basic"},
        {"Authorization": "Basic !!!"},
        {"Authorization": "Bearer " + base64.b64encode("usl:pass wörd".encode()).decode()},
        {"Authorization": "Basic " + "A" * 5000},
        {"Authorization": "Bearer bearer-token-of-script"},
        {"Authorization": "Bearer secret-of-the-webhook"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic bearer-token-of-scripts"},
        {"Authorization": "bearer-token-of-scripts"},
        {WEBHOOK_HEADER: "secret-of-the-webhook"},
        {WEBHOOK_HEADER: "bearer-token-of-scripts"},
    ],
)
def test_credentials__wrong_ones_are_refused(guarded_client, headers):
    assert guarded_client.get("/health", headers=headers).status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_credentials__api_token(guarded_client, scheme):
    headers = {"Authorization": f"{scheme} bearer-token-of-scripts"}
    assert guarded_client.get("/usl/api/runs", headers=headers).status_code == 200


def test_credentials__webhook_secret_opens_the_webhook_alone(guarded_client):
    event = {"action": "ANNOTATION_CREATED"}
    for secret, status in (("secret-of-the-webhook", 200), ("secret", 401), ("", 401)):
        assert (
            guarded_client.post("/webhook", json=event, headers={WEBHOOK_HEADER: secret}).status_code
            == status
        )
    headers = {WEBHOOK_HEADER: "secret-of-the-webhook"}
    assert guarded_client.post("/webhook/", json=event, headers=headers).status_code == 401
    assert guarded_client.post("/setup", json={"project": "1.1"}, headers=headers).status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer "},
        {"Authorization": "Bearer"},
        {WEBHOOK_HEADER: ""},
        {"Authorization": "Basic "},
    ],
)
def test_credentials__what_is_not_configured_admits_nobody(guarded, jobs, headers):
    empty = {"api_token": SecretStr(""), "webhook_secret": SecretStr("")}
    client = create_app(guarded.model_copy(update=empty), jobs).test_client()
    assert client.post("/webhook", json={}, headers=headers).status_code == 401


@pytest.mark.parametrize(
    "headers", [{}, _basic("usl", "wrong"), {"Authorization": "Bearer x"}, {WEBHOOK_HEADER: "x"}]
)
def test_credentials__every_comparison_is_made_whatever_is_wrong(guarded_client, monkeypatch, headers):
    compared = []
    real = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda a, b: compared.append((a, b)) or real(a, b))
    guarded_client.post("/webhook", json={}, headers=headers)
    kinds = {"Basic": 2, "Bearer": 1}.get(headers.get("Authorization", "").partition(" ")[0], 0)
    assert len(compared) == kinds + 1
    assert {len(one) for pair in compared for one in pair} == {32}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.4", False),
        ("example.com", False),
        ("localhost.example.com", False),
        ("127.0.0.1.example.com", False),
        ("", False),
    ],
)
def test_is_loopback(name, expected):
    assert is_loopback(name) is expected


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.4", "example.com", ""])
def test_check_exposure__public_demands_credentials(address):
    with pytest.raises(SettingsError, match="BASIC_AUTH_USER and BASIC_AUTH_PASS"):
        check_exposure(HostSettings(host=address))
    check_exposure(HostSettings(host=address, basic_auth_user="u", basic_auth_pass=SecretStr("p")))


def test_check_exposure__half_credentials_are_a_mistake():
    with pytest.raises(SettingsError, match="BASIC_AUTH_PASS is not set"):
        check_exposure(HostSettings(basic_auth_user="u"))
    with pytest.raises(SettingsError, match="BASIC_AUTH_USER is not set"):
        check_exposure(HostSettings(basic_auth_pass=SecretStr("p")))
    check_exposure(HostSettings())


@pytest.mark.parametrize("name", ["api_token", "webhook_secret"])
def test_check_exposure__tokens_stand_beside_basic_auth_and_are_long(name):
    user = {"basic_auth_user": "u", "basic_auth_pass": SecretStr("p")}
    with pytest.raises(SettingsError, match=f"USL_{name.upper()} is set but BASIC_AUTH_USER"):
        check_exposure(HostSettings(**{name: SecretStr("x" * 40)}))
    with pytest.raises(SettingsError, match="has 15 characters") as caught:
        check_exposure(HostSettings(**user, **{name: SecretStr("confidential-15")}))
    assert "confidential" not in str(caught.value)
    check_exposure(HostSettings(**user, **{name: SecretStr("x" * 16)}))


@pytest.mark.parametrize("name", ["evil.example", "localhost.evil.example", "10.0.0.7", "evil.example:9090"])
def test_host_name__foreign_ones_are_refused_without_credentials(client, name):
    answer = client.get("/health", headers={"Host": name})
    assert answer.status_code == 403
    assert "USL_PAGES_URL" in answer.json["error"]["message"]


def test_host_name__own_ones_are_fine(host, jobs, client, guarded_client):
    for name in ("localhost:9090", "127.0.0.1:9090", "[::1]:9090"):
        assert client.get("/health", headers={"Host": name}).status_code == 200
    public = create_app(host.model_copy(update={"public_url": "https://usl.example"}), jobs).test_client()
    assert public.get("/health", headers={"Host": "usl.example"}).status_code == 200
    pages = create_app(host.model_copy(update={"pages_url": "https://pages.example"}), jobs).test_client()
    assert pages.get("/health", headers={"Host": "pages.example"}).status_code == 200
    with_login = {"Host": "anything.example", **_basic("usl", "pass wörd")}
    assert guarded_client.get("/health", headers=with_login).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1234"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Origin": "https://evil.example", "Sec-Fetch-Site": "same-origin"},
        {"Origin": "http://localhost.evil.example"},
        {"Origin": "http://localhost@evil.example"},
        {"Origin": "//["},
        {"Referer": "https://evil.example/page"},
        {"Referer": "http://localhost:1234/usl/"},
    ],
)
@pytest.mark.parametrize("path", ["/usl/runs/12-1/cancel", "/usl/api/runs/12-1/cancel", "/webhook"])
def test_origin__acting_from_another_site_is_refused(client, store, path, headers):
    store.create(project=12, settings={})
    assert client.post(path, headers=headers, json={}).status_code == 403
    assert store.get("12-1").state == "queued"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Referer": "http://localhost/usl/runs/12-1"},
    ],
)
def test_origin__own_pages_and_scripts_may_act(client, store, headers):
    store.create(project=12, settings={"seed": 0})
    form = form_of(client, "/usl/runs/12-1")
    assert client.post("/usl/runs/12-1/cancel", headers=headers, data=form).status_code == 303
    assert store.get("12-1").state == "cancelled"
    assert client.post("/usl/api/runs/12-1/resume", headers=headers).status_code == 200


@pytest.mark.parametrize("setting", ["public_url", "pages_url"])
def test_origin__pages_seen_through_a_proxy_may_act(host, jobs, store, setting):
    store.create(project=12, settings={"seed": 0})
    client = create_app(host.model_copy(update={setting: "https://usl.example"}), jobs).test_client()
    form = form_of(client, "/usl/runs/12-1")
    headers = {"Origin": "https://usl.example", "Sec-Fetch-Site": "same-origin"}
    assert client.post("/usl/runs/12-1/cancel", headers=headers, data=form).status_code == 303


@pytest.mark.parametrize("login", [{}, _basic("usl", "pass wörd")], ids=["no login", "remembered login"])
@pytest.mark.parametrize(
    "form", [{}, {"form_token": ""}, {"form_token": "x" * 43}, {"form_token": "\N{SNOWMAN}"}]
)
@pytest.mark.parametrize("action", ["cancel", "resume", "report"])
def test_forms__a_page_that_names_no_origin_needs_the_token(
    guarded_client, client, store, login, form, action
):
    """What a browser sends that tells neither Origin nor Referer nor Sec-Fetch-Site, with the password it remembers."""
    store.create(project=12, settings={"seed": 0})
    sent = (guarded_client if login else client).post(f"/usl/runs/12-1/{action}", data=form, headers=login)
    assert sent.status_code == 403
    assert "reload" in sent.json["error"]["message"]
    assert store.get("12-1").state == "queued"


@pytest.mark.parametrize(
    "kind", ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain;charset=utf-8"]
)
@pytest.mark.parametrize(
    "path", ["/usl/api/runs/12-1/cancel", "/usl/api/runs", "/webhook", "/setup", "/predict"]
)
def test_forms__nothing_else_takes_what_a_form_can_send(client, store, kind, path):
    store.create(project=12, settings={"seed": 0})
    body = json.dumps({"action": "START_TRAINING", "project": {"id": 13}})
    assert client.post(path, data=body, content_type=kind).status_code == 415
    assert [(run.id, run.state) for run in store.list()] == [("12-1", "queued")]


def test_forms__every_form_of_a_page_carries_the_token(client, store):
    store.create(project=12, settings={"seed": 0})
    for _ in ("queued", "cancelled"):
        page = client.get("/usl/runs/12-1").text
        assert page.count("<form") == page.count('name="form_token"') == 1
        store.cancel("12-1") if store.get("12-1").state == "queued" else None


def test_forms__the_token_is_of_this_server_alone(host, jobs, store):
    store.create(project=12, settings={"seed": 0})
    first, second = (create_app(host, jobs).test_client() for _ in range(2))
    form = form_of(first, "/usl/runs/12-1")
    assert form != form_of(second, "/usl/runs/12-1")
    assert second.post("/usl/runs/12-1/cancel", data=form).status_code == 403


@pytest.mark.parametrize("path", ["/health", "/usl/", "/nowhere", "/usl/static/run.js"])
def test_headers__on_every_answer(client, path):
    headers = client.get(path, buffered=True).headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "same-origin"


def test_size__too_large_a_body_is_refused(client, monkeypatch):
    client.application.config["MAX_CONTENT_LENGTH"] = 1000
    answer = client.post("/setup", data=b'"' + b"x" * 2000 + b'"', content_type="application/json")
    assert answer.status_code == 413
    assert client.post("/predict", json={"tasks": [{"data": "x" * 2000}]}).status_code == 200


def test_size__of_a_body_depends_on_who_sends_it_and_where(host, guarded):
    user = {"AUTHORIZATION": _basic("usl", "pass wörd")["Authorization"]}
    secret = {"X_USL_WEBHOOK_SECRET": "secret-of-the-webhook"}
    limit = body_limit(guarded)
    assert limit("/predict", user) == MAX_PREDICT_BODY
    assert limit("/webhook", user) == limit("/webhook", secret) == limit("/setup", user) == MAX_BODY
    assert limit("/predict", {}) == limit("/predict", secret) == limit("/setup", {}) == MAX_STRANGER_BODY
    assert body_limit(host)("/predict", {}) == MAX_PREDICT_BODY  # a host without credentials, on loopback
