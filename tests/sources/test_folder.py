"""Folders and patterns on a real disk. Files are empty: a listing opens none of them."""

import os
from pathlib import Path

import pytest

from usl_backend.errors import InputError
from usl_backend.instances import EmbeddedField, Instance, TextFile
from usl_backend.sources import Entry, read_manifest
from usl_backend.sources.entries import field_of, instance_of
from usl_backend.sources.folder import Folder, split_pattern
from usl_backend.sources.target import find


def make(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def keys(listing: object) -> list[str]:
    return [entry.key for entry in listing]  # type: ignore[attr-defined]


def test_folder__pictures_of_all_levels_sorted_by_path(tmp_path: Path) -> None:
    make(tmp_path, "b/2.JPG", "a.png", "b/1.webp", "c/d/e.tiff")
    found = list(read_manifest(tmp_path))
    assert [(entry.row, entry.key) for entry in found] == [
        (0, "a.png"), (1, "b/1.webp"), (2, "b/2.JPG"), (3, "c/d/e.tiff"),
    ]  # fmt: skip
    assert found[1] == Entry(1, "b/1.webp", "image", str(tmp_path / "b/1.webp"))


def test_folder__the_rest_is_counted_and_hidden_files_are_ignored(tmp_path: Path) -> None:
    make(
        tmp_path, "a.png", "notes.txt", "b/x.csv", ".hidden.png", ".git/y.png", "Thumbs.db", "__MACOSX/z.png"
    )
    folder = Folder(tmp_path)
    assert keys(folder) == ["a.png"]
    assert folder.passed_over == {"other files": 2, "hidden": 4}


def test_folder__many_files_that_are_no_pictures_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for number in range(20_000):
        os.close(os.open(f"{tmp_path}/deep/{number}.txt", os.O_CREAT))
    make(tmp_path, "a.png")
    told: list[int] = []
    folder = Folder(tmp_path, progress=lambda _, done, _total: told.append(done))
    assert keys(folder) == ["a.png"]
    assert folder.passed_over == {"other files": 20_000}
    assert told == [8_192, 16_384]


def test_folder__without_pictures_says_what_it_has(tmp_path: Path) -> None:
    make(tmp_path, "a.txt", "b.txt")
    with pytest.raises(
        InputError,
        match=r"has no images \(2 other files ignored\); supported extensions: \.avi, \.avif, .*\.pdf",
    ):
        list(Folder(tmp_path))


def test_folder__links_that_leave_it_are_refused_by_name(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    make(root, "a.png", "sub/b.png")
    make(outside, "secret.png", "more/c.png")
    (root / "out.png").symlink_to(outside / "secret.png")
    (root / "away").symlink_to(outside / "more")
    (root / "again.png").symlink_to(root / "a.png")
    (root / "loop").symlink_to(root)
    (root / "broken.png").symlink_to(root / "nothing.png")
    folder = Folder(root)
    found = {entry.key: entry.fault for entry in folder}
    assert found == {
        "a.png": None,
        "again.png": None,
        "away": "the link leaves the folder, so it is not followed",
        "broken.png": "the link leads nowhere: No such file or directory",
        "out.png": "the link leaves the folder, so it is not followed",
        "sub/b.png": None,
    }
    assert folder.passed_over == {"links": 1}


def test_folder__subfolder_that_cannot_be_read_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever runs this may be root, whom no rights stop.
    make(tmp_path, "a.png", "locked/b.png")
    scandir = os.scandir

    def refusing(path: Path) -> object:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = {entry.key: entry.fault for entry in Folder(tmp_path)}
    assert found == {"a.png": None, "locked/": "the folder cannot be read: Permission denied"}


def test_folder__that_is_gone_is_an_error(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "gone")
    with pytest.raises(InputError, match=r"folder .*gone cannot be read: No such file or directory"):
        list(folder)


def test_pattern__takes_what_it_matches_below_its_folder(tmp_path: Path) -> None:
    make(tmp_path, "x/a.png", "x/deep/b.png", "x/c.jpg", "x/notes.txt", "y/d.png")
    assert keys(read_manifest(str(tmp_path / "x/**/*.png"))) == ["a.png", "deep/b.png"]
    assert keys(read_manifest(str(tmp_path / "*/*"))) == ["x/a.png", "x/c.jpg", "y/d.png"]


def test_pattern__climbing_out_by_a_link_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "in/a.png", "out/b.png")
    (tmp_path / "in/link").symlink_to(tmp_path / "out")
    found = {entry.key: entry.fault for entry in read_manifest(str(tmp_path / "in/*/*.png"))}
    assert found == {"link/b.png": "the link leaves the folder, so it is not followed"}


def test_split_pattern__begins_at_the_first_wildcard() -> None:
    assert split_pattern("/a/b/**/*.png") == (Path("/a/b"), "**/*.png")
    assert split_pattern("*.png") == (Path(), "*.png")


def test_folder__pdfs_for_their_texts(tmp_path: Path) -> None:
    make(tmp_path, "a.pdf", "b/c.PDF", "d.png", "notes.txt")
    assert keys(read_manifest(find(str(tmp_path), data_key="path"))) == ["a.pdf", "b/c.PDF", "d.png"]
    for target, found in ((tmp_path, ["a.pdf", "b/c.PDF"]), (tmp_path / "*.*", ["a.pdf"])):
        listing = read_manifest(find(str(target), data_key="text:path"))
        entries = list(listing)
        assert [entry.key for entry in entries] == found
        assert instance_of(entries[0], listing) == Instance(
            0, "text", str(tmp_path / "a.pdf"), files=(TextFile("path"),)
        )
        assert field_of(listing) == EmbeddedField("path", "text", 1.0, in_files=True)
    with pytest.raises(InputError, match=r"has no PDFs .* supported extensions: \.pdf$"):
        list(Folder(tmp_path, pattern="*.png", texts=True))
