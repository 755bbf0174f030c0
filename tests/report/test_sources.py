import io
import json
import shutil
from collections.abc import Callable

import numpy as np
import pytest
from digit_run import FIRST, Made
from moving_pictures import GREEN, RED, near, pdf
from PIL import Image

from usl_backend.errors import MediaError, RunError, StudioUnreachableError
from usl_backend.instances import Instance, TextFile
from usl_backend.report.sources import Sources, Thumbnails, called, excerpt_of, image_type, name_of
from usl_backend.runs import RunFiles
from usl_backend.runs.inventory import Inventory


def test_sources__finds_each_instance_and_no_other(made: Made) -> None:
    instances = made.files.read_instances()
    for sources in (Sources(made.files), Sources(made.files)):  # scanned, then from the kept index
        assert len(sources) == 300
        assert [sources.get(instance.id) for instance in instances[::37]] == instances[::37]
        assert [sources.get(wrong) for wrong in (FIRST - 1, FIRST + 300, -1, 0, 2**70)] == [None] * 5


def test_sources__a_changed_list_is_read_again(made: Made) -> None:
    Sources(made.files)
    made.files.write_instances([Instance(4, "text", "new")], Inventory())
    assert Sources(made.files).get(4) == Instance(4, "text", "new")


def test_sources__a_damaged_index_is_made_again(made: Made) -> None:
    Sources(made.files)
    (made.files.directory / "report" / "instances.npz").write_bytes(b"PK\3\4 rubbish")
    assert Sources(made.files).get(FIRST) is not None


def test_sources__unsorted_lists_and_line_breaks_in_texts(made: Made) -> None:
    written = [Instance(9, "text", "nine\nlines"), Instance(2, "text", "zw\u00f6i \u2028 \U0001f9ff")]
    made.files.write_instances(written, Inventory(title="\u00e9"))
    sources = Sources(made.files)
    assert [sources.get(9), sources.get(2)] == written


def test_sources__before_the_tasks_are_listed(made: Made) -> None:
    files = RunFiles(made.files.directory.parent / "12-9")
    with pytest.raises(RunError, match="12-9 has listed no tasks yet"):
        Sources(files)


def test_thumbnails__made_once_and_kept(made: Made) -> None:
    asked: list[int] = []

    def read(instance: Instance) -> bytes:
        asked.append(instance.id)
        return made.read(instance)

    thumbnails = Thumbnails(made.files, Sources(made.files), read)
    path = thumbnails.path(FIRST + 3)
    assert thumbnails.path(FIRST + 3) == path
    assert asked == [FIRST + 3]
    seen = np.asarray(Image.open(io.BytesIO(path.read_bytes()))).astype(float)[..., 0]
    assert np.abs(seen - made.digits[3].reshape(8, 8) * 15).mean() < 12


@pytest.mark.parametrize("task", [FIRST - 1, 0, -5, 2**80])
def test_thumbnails__of_another_run_are_refused_unread(made: Made, task: int) -> None:
    def read(_: Instance) -> bytes:
        raise AssertionError("must not be read")

    with pytest.raises(RunError, match=f"task {task} is not part of run 12-1"):
        Thumbnails(made.files, Sources(made.files), read).path(task)


def test_thumbnails__are_made_again_where_their_folder_was_deleted(made: Made) -> None:
    thumbnails = Thumbnails(made.files, Sources(made.files), made.read)
    kept = thumbnails.path(FIRST).read_bytes()
    shutil.rmtree(made.files.directory / "report")
    assert thumbnails.path(FIRST).read_bytes() == kept


def test_thumbnails__vanished_media_are_told_and_not_kept(made: Made) -> None:
    def read(_: Instance) -> bytes:
        raise MediaError("studio.test answered 404 Not Found")

    thumbnails = Thumbnails(made.files, Sources(made.files), read)
    with pytest.raises(MediaError, match="404"):
        thumbnails.path(FIRST)
    assert Thumbnails(made.files, Sources(made.files), made.read).path(FIRST).is_file()


def test_thumbnails__an_unreachable_studio_is_a_media_error(made: Made) -> None:
    def read(_: Instance) -> bytes:
        raise StudioUnreachableError("nobody answers at http://studio.test")

    with pytest.raises(MediaError, match="nobody answers"):
        Thumbnails(made.files, Sources(made.files), read).path(FIRST)


