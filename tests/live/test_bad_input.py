"""What users get wrong: a clear line or a listed skip, never a stack trace, never a half-written queue."""

import base64
import io
import json
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from live_studio import LiveProject, LiveStudio, choice
from PIL import Image
from shell import FOLDER, Shell, Told, local

from usl_backend.errors import StudioError
from usl_backend.runs import RunState
from usl_backend.studio import backend

MakeProject = Callable[..., LiveProject]

UNTOUCHED = ("Sequential sampling", "", {}, [])


def state(project: LiveProject) -> tuple[object, ...]:
    now = project.now
    return now.sampling, now.model_version, project.model_versions(), project.views()


def refused(told: Told, said: str, *, code: int = 1) -> None:
    """One line on stderr that says so, nothing on stdout."""
    errors = [line for line in told.err.splitlines() if line.startswith("error: ")]
    assert (told.code, told.out, len(errors)) == (code, "", 1), told
    assert said in errors[0]
    assert "Traceback" not in told.err
    assert "0123456789abcdef" not in told.err


@pytest.mark.parametrize(
    ("token", "said"),
    [
        ("f" * 40, "refuses the token in LABEL_STUDIO_API_KEY"),
        ("not a token", "refuses the token in LABEL_STUDIO_API_KEY"),
    ],
)
def test_select__wrong_token(shell: Shell, token: str, said: str) -> None:
    refused(shell("select", 1, LABEL_STUDIO_API_KEY=token), said)
    assert shell.store.list() == []


def test_select__revoked_and_expired_personal_tokens(
    shell: Shell, personal_token: str, client: object
) -> None:
    head, payload, signature = personal_token.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    old = base64.urlsafe_b64encode(json.dumps(claims | {"exp": 1_600_000_000}).encode()).decode().rstrip("=")
    expired = f"{head}.{old}.{signature}"
    told = shell("select", 1, LABEL_STUDIO_API_KEY=expired)
    refused(told, "refuses the personal access token in LABEL_STUDIO_API_KEY")
    assert "create a new one at" in told.err
    assert expired not in told.err
    assert shell.store.list() == []


def test_select__access_token_instead_of_the_personal_one(shell: Shell) -> None:
    claims = (
        base64.urlsafe_b64encode(json.dumps({"token_type": "access", "exp": 1}).encode()).decode().rstrip("=")
    )
    refused(shell("select", 1, LABEL_STUDIO_API_KEY=f"e30.{claims}.x"), "is an access token", code=2)


@pytest.mark.parametrize("url", ["http://127.0.0.1:{port}", "http://no-such-host.invalid:8080"])
def test_select__unreachable_server(shell: Shell, url: str) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = url.format(port=port)
    told = shell("select", 1, LABEL_STUDIO_URL=address)
    refused(told, f"no answer from Label Studio at {address}")
    assert shell.store.list() == []


def test_select__unknown_project(shell: Shell, label_studio: LiveStudio) -> None:
    refused(shell("select", 999_999), f"project 999999 does not exist at {label_studio.url}")
    refused(shell("export", 999_999), "project 999999 has no completed run")
    refused(shell("reset", 999_999), "project 999999 does not exist")
    assert shell.store.list() == []


def test_select__empty_project(shell: Shell, make_project: MakeProject) -> None:
    project = make_project()
    refused(shell("select", project.id), "has no tasks; import tasks, then start again")
    assert state(project) == UNTOUCHED
    [run] = shell.store.list()
    assert (run.state, dict(run.error or {})["type"]) == (RunState.FAILED, "InputError")
    assert f"error: project {project.id}" in shell("status", run.id).out


def test_select__everything_labeled(shell: Shell, make_project: MakeProject) -> None:
    project = make_project(3)
    for task in project.tasks[:2]:
        project.client.annotate(task, [choice("cat")])
    project.client.annotate(project.tasks[2], [], was_cancelled=True)
    refused(shell("select", project.id), "all 3 tasks")
    assert state(project) == UNTOUCHED


