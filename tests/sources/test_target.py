from pathlib import Path

import pytest

from usl_backend.errors import InputError
from usl_backend.sources import find
from usl_backend.sources.target import Target, read_manifest


@pytest.mark.parametrize(
    ("text", "kind", "name"),
    [
        ("photos", "folder", "photos"),
        ("2024 Photos/", "folder", "pool_2024_photos"),
        ("photos/**/*.png", "pattern", "photos"),
        ("list.csv", "table", "list"),
        ("My-Rows.v2.JSONL", "table", "my_rows_v2"),
        ("rows.parquet", "parquet", "rows"),
        ("vectors.npz", "vectors", "vectors"),
        ("s3://bucket/photos/", "folder", "photos"),
        ("https://host.test/a/list.csv?token=1", "table", "list"),
    ],
)
def test_find__kind_and_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, kind: str, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("photos", "2024 Photos"):
        (tmp_path / folder).mkdir()
    for file in ("list.csv", "My-Rows.v2.JSONL", "rows.parquet", "vectors.npz"):
        (tmp_path / file).touch()
    target = find(text, data_key="x")
    assert (target.kind, target.name) == (kind, name)
    assert Path(target.address).is_absolute() or target.remote
    assert Target.from_json({**target.to_json(), "import_to": 12}) == target


def test_find__file_addresses_as_file_managers_copy_them(tmp_path: Path) -> None:
    folder = tmp_path / "my photos, 50%"
    folder.mkdir()
    assert find(folder.as_uri()) == find(str(folder))
    assert find(folder.as_uri().replace("file://", "file://localhost")) == find(str(folder))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "nowhere",
            "nowhere is neither a project nor a file or folder here; TARGET is a project, or a folder",
        ),
        ("cat.png", "cat.png is a single image; give its folder"),
        ("notes.txt", "notes.txt is not of a supported kind; TARGET is"),
        ("gone/*.png", r"gone/\*.png matches nothing: there is no folder"),
    ],
)
def test_find__what_is_no_target(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cat.png").touch()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=message):
        find(text)


def test_read_manifest__folder_has_no_columns(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="is a list of files without columns; --id-key is for tables and vectors"
    ):
        read_manifest(find(str(tmp_path), id_key="id"))
