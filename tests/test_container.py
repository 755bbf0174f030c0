import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

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


@pytest.mark.parametrize("package", ["torch", "torchvision"])
def test_dockerfile__bounds_are_those_of_the_project(package: str) -> None:
    bound = next(entry for entry in project()["dependencies"] if re.match(rf"{package}[<>=]", entry))
    assert f'"{bound}"' in dockerfile()


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
    assert services()["backend"].get("ports") is None
    assert all(entry.startswith("127.0.0.1:") for entry in services()["label-studio"]["ports"])


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
