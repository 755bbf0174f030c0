import json
import socket
from pathlib import Path

import pytest

from usl_backend.demo.place import DemoPlace
from usl_backend.demo.studio_server import free_port
from usl_backend.errors import InputError


def test_place__memory_outlives_the_start(tmp_path: Path) -> None:
    first = DemoPlace(tmp_path / "demo")
    assert first.is_new
    memory = first.remember(project=7).memory
    assert len(memory.token) == 40
    assert int(memory.token, 16) > 0
    assert DemoPlace(tmp_path / "demo").memory == memory


def test_place__each_has_credentials_of_its_own(tmp_path: Path) -> None:
    one, other = (DemoPlace(tmp_path / name).memory for name in ("one", "other"))
    assert one.token != other.token
    assert one.password != other.password


def test_place__others_cannot_read_it(tmp_path: Path) -> None:
    place = DemoPlace(tmp_path / "demo")
    place.remember(project=1)
    assert place.directory.stat().st_mode & 0o077 == 0
    assert (place.directory / "demo.json").stat().st_mode & 0o077 == 0


def test_place__foreign_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="is not empty and holds no demo"):
        DemoPlace(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_place__interrupted_first_start_is_taken_up(tmp_path: Path) -> None:
    (tmp_path / "demo.lock").write_text("")
    (tmp_path / "backend").mkdir()
    assert DemoPlace(tmp_path).is_new


def test_place__file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "demo").write_text("")
    with pytest.raises(InputError, match=r"cannot use .*demo"):
        DemoPlace(tmp_path / "demo")


@pytest.mark.parametrize("content", ["", "[]", '{"password": "x"}', '{"unknown": 1}'])
def test_place__unreadable_memory_says_what_to_remove(tmp_path: Path, content: str) -> None:
    place = DemoPlace(tmp_path / "demo")
    place.remember()
    (place.directory / "demo.json").write_text(content)
    with pytest.raises(InputError, match=r"demo\.json cannot be read .* to start over"):
        DemoPlace(place.directory)


def test_reserve_ports__those_of_the_last_start_unless_taken(tmp_path: Path) -> None:
    place = DemoPlace(tmp_path)
    before = place.memory
    assert place.reserve_ports() == before
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", before.studio_port))
        taken.listen()
        after = place.reserve_ports()
    assert after.studio_port != before.studio_port
    assert after.backend_port == before.backend_port
    assert json.loads((tmp_path / "demo.json").read_text())["studio_port"] == after.studio_port


def test_reserve_ports__the_user_s_word_counts(tmp_path: Path) -> None:
    place = DemoPlace(tmp_path)
    assert place.reserve_ports(studio=18080, backend=19090).studio_port == 18080
    assert DemoPlace(tmp_path).memory.backend_port == 19090


def test_reserve_ports__each_server_has_its_own(tmp_path: Path) -> None:
    place = DemoPlace(tmp_path / "demo")
    place.remember(studio_port=free_port())
    # The port asked for one server is the other's of the last start.
    wanted = place.memory.studio_port
    memory = place.reserve_ports(backend=wanted)
    assert memory.backend_port == wanted
    assert memory.studio_port != wanted
    with pytest.raises(InputError, match=f"port {wanted} is given for both servers; give each its own"):
        place.reserve_ports(wanted, wanted)


def test_reserve_ports__one_in_use_is_named_and_not_kept(tmp_path: Path) -> None:
    place = DemoPlace(tmp_path / "demo")
    before = place.memory
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        for ports in ((taken, None), (None, taken)):
            with pytest.raises(InputError, match=f"port {taken} on 127.0.0.1 is in use; choose another one"):
                place.reserve_ports(*ports)
    assert place.memory == before