@pytest.mark.parametrize("budget", ["0", "-5", "many", "3.5", "120%", ""])
def test_select__impossible_budget(shell: Shell, make_project: MakeProject, budget: str) -> None:
    project = make_project(3)
    if budget == "":
        # Empty means unset, as in Label Studio's form; the tasks themselves cannot be read.
        refused(shell("select", project.id, "--budget", budget), "3 of 3 files could not be fetched")
    else:
        refused(
            shell("select", project.id, "--budget", budget), f'budget is "{budget}"; give a positive', code=2
        )
        assert shell.store.list() == []
    assert state(project) == UNTOUCHED


def test_select__budget_larger_than_the_pool(shell: Shell, make_project: MakeProject) -> None:
    project = make_project(3)
    refused(
        shell("select", project.id, "--budget", 4),
        "budget is 4 but only 3 tasks can be chosen; lower the budget",
    )
    refused(shell("select", project.id, "--budget", "2/class"), "budget is 6 but only 3 tasks can be chosen")
    assert state(project) == UNTOUCHED


@pytest.mark.parametrize(
    ("label_config", "said"),
    [
        (
            '<View><Audio name="s" value="$image"/><Choices name="c" toName="s"><Choice value="a"/></Choices></View>',
            "the label config shows Audio, which is not supported yet; name a picture or a text of the tasks",
        ),
        (
            '<View><Image name="i" value="$image"/><Image name="j" value="$other"/></View>',
            "the label config shows several images (image, other); choose, for example --data-key image",
        ),
    ],
)
def test_select__label_config_that_leaves_a_doubt(
    shell: Shell, make_project: MakeProject, label_config: str, said: str
) -> None:
    project = make_project(data=[{"image": "x.png", "other": "y.png"}], label_config=label_config)
    refused(shell("select", project.id), said)
    assert state(project) == UNTOUCHED


def test_select__unknown_and_impossible_settings(shell: Shell, make_project: MakeProject) -> None:
    project = make_project(3)
    refused(shell("select", project.id, "--budegt", 3), "Did you mean '--budget'?", code=2)
    refused(shell("select", project.id, "--method", "usll"), 'did you mean "usl"?', code=2)
    refused(shell("select", project.id, "--preset", "paper-cifar"), 'did you mean "paper-cifar10', code=2)
    refused(shell("select", project.id, "--neighbors", 0), "neighbors", code=2)
    refused(shell("select", project.id, USL_SEDE="1"), 'did you mean "USL_SEED"', code=2)
    assert shell.store.list() == []


@pytest.mark.parametrize(
    ("extra_params", "said"),
    [
        ({"budegt": 100}, 'unknown setting "budegt"; did you mean "budget"?'),
        ({"budget": 0}, 'budget is "0"'),
        ({"label_studio_api_key": "x" * 40}, '"label_studio_api_key" belongs to the host'),
    ],
)
def test_select__extra_params_that_cannot_be_used(
    shell: Shell, make_project: MakeProject, extra_params: dict[str, object], said: str
) -> None:
    """As /setup remembers them when Label Studio's form was saved with a mistake in it."""
    project = make_project(3)
    shell.store.remember_setup(project.id, project.now.key, refused=said)
    told = shell("select", project.id)
    refused(told, said, code=2)
    assert "correct them in Label Studio, Settings > Model" in told.err
    assert "x" * 40 not in told.err
    assert shell.store.list() == []


def test_connect__unreachable_backend_leaves_no_row(shell: Shell, make_project: MakeProject) -> None:
    project = make_project(1)
    refused(
        shell("connect", project.id, "--port", 1), "Label Studio cannot use the backend at http://127.0.0.1:1"
    )
    assert backend.backends(project.client, project.id) == []
    with pytest.raises(StudioError):
        backend.find(project.client, project.id, "http://127.0.0.1:1")


