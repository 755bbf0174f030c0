import csv
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from object_store import bucket_of

from usl_backend.cli import main
from usl_backend.cli.evaluate import _worth
from usl_backend.demo.dataset import load, write_images


@pytest.fixture
def vectors(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    labels = rng.choice(4, 120, p=[0.6, 0.2, 0.1, 0.1])
    rows = (rng.normal(size=(4, 8)) * 3)[labels] + 0.2 * rng.normal(size=(120, 8))
    path = tmp_path / "vectors.npz"
    np.savez(path, embeddings=rows, labels=np.array(["ü", "b", "c", "d"])[labels])
    return path


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(argument) for argument in arguments])
    assert isinstance(left.value.code, int)
    return left.value.code


def test_evaluate__table_and_plot(vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plot = vectors.with_suffix(".svg")
    assert run("evaluate", vectors, "--budgets", "4,8", "--seeds", 2, "--methods", "usl", "--plot", plot) == 0
    told = capsys.readouterr().out
    assert "120 labeled rows, 4 classes, 2 seeds" in told
    lines = [line.split() for line in told.splitlines() if line.strip().startswith(("4 ", "8 "))]
    assert [line[:2] for line in lines] == [["4", "usl"], ["4", "random"], ["8", "usl"], ["8", "random"]]
    assert float(lines[0][2]) > float(lines[1][2])
    assert plot.read_text(encoding="utf-8").startswith("<svg")


def test_evaluate__json_holds_every_seed(vectors: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run("evaluate", vectors, "--budgets", "4", "--seeds", 3, "--methods", "k-means,random", "--json") == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert (told["rows"], told["classes"], told["budgets"]) == (120, 4, [4])
    assert list(told["methods"]) == ["k-means", "random"]
    assert [len(row) for row in told["methods"]["k-means"]["accuracy"]] == [3]
    assert told["methods"]["k-means"]["classes_covered"] == [[1.0, 1.0, 1.0]]


def test_evaluate__default_budgets_follow_the_classes(
    vectors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", vectors, "--seeds", 2, "--methods", "", "--json") == 0
    assert json.loads(capsys.readouterr().out)["budgets"] == [4, 8, 16, 40]


@pytest.mark.parametrize("budgets", ["ten", "10,,20", "0,4", "-4", "4.5", ""])
def test_evaluate__budgets_are_checked_before_anything_is_read(
    budgets: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", "12", "--budgets", budgets) == 1
    assert f"budgets is {budgets!r}; give numbers such as 10,20,40" in capsys.readouterr().err


def test_evaluate__results_are_printed_though_the_plot_cannot_be_written(
    vectors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--budgets", "4", "--seeds", 2, "--methods", "", "--plot", "/proc/x.svg", "--json")
    assert run("evaluate", vectors, *words) == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["budgets"] == [4]
    assert "/proc/x.svg cannot be written" in told.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--methods", "oracle"], "method is 'oracle'; choose among usl,"),
        (["--budgets", "ten"], "budgets is 'ten'; give numbers"),
        (
            ["--budgets", "4", "--seeds", 2, "--methods", "", "--plot", "/proc/none/x.svg"],
            "/proc/none/x.svg cannot be",
        ),
        (["--budgets", "85"], "must lie between 1 and the pool of 84"),
    ],
)
def test_evaluate__bad_words(
    vectors: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert run("evaluate", vectors, *words) == 1
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"embeddings": np.ones((50, 2))}, "has no labels"),
        ({"embeddings": np.ones(50), "labels": np.ones(50)}, "rows"),
        ({"labels": np.ones(50)}, "x.npz"),
    ],
)
def test_evaluate__bad_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arrays: dict[str, np.ndarray], said: str
) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    assert run("evaluate", tmp_path / "x.npz") == 1
    assert said in capsys.readouterr().err


def test_evaluate__whoever_types_may_name_any_file_as_weights(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "data"))
    table = tmp_path / "table.csv"
    table.write_text("image,label\na.png,cat\nb.png,dog\n")
    assert run("evaluate", table, "--encoder", "checkpoint:/srv/moco.pt@resnet18") == 1
    assert "needs /srv/moco.pt, which does not exist; correct the path" in capsys.readouterr().err


def test_evaluate__a_folder_for_the_curve_that_is_not_there_is_told_before_the_work(
    vectors: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", vectors, "--plot", tmp_path / "none" / "curve.svg") == 1
    written = capsys.readouterr()
    assert "none does not exist; create it first" in written.err
    assert written.out == ""


def test_worth__nothing_is_known_beyond_the_curve() -> None:
    budgets = np.array([4, 10, 30])
    assert [_worth(labels, budgets) for labels in (4.0, 9.6, 30.0, None)] == ["<= 4", "10", "30", "> 30"]


def test_evaluate__missing_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", tmp_path / "none.npz") == 1
    assert "is neither a project nor a file or folder here" in capsys.readouterr().err


def test_evaluate__rows_that_are_not_finite_or_not_labeled_are_left_out(
    vectors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with np.load(vectors) as held:
        rows, labels = held["embeddings"], held["labels"].astype(object)
    rows[3, 0] = np.nan
    path = vectors.with_name("holes.npz")
    np.savez(path, vectors=rows, kinds=labels.astype(str), labels=np.zeros(len(rows)))
    words = ["--budgets", "4", "--seeds", 2, "--methods", "", "--json", "--label-key", "kinds"]
    assert run("evaluate", path, *words) == 0
    written = capsys.readouterr()
    told = json.loads(written.out)
    assert (told["rows"], told["classes"]) == (119, 4)
    assert "warning: 1 of 120 labeled rows of " in written.err


def test_evaluate__unknown_encoder_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "texts.csv"
    path.write_text("text,label\n" + "".join(f"number {i},{i % 2}\n" for i in range(50)), encoding="utf-8")
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "data"))
    assert run("evaluate", path, "--encoder", "minilmm") == 2
    assert "minilmm" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_evaluate__manifest_of_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    data = load()
    paths = write_images(tmp_path / "pictures, ü")[:70]
    names = [data.classes[data.labels[row]] for row in range(70)]
    rows = [
        {"file": f"{path.parent.name}/{path.name}", "kind": name}
        for path, name in zip(paths, names, strict=True)
    ]
    rows[5]["kind"] = ""
    rows.append({"file": "gone.png", "kind": names[0]})
    path = tmp_path / f"list.{kind}"
    with path.open("w", encoding="utf-8", newline="") as stream:
        if kind == "csv":
            writer = csv.DictWriter(stream, ["file", "kind"])
            writer.writeheader()
            writer.writerows(rows)
        else:
            stream.writelines(json.dumps(row) + "\n" for row in rows)
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "data"))
    words = ["--budgets", "10", "--seeds", 2, "--methods", "k-means", "--image-size", 64, "--json"]
    assert run("evaluate", path, *words) == 1
    assert "no row of" in capsys.readouterr().err
    assert run("evaluate", path, *words, "--label-key", "kind") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == 69
    assert told["methods"]["k-means"]["accuracy"][0][0] > 0.3


