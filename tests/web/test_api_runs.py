import pytest

from usl_backend.instances import Queue
from usl_backend.runs import RunState
from usl_backend.runs.published import Published


def test_start_run__queues_and_tells_where(client, store):
    answer = client.post("/usl/api/runs", json={"project": 12, "budget": 5, "dry_run": True, "seed": 3})
    assert answer.status_code == 201
    assert answer.headers["Location"] == "/usl/api/runs/12-1"
    run = store.get("12-1")
    assert (run.settings["budget"], run.settings["seed"], run.dry_run) == ("5", 3, True)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "project is 'None'"),
        ({"project": "x"}, "project is 'x'"),
        ({"project": 12, "budegt": 5}, 'did you mean "budget"'),
        ({"project": 12, "budget": -1}, 'budget is "-1"'),
        ({"project": 12, "dry_run": "yes"}, "dry_run is 'yes'"),
        ({"project": 12, "basic_auth_pass": "x"}, "belongs to the host"),
    ],
)
def test_start_run__bad_input_is_a_sentence_and_no_run(client, store, body, said):
    answer = client.post("/usl/api/runs", json=body)
    assert answer.status_code == 400
    assert said in answer.json["error"]["message"]
    assert store.list() == []


def test_start_run__second_is_a_conflict_that_names_the_first(client):
    client.post("/usl/api/runs", json={"project": 12})
    answer = client.post("/usl/api/runs", json={"project": 12})
    assert (answer.status_code, answer.json["run"]) == (409, "12-1")


def test_list_runs__newest_first_and_narrowed(client, store):
    for project in (1, 2, 3):
        store.create(project=project, settings={})
    store.cancel("2-1")
    assert [run["id"] for run in client.get("/usl/api/runs").json["runs"]] == ["3-1", "2-1", "1-1"]
    assert [run["id"] for run in client.get("/usl/api/runs?state=cancelled").json["runs"]] == ["2-1"]
    assert [run["id"] for run in client.get("/usl/api/runs?project=3").json["runs"]] == ["3-1"]
    assert [run["id"] for run in client.get("/usl/api/runs?limit=1").json["runs"]] == ["3-1"]


@pytest.mark.parametrize(
    "query", ["state=over", "limit=0", "limit=x", "limit=1001", "limit=-1", "project=x", "limit=٣"]
)
def test_list_runs__bad_query_is_a_400(client, query):
    assert client.get(f"/usl/api/runs?{query}").status_code == 400


def test_show_run__polling_an_unchanged_run_costs_a_304(client, store):
    store.create(project=12, settings={})
    first = client.get("/usl/api/runs/12-1")
    assert first.json["state"] == "queued"
    again = client.get("/usl/api/runs/12-1", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    store.claim("12-1")
    assert (
        client.get("/usl/api/runs/12-1", headers={"If-None-Match": first.headers["ETag"]}).status_code == 200
    )


@pytest.mark.parametrize("run_id", ["12-9", "x", "..", "%2e%2e%2fetc"])
@pytest.mark.parametrize(
    ("method", "rest"), [("GET", ""), ("POST", "/cancel"), ("POST", "/resume"), ("GET", "/picks")]
)
def test_run__unknown_is_a_404(client, run_id, method, rest):
    assert client.open(f"/usl/api/runs/{run_id}{rest}", method=method).status_code == 404


def test_cancel_and_resume__there_and_back(client, store):
    store.create(project=12, settings={"seed": 0})
    assert client.post("/usl/api/runs/12-1/resume").status_code == 409
    assert client.post("/usl/api/runs/12-1/cancel").json["state"] == "cancelled"
    assert client.post("/usl/api/runs/12-1/cancel").status_code == 409
    assert client.post("/usl/api/runs/12-1/resume").json["state"] == "queued"
    assert store.get("12-1").state is RunState.QUEUED


def test_list_picks__in_rank_order_and_by_role(client, store):
    run = store.create(project=12, settings={})
    assert client.get("/usl/api/runs/12-1/picks").status_code == 409
    queue = [{"task": 7, "rank": 0, "role": "pick"}, {"task": 4, "rank": 1, "role": "reserve"}]
    store.files(run.id).write_published(Published(Queue.of([7], reserve=[4]), model_version="usl-12-1"))
    assert client.get("/usl/api/runs/12-1/picks").json == {
        "run": "12-1",
        "model_version": "usl-12-1",
        "picks": queue,
    }
    assert client.get("/usl/api/runs/12-1/picks?role=pick").json["picks"] == queue[:1]
    assert client.get("/usl/api/runs/12-1/picks?role=x").status_code == 400
