import hashlib
from pathlib import Path

import pytest

from usl_backend.encoders.files import digest_of, find_file, is_free_path
from usl_backend.errors import EncoderError


@pytest.mark.parametrize("name", ["/etc/passwd", "~/w.pt", "../w.pt", "a/../../w.pt", "./w.pt", "a\0b"])
def test_is_free_path__what_could_lead_out(name: str) -> None:
    assert is_free_path(name)


@pytest.mark.parametrize("name", ["w.pt", "team/w.pt", "a..b.pt", ".hidden"])
def test_is_free_path__plain_names_are_not(name: str) -> None:
    assert not is_free_path(name)


def test_find_file__below_the_directory(tmp_path: Path) -> None:
    (tmp_path / "team").mkdir()
    file = tmp_path / "team" / "w.pt"
    file.write_bytes(b"x")
    assert find_file("team/w.pt", directory=tmp_path, encoder="e") == file.resolve()


def test_find_file__a_link_that_leads_out_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"x")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "w.pt").symlink_to(tmp_path / "outside")
    with pytest.raises(EncoderError, match="leads out of"):
        find_file("w.pt", directory=inside, encoder="e")


@pytest.mark.parametrize("name", ["w.pt", ""])
def test_find_file__missing_says_where_to_put_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(EncoderError, match=rf'needs the file "{name}" in .*; put it there'):
        find_file(name, directory=tmp_path, encoder="e")


def test_find_file__no_directory() -> None:
    with pytest.raises(EncoderError, match="USL_ENCODER_DIR"):
        find_file("w.pt", directory=None, encoder="e")


def test_digest_of__file_and_directory(tmp_path: Path) -> None:
    file = tmp_path / "a" / "w.pt"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    assert digest_of(file) == hashlib.sha256(b"weights").hexdigest()
    before = digest_of(tmp_path)
    file.rename(tmp_path / "a" / "v.pt")
    assert digest_of(tmp_path) != before