def test_thumbnails__texts_have_none(make_run: Callable[..., Made]) -> None:
    made = make_run(60, modality="text")
    with pytest.raises(MediaError, match="is a text"):
        Thumbnails(made.files, Sources(made.files), made.read).path(FIRST)


def test_thumbnails__of_texts_in_files(made: Made) -> None:
    page, paper = TextFile("doc", "HyperText"), TextFile("doc")
    held = {4: b"<p>Rates &amp; prices", 5: pdf([(RED, "first"), (GREEN, "second")]), 6: b"<i></i>"}
    located = [Instance(n, "text", f"/{n}", files=(paper if n == 5 else page,)) for n in held]
    made.files.write_instances([*located, Instance(7, "text", "words")], Inventory())
    thumbnails = Thumbnails(made.files, Sources(made.files), lambda one: held[one.id])
    drawn, photo = thumbnails.path(4), thumbnails.path(5)
    assert (image_type(drawn), image_type(photo)) == ("image/svg+xml", "image/jpeg")
    assert ">Rates &amp; prices</text>" in drawn.read_text()
    with Image.open(photo) as picture:
        assert near(picture) == RED
    for wrong, reason in ((6, '"doc" shows no text'), (7, "task 7 is a text and has no image")):
        with pytest.raises(MediaError, match=reason):
            thumbnails.path(wrong)
    assert [excerpt_of(one) for one in located] == [""] * 3
    assert name_of(located[1]) == "5"


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("/data/upload/1/8f-cat.png", "8f-cat.png"),
        ("/data/local-files/?d=animals%2Fa%20cat.png", "a cat.png"),
        ("https://host/a/b.jpg?token=secret", "b.jpg"),
        ("s3://bucket/deep/<script>.png", "<script>.png"),
        ("data:image/png;base64,AAAA", ""),
        ("https://[broken/x.png", ""),
        ("C:\\photos\\x.png", "x.png"),
    ],
)
def test_name_of__short_names(source: str, name: str) -> None:
    assert name_of(Instance(1, "image", source)) == name


@pytest.mark.parametrize("name", ["#1.png", "a?b.png", "x?d=other.png", "50%25.png", "back\\slash.png"])
def test_name_of__a_path_of_a_pool_is_no_address(name: str) -> None:
    assert name_of(Instance(1, "image", f"/photos/{name}"), pool=True) == name


def test_name_of__a_pool_has_addresses_too() -> None:
    assert name_of(Instance(1, "image", "https://host/a/b%20c.jpg?token=secret"), pool=True) == "b c.jpg"


def test_called__a_task_by_its_id_and_a_row_by_its_file() -> None:
    picture, text = Instance(7, "image", "/data/upload/1/8f-cat.png"), Instance(7, "text", "a cat")
    assert called(picture, 7, pool=False) == ("task 7", "Task 7, 8f-cat.png")
    assert called(text, 7, pool=False) == ("task 7", "Task 7")
    assert called(picture, 7, pool=True) == ("8f-cat.png", "8f-cat.png")
    assert called(text, 7, pool=True) == called(None, 7, pool=True) == ("row 7", "row 7")


def test_sources__rows_of_vectors_are_those_of_the_file(made: Made) -> None:
    made.files.write_instances([], Inventory(tasks=3))
    sources = Sources(made.files)
    assert [sources.get(row) for row in (-1, 0, 2, 3)] == [
        None,
        Instance(0, "text", ""),
        Instance(2, "text", ""),
        None,
    ]


def test_excerpt_of__cut_between_words() -> None:
    text = "one two " * 100
    found = excerpt_of(Instance(1, "text", text), length=20)
    assert found == "one two one two one …"
    assert excerpt_of(Instance(1, "text", " a\n b ")) == "a b"
    assert excerpt_of(Instance(1, "text", "x" * 50), length=20) == "x" * 20 + " …"
    assert excerpt_of(Instance(1, "image", "x")) == ""
    assert name_of(Instance(1, "text", "/a/b.png")) == ""


def test_sources__index_holds_no_code(made: Made) -> None:
    Sources(made.files)
    with np.load(made.files.directory / "report" / "instances.npz", allow_pickle=False) as arrays:
        assert json.dumps(arrays["ids"][:2].tolist()) == f"[{FIRST}, {FIRST + 1}]"