@pytest.fixture(scope="module")
def broken(label_studio: LiveStudio, pictures: list[str]) -> Iterator[dict[str, str]]:
    """Values of `image` that cannot be read -> what is said of them."""
    folder = label_studio.documents_root / FOLDER
    good = (folder / pictures[0]).read_bytes()
    noise = io.BytesIO()
    Image.effect_noise((64, 64), 80).save(noise, "JPEG")
    huge = io.BytesIO()
    Image.new("1", (12_000, 9_000)).save(huge, "PNG")
    files = {
        "empty.png": b"",
        "truncated.png": good[: len(good) // 2],
        "truncated.jpg": noise.getvalue()[:-400],
        "text.png": b"this is no picture at all\n" * 50,
        "page.png": b"<!doctype html><html><body>log in</body></html>",
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"/>',
        "huge.png": huge.getvalue(),
        "heavy.png": good + b"\0" * 3_000_000,
        "zeros.png": bytes(5_000),
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    yield {
        local("empty.png")["image"]: "the file is empty (0 bytes)",
        local("truncated.png")["image"]: "truncated or damaged",
        local("truncated.jpg")["image"]: "truncated or damaged",
        local("text.png")["image"]: "not a picture in a known format",
        local("page.png")["image"]: "is a web page (HTML), not a picture",
        local("drawing.svg")["image"]: "SVG or XML drawing",
        local("huge.png")["image"]: "pixels",
        local("heavy.png")["image"]: "more than the limit of 2,000,000",
        local("zeros.png")["image"]: "not a picture in a known format",
        local("missing.png")["image"]: "404",
        local("../../secret.png")["image"]: "lies outside the local files",
        "": '"image" is empty',
        "picture.png": "cannot be fetched",
        "ftp://example.com/a.png": "cannot be fetched",
        "http://127.0.0.1:9/a.png": "private or reserved address",
        "http://no-such-host.invalid/a.png": "no-such-host.invalid",
        "data:image/png;base64,AAAA": "not a picture in a known format",
        "s3://no-such-storage/a.png": "",
    }
    for name in files:
        (folder / name).unlink()


def test_select__a_thousand_tasks_of_which_some_cannot_be_read(
    shell: Shell, make_project: MakeProject, pictures: list[str], broken: dict[str, str]
) -> None:
    # Many tasks share a picture: what is shown is the handling of a thousand tasks, not a thousand encodings.
    values = [local(pictures[number % 150])["image"] for number in range(1000 - 4 * len(broken))]
    values += [value for value in broken for _ in range(4)]
    random.Random(0).shuffle(values)
    project = make_project(data=[{"image": value} for value in values])
    shown = dict(zip(project.tasks, values, strict=True))
    told = shell("select", project.id, "--budget", 20, "--media-max-bytes", 2_000_000, "--json")
    assert told.code == 0, told.err
    assert "Traceback" not in told.err
    run = told.json
    bad = 4 * len(broken)
    assert run["summary"]["pool"] == {
        "tasks": 1000, "annotated": 0, "unlabeled": 1000, "readable": 1000 - bad, "skipped": bad,
        "encoded": run["summary"]["pool"]["encoded"],
    }  # fmt: skip
    queued = {entry["task"] for entry in run["queue"]}
    assert len(queued) == 40
    assert all(shown[task].startswith(f"/data/local-files/?d={FOLDER}/0") for task in queued)
    assert run["summary"]["verified"]["outcome"] == "first"
    assert sum(kind["count"] for kind in run["summary"]["skipped"]["kinds"]) == bad

    # Every one of them is listed, with a reason that says what is wrong.
    lines = shell("status", run["id"]).out.splitlines()
    start = lines.index(f"{bad} unreadable tasks:") + 1
    reasons = {int(line.split()[0]): line.split(maxsplit=1)[1] for line in lines[start:]}
    assert set(reasons) == {task for task, value in shown.items() if value in broken}
    for task, reason in reasons.items():
        assert broken[shown[task]] in reason, f"{shown[task]}: {reason}"

    # More than can be read is refused by both numbers, and the queue in force stays as it is.
    before = state(project)
    told = shell("select", project.id, "--budget", 990, "--media-max-bytes", 2_000_000)
    failed = shell.store.latest(project.id)
    assert failed is not None
    refused(
        told, f"budget is 990 but only {1000 - bad} of 1000 tasks could be read; lower the budget or see "
    )
    assert f"/usl/runs/{failed.id}" in told.err
    assert state(project) == before


def test_select__nothing_can_be_read(shell: Shell, make_project: MakeProject, tmp_path: Path) -> None:
    project = make_project(data=[local("nowhere.png"), {"image": "http://127.0.0.1:9/a.png"}])
    told = shell("select", project.id)
    refused(told, "none of the 2 tasks could be read (task ")
    assert state(project) == UNTOUCHED
