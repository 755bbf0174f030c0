import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

from usl_backend.settings import OPTIONS

ROOT = Path(__file__).parent.parent
HOST_VARIABLES = {option.environment for option in OPTIONS if option.scope == "host"}
SECRET_VARIABLES = {option.environment for option in OPTIONS if option.secret}


def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text(encoding="utf-8")


def services() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return loaded


def project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as stream:
        loaded: dict[str, Any] = tomllib.load(stream)["project"]
    return loaded


def test_dockerfile__lints_clean() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def locked() -> dict[str, str]:
    """Versions that the image is built from."""
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines if not line.startswith("#"))


def test_requirements__hold_a_version_within_the_bounds_of_all_that_the_image_installs() -> None:
    extras = project()["optional-dependencies"]
    for text in [*project()["dependencies"], *extras["map"], *extras["text"]]:
        wanted = Requirement(text)
        assert wanted.specifier.contains(locked()[wanted.name.lower()]), text
    # CUDA's libraries are gigabytes, and the CPU wheels of torch do not need them
    assert not [name for name in locked() if name.startswith(("nvidia", "cuda", "triton"))]
    assert dockerfile().count("--constraint requirements.txt") == 2


def test_dockerfile__health_check_asks_the_port_that_is_set() -> None:
    (command,) = re.findall(r"HEALTHCHECK.*?CMD (\[.*?\])\n", dockerfile(), re.DOTALL)
    program = json.loads(command)
    assert program[0] == "python"

    class Lives(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/livez" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Lives) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        environment = os.environ | {"USL_PORT": str(server.server_address[1])}
        well = subprocess.run([sys.executable, *program[1:]], env=environment, check=False)
        server.shutdown()
        thread.join()
    ill = subprocess.run([sys.executable, *program[1:]], env=environment, capture_output=True, check=False)
    assert (well.returncode, ill.returncode) == (0, 1)


def test_dockerfile__variables_are_known_and_none_is_secret() -> None:
    stage = dockerfile().rpartition("FROM ")[2]
    known = set(re.findall(r"^(?:ENV)?\s+([A-Z_]+)=\S", stage, re.MULTILINE)) - {
        "PATH",
        "PYTHONUNBUFFERED",
    }
    assert known >= {"MODEL_DIR", "USL_HOST", "USL_PORT"}
    assert known <= HOST_VARIABLES
    assert not any(name in dockerfile() for name in SECRET_VARIABLES)


def test_dockerfile__runs_as_nobody_special() -> None:
    users = re.findall(r"^USER\s+(\S+)", dockerfile(), re.MULTILINE)
    assert users
    assert users[-1].split(":")[0].isdigit()
    assert users[-1].split(":")[0] != "0"


def test_compose__backend_variables_are_settings_and_secrets_come_from_outside() -> None:
    environment = services()["backend"]["environment"]
    assert set(environment) <= HOST_VARIABLES
    assert set(environment) >= SECRET_VARIABLES
    for service in services().values():
        for name, value in service["environment"].items():
            if (
                re.search(r"PASS|TOKEN$|API_KEY|SECRET", name)
                and name != "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN"
            ):
                assert re.fullmatch(r"\$\{[A-Z_]+:(\?[^}]+|-)\}", value), (
                    f"{name} must come from the environment"
                )


def test_compose__label_studio_is_the_version_that_is_tested() -> None:
    pinned = next(e for e in project()["optional-dependencies"]["demo"] if e.startswith("label-studio=="))
    assert services()["label-studio"]["image"] == "heartexlabs/" + pinned.replace("==", ":")


def test_compose__label_studio_accepts_a_backend_on_a_private_address() -> None:
    environment = services()["label-studio"]["environment"]
    assert environment["ML_BLOCK_LOCAL_IP"] == "false"
    assert environment["SSRF_PROTECTION_ENABLED"] == "false"


def test_compose__addresses_meet() -> None:
    backend = services()["backend"]["environment"]
    assert backend["LABEL_STUDIO_URL"] == "http://label-studio:8080"
    port = re.search(r"USL_PORT=(\d+)", dockerfile())
    assert port is not None
    assert backend["USL_PUBLIC_URL"] == f"http://backend:{port[1]}"
    assert backend["USL_PAGES_URL"] == f"http://localhost:{port[1]}"
    assert services()["backend"]["ports"] == [f"127.0.0.1:{port[1]}:{port[1]}"]
    assert all(entry.startswith("127.0.0.1:") for entry in services()["label-studio"]["ports"])


def test_compose__bounds_memory_and_processes() -> None:
    for service in services().values():
        assert service["mem_limit"]
        assert service["pids_limit"]


def test_compose__local_files_are_the_same_for_both() -> None:
    studio, backend = services()["label-studio"], services()["backend"]
    assert studio["environment"]["LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED"] == "true"
    assert backend["environment"]["LABEL_STUDIO_HOST"] == studio["environment"]["LABEL_STUDIO_HOST"]
    mounted = [
        dict(
            entry.removesuffix(":ro").rsplit(":", 1)[::-1]
            for entry in service["volumes"]
            if entry.endswith(":ro")
        )
        for service in (studio, backend)
    ]
    roots = [one["environment"]["LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"] for one in (studio, backend)]
    assert mounted[0][roots[0]] == mounted[1][roots[1]]


def test_dockerignore__lets_in_what_is_copied_and_nothing_else() -> None:
    allowed = set(re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    copied: set[str] = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", dockerfile(), re.MULTILINE):
        copied |= {source.removeprefix("./") for source in line.split()[:-1]}
    assert allowed == copied