def write_list(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def labeled_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """44 pictures in a bucket, and a list of them with labels; its third row names no object."""
    data = load()
    pictures = {path.name: path.read_bytes() for path in write_images(tmp_path / "pictures")[:44]}
    names = [*pictures]
    names[2] = "gone.png"
    lines = [f"p{row},{name},{data.classes[data.labels[row]]}\n" for row, name in enumerate(names)]
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "data"))
    objects = {f"shop/{name}": body for name, body in pictures.items()}
    objects["shop/list.csv"] = ("id,image,label\n" + "".join(lines)).encode()
    with bucket_of(objects, monkeypatch) as address:
        yield address


@pytest.mark.filterwarnings("ignore")  # of the client library's own event loop
@pytest.mark.parametrize("remote", [True, False], ids=["list in the bucket", "list on this disk"])
def test_evaluate__reads_objects_as_select_does(
    labeled_bucket: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], remote: bool
) -> None:
    target = f"{labeled_bucket}/shop/list.csv"
    if not remote:
        data = load()
        rows = [
            {
                "id": f"p{row}",
                "image": f"{labeled_bucket}/shop/{'gone.png' if row == 2 else f'{row:04d}.png'}",
                "label": data.classes[data.labels[row]],
            }
            for row in range(44)
        ]
        write_list(tmp_path / "list.csv", rows)
        target = str(tmp_path / "list.csv")
    words = ["--budgets", 10, "--seeds", 2, "--methods", "k-means", "--image-size", 64, "--json"]
    assert run("evaluate", target, *words) == 0
    written = capsys.readouterr()
    told = json.loads(written.out)
    assert told["rows"] == 43
    assert told["methods"]["k-means"]["accuracy"][0][0] > 0.2
    assert written.err == (
        f"warning: 1 of 44 labeled rows of {target} could not be read and were left out; the first is p2 (row 2): "
        "there is no such object\n"
    )


@pytest.mark.filterwarnings("ignore")  # of the client library's own event loop
def test_evaluate__list_that_cannot_be_had(labeled_bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("evaluate", f"{labeled_bucket}/none.csv") == 1
    assert f"{labeled_bucket}/none.csv cannot be read: there is no such object" in capsys.readouterr().err


@pytest.mark.parametrize("ids", [True, False], ids=["ids", "no ids"])
@pytest.mark.parametrize("empty", [0, 2, 3], ids="{} empty".format)
def test_evaluate__unreadable_list_is_told_with_its_first_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, ids: bool, empty: int
) -> None:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "data"))
    rows = [
        {
            **({"id": f"k{row}"} if ids else {}),
            "image": "" if 4 - empty <= row < 4 else f"{row}.png",
            "label": "" if row == 0 else "cat",
        }
        for row in range(4)
    ]
    path = tmp_path / "list.csv"
    write_list(path, rows)
    assert run("evaluate", path) == 1
    first = "k1 (row 1)" if ids else "row 1"
    reason = '"image" is empty' if empty == 3 else "the file cannot be read: No such file or directory"
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: none of the 3 labeled rows of {path} can be read; the first is {first}: {reason}"
    )


def test_evaluate__unreadable_vectors_are_told_with_the_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = np.array([[1, 2], [np.nan, 1], [1, np.inf]])
    np.savez(tmp_path / "v.npz", embeddings=rows, labels=np.array(["", "a", "b"]), ids=np.array([*"xyz"]))
    assert run("evaluate", tmp_path / "v.npz") == 1
    assert capsys.readouterr().err == (
        f"error: none of the 2 labeled rows of {tmp_path}/v.npz can be read; the first is y (row 1): "
        "it has NaN or infinity in it\n"
    )


def test_evaluate__too_few_rows_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_DIR", str(tmp_path / "data"))
    pictures = write_images(tmp_path / "pictures")[:3]
    rows = [{"image": str(path), "label": "cat"} for path in (*pictures, tmp_path / "pictures" / "gone.png")]
    write_list(tmp_path / "list.csv", rows)
    assert run("evaluate", tmp_path / "list.csv", "--image-size", 64, "--json") == 1
    warning, error = capsys.readouterr().err.splitlines()
    assert warning == (
        f"warning: 1 of 4 labeled rows of {tmp_path}/list.csv could not be read and were left out; the first is row 3: "
        "the file cannot be read: No such file or directory"
    )
    assert error == "error: evaluate needs 40 labeled rows in 2 classes, found 3 in 1"
