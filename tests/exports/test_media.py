import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from usl_backend.errors import ExportError, MediaError
from usl_backend.exports import Row, Split, check_export, export_split, local_file
from usl_backend.exports.check import read_manifest

MakeSplit = Callable[..., Split]


def test_place_files__link_shares_the_bytes(make_split: MakeSplit, tmp_path: Path) -> None:
    split = make_split()
    directory = export_split(split, tmp_path / "out", format="csv", media="link", fetch=local_file)
    assert (directory / "media" / "100.png").samefile(split.unlabeled[0].source)
    assert read_manifest(directory)["media"] == {
        "mode": "link",
        "copied": 0,
        "hard_links": 7,
        "symbolic_links": 0,
        "first_of_several": 0,
        "missing": {},
    }


def test_place_files__copy_is_a_file_of_its_own(make_split: MakeSplit, tmp_path: Path) -> None:
    split = make_split()
    directory = export_split(split, tmp_path / "out", format="csv", media="copy", fetch=local_file)
    copied, source = directory / "media" / "100.png", Path(split.unlabeled[0].source)
    assert not copied.samefile(source)
    assert copied.read_bytes() == source.read_bytes()
    assert read_manifest(directory)["media"]["copied"] == 7


def test_place_files__another_file_system_gets_symbolic_links(
    make_split: MakeSplit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr("usl_backend.exports.media.os.link", refuse)
    split = make_split()
    directory = export_split(split, tmp_path / "out", format="csv", media="link", fetch=local_file)
    assert (directory / "media" / "100.png").is_symlink()
    assert read_manifest(directory)["media"]["symbolic_links"] == 7
    assert check_export(directory).files == 7
    Path(split.unlabeled[0].source).unlink()
    with pytest.raises(ExportError, match=r"media/100.png is missing or its link is broken"):
        check_export(directory)


@pytest.mark.parametrize(
    ("start", "suffix"),
    [
        (b"\x89PNG\r\n", ".png"),
        (b"\xff\xd8\xff\xe0", ".jpg"),
        (b"GIF89a", ".gif"),
        (b"BM1234", ".bmp"),
        (b"RIFF\0\0\0\0WEBP", ".webp"),
        (b"II*\0", ".tif"),
        (b"?", ".bin"),
    ],
)
def test_place_files__suffix_by_content(tmp_path: Path, start: bytes, suffix: str) -> None:
    split = Split((Row(0, 5, "https://x.example/picture?id=1.html", label="a"),), (), ("a",))
    directory = export_split(
        split, tmp_path / "out", format="csv", media="link", fetch=lambda row: start + b"\0" * 20
    )
    assert [path.name for path in (directory / "media").iterdir()] == [f"5{suffix}"]
    assert (directory / "media" / f"5{suffix}").read_bytes() == start + b"\0" * 20


def test_place_files__source_cannot_leave_the_export(tmp_path: Path) -> None:
    split = Split((Row(0, 5, "../../../etc/../x.png", label="../../up"),), (), ("../../up",))
    for name in ("eman", "names", "huggingface", "torch"):
        directory = export_split(
            split, tmp_path / name, format=name, media="link", fetch=lambda row: b"\x89PNG"
        )
        assert {path.name for path in tmp_path.iterdir()} <= {"eman", "names", "huggingface", "torch"}
        assert check_export(directory).per_class == {"../../up": 1}


def test_place_files__rows_come_in_order_however_slow(tmp_path: Path) -> None:
    import time

    def slow(row: Row) -> bytes:
        time.sleep(0.002 * (row.task % 3))
        return str(row.task).encode()

    rows = tuple(Row(i, i, f"{i}.png") for i in range(100))
    directory = export_split(Split((), rows, ()), tmp_path / "out", format="csv", media="copy", fetch=slow)
    assert [(directory / "media" / f"{i}.png").read_text() for i in range(100)] == [
        str(i) for i in range(100)
    ]
    assert [row["index"] for row in read_manifest(directory)["rows"]] == list(range(100))


def test_place_files__no_file_at_all(tmp_path: Path) -> None:
    def gone(row: Row) -> bytes:
        raise MediaError("answered 404")

    split = Split((), (Row(0, 5, "x.png"), Row(1, 6, "y.png")), ())
    with pytest.raises(ExportError, match=r"none of 2 files could be read \(task 5: answered 404\)"):
        export_split(split, tmp_path / "out", format="csv", media="link", fetch=gone)
    assert list(tmp_path.iterdir()) == []


def test_export_split__link_without_fetch_is_refused(make_split: MakeSplit, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match='media is "link", which needs a function that fetches files'):
        export_split(make_split(), tmp_path / "out", media="link")


def test_local_file__only_what_is_there() -> None:
    with pytest.raises(MediaError, match=r"'/nowhere/x\.png' is not a local file"):
        local_file(Row(0, 1, "/nowhere/x.png"))
