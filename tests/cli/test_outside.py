"""`select` of folders, manifests and vectors, as a user types it; real pictures, real encoder, no Label Studio."""

import csv
import json
import os
import re
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from digit_run import png
from moving_pictures import BLUE, GREEN, GREY, RED, pdf, video
from shell import Shell, forget_host_settings
from sklearn.datasets import load_digits

from usl_backend.runs import RunState, RunStore
from usl_backend.selection import USL

DIGITS = load_digits().data.astype(np.float32)


@pytest.fixture
def shell(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    forget_host_settings(monkeypatch)
    data = tmp_path / "data"
    shell = Shell({"MODEL_DIR": str(data)}, capsys, monkeypatch, RunStore(data))
    yield shell
    shell.close()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Sixty pictures in two folders, and what else lies about."""
    folder = tmp_path / "photos"
    for row in range(60):
        path = folder / ("a" if row % 2 else "b") / f"{row:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(DIGITS[row]))
    (folder / "notes.txt").write_text("no picture")
    (folder / "broken.png").write_bytes(b"no picture")
    (folder / "empty.png").touch()
    return folder


def rows_of(path: Path | str) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_select__folder(shell: Shell, photos: Path, tmp_path: Path) -> None:
    told = shell("select", photos, "--budget", 8, "--reserve", 4, "--control", 20, "-o", tmp_path / "out.csv")
    assert told.code == 0, told.err
    assert f'run photos-1: chose 8 of 60 in {photos} (budget "8"), 20 in the control set' in told.out
    assert "passed over: 1 other files" in told.out
    assert (
        "2 of 62 could not be used and were left out; the first is broken.png: the file is not a pict"
        in told.out
    )
    rows = rows_of(tmp_path / "out.csv")
    assert list(rows[0]) == ["rank", "id", "source", "role", "score", "cluster", "stands_for", "why"]
    assert [int(row["rank"]) for row in rows] == list(range(len(rows)))
    roles = [row["role"] for row in rows]
    assert roles == sorted(roles, key=["pick", "control", "reserve"].index)
    assert roles.count("pick") == 8
    assert roles.count("reserve") == 4
    picks = [row for row in rows if row["role"] == "pick"]
    assert [row["cluster"] for row in picks] == [str(rank) for rank in range(8)]
    assert sum(int(row["stands_for"]) for row in picks) == 60
    assert all(row["stands_for"] == "" for row in rows[8:])
    assert all(row["source"] == str(photos / row["id"]) and Path(row["source"]).is_file() for row in rows)
    # the same folder again: another run of the same pool, the same picks, nothing embedded anew
    again = shell("select", photos, "--budget", 8, "--reserve", 4, "--control", 20, "--json").json
    assert again["id"] == "photos-2"
    assert again["pool_digest"] == shell.store.get("photos-1").pool_digest
    assert again["summary"]["pool"]["encoded"] == 0
    assert rows_of(again["summary"]["selection"]) == rows


def test_select__run_is_known_to_the_other_verbs(shell: Shell, photos: Path, tmp_path: Path) -> None:
    assert shell("select", photos, "--budget", 5).code == 0
    assert "photos-1  done" in shell("status", "photos").out
    one = shell("status", "photos-1").out
    assert "pool photos, created" in one
    assert "2 unreadable tasks:" in one
    report = shell("report", "photos-1", "-o", tmp_path / "report.html")
    assert report.code == 0, report.err
    assert report.out.endswith(f"written to {tmp_path / 'report.html'}\n")  # every picture could be had
    page = (tmp_path / "report.html").read_text()
    assert f"Run photos-1 of <i>{photos}</i>" in page
    assert "data:image/jpeg;base64," in page
    assert rows_of(shell.store.get("photos-1").summary.selection)[0]["id"].split("/")[1] in page
    shell("select", photos, "--budget", 6, "--pin", "a/01.png")
    compared = shell("compare", "photos-1", "photos-2")
    assert "budget: 5 in photos-1, 6 in photos-2\npin: unset in photos-1, 1 id in photos-2\n" in compared.out
    assert re.search(
        r"coverage in the rows of both: \d+\.\d% by photos-1, \d+\.\d% by photos-2, of 60 tasks", compared.out
    )
    assert len(shell("compare", "photos-1", "photos-2", "--json").json["coverage"]) == 1
    assert str(shell.store.run_directory("photos-1")) in shell("gc", "--keep", 1).out
    refused = shell("export", "photos-2")
    assert refused.code == 1
    assert "the picks of run photos-2 were not imported into a project, so they have no labels" in refused.err


def test_select__two_folders_of_one_name_do_not_share_runs(shell: Shell, tmp_path: Path) -> None:
    for parent in ("x", "y"):
        (tmp_path / parent / "photos").mkdir(parents=True)
        for row in range(12):
            (tmp_path / parent / "photos" / f"{row}.png").write_bytes(png(DIGITS[row]))
    ids = [
        shell("select", tmp_path / parent / "photos", "--budget", 2, "--json").json["id"] for parent in "xyx"
    ]
    assert ids == ["photos-1", "photos_2-1", "photos-2"]


def test_select__manifest_keeps_its_ids_and_with_keep_labels_its_labels(shell: Shell, photos: Path) -> None:
    names = sorted(path.relative_to(photos).as_posix() for path in photos.glob("?/*.png"))
    lines = [f"n{row},{name},{'seen' if row < 20 else ''}" for row, name in enumerate(names)]
    manifest = photos / "list.csv"
    manifest.write_text(
        "id,path,label\n" + "\n".join([*lines, "gone,nowhere.png,", "n3,a/01.png,", ",a/01.png,"])
    )
    told = shell("select", manifest, "--budget", 6, "--keep-labels", "--json").json
    rows = rows_of(told["summary"]["selection"])
    assert {row["id"] for row in rows} <= {f"n{row}" for row in range(20, 60)}
    assert told["summary"]["pool"] | {"encoded": 0} == {
        "tasks": 63, "annotated": 20, "unlabeled": 43, "readable": 40, "skipped": 3, "encoded": 0,
    }  # fmt: skip
    reasons = {entry["task"]: entry["reason"] for entry in told["summary"]["skipped"]["first"]}
    assert reasons == {
        60: "the file cannot be read: No such file or directory",
        61: 'its "id" is "n3", as that of row 3',
        62: 'its "id" is empty',
    }
    (photos / "pins.txt").write_text("n50\nn30\n")
    steered = ("select", manifest, "--budget", 6, "--keep-labels", "--pin", f"@{photos / 'pins.txt'}")
    barred = {row["id"] for row in rows[2:]} - {"n50", "n30"}
    told = shell(*steered, "--exclude", ",".join(sorted(barred)), "--json").json
    after = rows_of(told["summary"]["selection"])
    assert [(row["id"], row["why"]) for row in after[:2]] == [("n50", "pinned"), ("n30", "pinned")]
    assert {row["why"] for row in after[2:]} == {""}
    assert not barred & {row["id"] for row in after}
    assert told["settings"]["pin"] == ["n50", "n30"]
    assert f"x9 is pinned, but {manifest} has no such id" in shell(*steered[:-2], "--pin", "n30,x9").err
    assert "n3 is pinned, but has a label already" in shell(*steered[:-2], "--pin", "n3").err
    without = shell("select", manifest, "--budget", 6).out
    assert (
        "warning: 20 rows have a label and could be chosen all the same; with --keep-labels they hold"
        in without
    )


def test_select__manifest_may_not_name_files_elsewhere_unless_told(
    shell: Shell, photos: Path, tmp_path: Path
) -> None:
    inner = tmp_path / "lists"
    inner.mkdir()
    manifest = inner / "list.jsonl"
    manifest.write_text(
        "\n".join(json.dumps({"path": f"../photos/a/{row:02d}.png"}) for row in range(1, 60, 2))
    )
    refused = shell("select", manifest, "--budget", 3)
    assert refused.code == 1
    assert (
        "none of the 30 tasks could be read (task 0: the path is outside the allowed local roots)"
        in refused.err
    )
    assert shell("select", manifest, "--budget", 3, "--root", photos).code == 0


def test_select__links_that_leave_the_folder_are_not_read(shell: Shell, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(DIGITS[99]))
    (photos / "out.png").symlink_to(tmp_path / "secret.png")
    told = shell("select", photos, "--budget", 3, "--json").json
    reasons = [entry["reason"] for entry in told["summary"]["skipped"]["first"]]
    assert "the link leaves the folder, so it is not followed" in reasons


def test_select__manifest_on_a_web_server(shell: Shell, photos: Path) -> None:
    names = [path.relative_to(photos).as_posix() for path in sorted(photos.glob("?/*.png"))]
    (photos / "list.csv").write_text("path\n" + "\n".join(names))

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(photos))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/list.csv"
        refused = shell("select", address, "--budget", 3)
        assert refused.code == 1
        assert f"{address} cannot be read: " in refused.err  # a private address
        told = shell("select", address, "--budget", 3, "--media-allowed-hosts", "127.0.0.1", "--json")
        server.shutdown()
    assert told.code == 0, told.err
    assert told.json["summary"]["pool"]["readable"] == 60
    sources = [row["source"] for row in rows_of(told.json["summary"]["selection"])]
    assert all(source.startswith(address.removesuffix("list.csv")) for source in sources)


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_select__vectors_are_chosen_as_the_library_chooses(shell: Shell, tmp_path: Path, suffix: str) -> None:
    rows = DIGITS[:400].copy()
    rows[17] = np.nan
    path = tmp_path / f"digits.{suffix}"
    if suffix == "npy":
        np.save(path, rows)
    else:
        np.savez(path, embeddings=rows, ids=np.array([f"d{row}" for row in range(400)]))
    told = shell("select", path, "--budget", 12, "--json").json
    good = np.delete(np.arange(400), 17)
    expected = good[USL().select(rows[good], 12, rng=0).indices].tolist()
    assert [entry["task"] for entry in told["queue"] if entry["role"] == "pick"] == expected
    ids = [row["id"] for row in rows_of(told["summary"]["selection"])[:12]]
    assert ids == [str(row) if suffix == "npy" else f"d{row}" for row in expected]
    assert told["summary"]["encoder"]["name"] == "vectors"
    pins = ["300", "7"] if suffix == "npy" else ["d300", "d7"]
    steered = shell(
        "select", path, "--budget", 4, "--pin", ",".join(pins), "--exclude", ids[0], "--json"
    ).json
    assert [entry["task"] for entry in steered["queue"]][:2] == [300, 7]
    assert expected[0] not in [entry["task"] for entry in steered["queue"]]
    assert "17 is pinned, but could not" in shell("select", path, "--pin", pins[0].replace("300", "17")).err
    report = shell("report", told["id"], "-o", tmp_path / "v.html")
    assert report.code == 0, report.err
    page = (tmp_path / "v.html").read_text()
    assert f"row {expected[0]}" in page
    # Vectors have nothing to show, and nothing that is missing; nor is there a Label Studio to open them in.
    assert "<blockquote" not in page
    assert "no image" not in page
    assert "click to open" not in page


def test_select__vectors_are_mapped_from_where_they_lie(shell: Shell, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", DIGITS[:300])
    assert shell("select", tmp_path / "v.npy", "--budget", 5).code == 0
    files = shell.store.files("v-1")
    assert not files.embeddings.exists()
    assert Path(files.read_pool()[0].embeddings.filename) == tmp_path / "v.npy"
    np.save(tmp_path / "v.npy", DIGITS[:299])
    told = shell("report", "v-1")
    assert told.code == 1
    assert f"{tmp_path / 'v.npy'} was changed since run v-1 read it; start a new run" in told.err
    (tmp_path / "v.npy").unlink()
    assert f"{tmp_path / 'v.npy'}, the vectors of run v-1, is gone; put it back" in shell("report", "v-1").err


def test_resume__goes_on_where_a_run_was_stopped(
    shell: Shell, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from usl_backend.pipeline.run import Execution

    select = Execution._select

    def interrupted(*_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr(Execution, "_select", interrupted)
    stopped = shell("select", photos, "--budget", 5)
    assert stopped.code == 1
    assert "run photos-1 was cancelled; `usl-backend resume photos-1` continues it" in stopped.err
    monkeypatch.setattr(Execution, "_select", select)
    (photos / "a" / "01.png").unlink()  # what was read is not read again
    told = shell("resume", "photos-1", "--json").json
    assert told["state"] == RunState.DONE
    assert set(told["summary"]["seconds"]) == {"select", "publish"}
    assert len(rows_of(told["summary"]["selection"])) == 25


def test_resume__after_a_host_stayed_away_to_the_same_picks(
    shell: Shell, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usl_backend.embedding.outage._PROBE_SECONDS", 0.01)
    monkeypatch.setattr("usl_backend.media.hosts._BACKOFF_SECONDS", 0.01)
    left = 1000

    class Host(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            nonlocal left
            left -= 1
            if left >= 0:
                super().do_GET()
            else:
                self.send_error(503)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Host, directory=str(photos))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        name = f"127.0.0.1:{server.server_port}"
        urls = [f"http://{name}/{path.relative_to(photos)}" for path in sorted(photos.glob("?/*.png"))]
        (photos / "list.csv").write_text("url\n" + "\n".join(urls))
        select = ("select", photos / "list.csv", "--budget", 5, "--media-allowed-hosts", "127.0.0.1")
        expected = rows_of(shell(*select, "--json").json["summary"]["selection"])
        left = 20
        told = shell(*select)
        assert told.code == 1
        assert (
            f"40 of 60 files could not be fetched for reasons that may pass: 40 of {name} (127.0" in told.err
        )
        assert "answered 503 Service Unavailable); resume the run" in told.err
        run = shell.store.get("list-2")
        assert (run.state, run.stage, dict(run.error or {})["type"]) == (
            RunState.PAUSED, "embed", "MediaHostError"
        )  # fmt: skip
        assert not list(shell.store.run_directory("list-2").glob("selection*"))
        left = 1000
        resumed = shell("resume", "list-2", "--media-allowed-hosts", "127.0.0.1", "--json").json
        server.shutdown()
    assert (resumed["state"], resumed["summary"]["pool"]["readable"]) == (RunState.DONE, 60)
    assert rows_of(resumed["summary"]["selection"]) == expected


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["nowhere"],
            1,
            "nowhere is neither a project nor a file or folder here; TARGET is a project, or a folder",
        ),
        (
            ["{photos}", "--id-key", "x"],
            1,
            "is a list of files without columns; --id-key is for tables and vectors",
        ),
        (["{photos}", "--import-as", "url"], 1, "give the project too: --import-to PROJECT"),
        (["12", "--id-key", "x"], 2, "--id-key is for pools outside Label Studio"),
        (
            ["{photos}", "--budget", "61"],
            1,
            "budget is 61 but only 60 of 62 tasks could be read; lower the budget",
        ),
        (["{photos}", "--budget", "4/class"], 1, "names no classes; give a number or a share"),
        (["{photos}/notes.txt"], 1, "is not of a supported kind"),
        (
            ["{photos}", "-o", "{photos}/no/out.csv", "--budget", "3"],
            1,
            "out.csv cannot be written (No such file",
        ),
    ],
)
def test_select__what_cannot_be_done(
    shell: Shell, photos: Path, arguments: list[str], code: int, message: str
) -> None:
    told = shell("select", *(argument.format(photos=photos) for argument in arguments))
    assert (told.code, told.out) == (code, "")
    assert message in told.err.replace("\n", " ")


def test_select__whoever_types_may_name_any_file_as_weights(shell: Shell, photos: Path) -> None:
    told = shell("select", photos, "--budget", 4, "--encoder", "checkpoint:/srv/moco.pt@resnet18")
    assert told.code == 1
    assert "needs /srv/moco.pt, which does not exist; correct the path" in told.err


def test_select__vectors_have_nothing_to_import(shell: Shell, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", DIGITS[:30])
    told = shell("select", tmp_path / "v.npy", "--import-to", 12, LABEL_STUDIO_API_KEY="x" * 40)
    assert told.code == 1
    assert "--import-to cannot be used with vectors" in told.err


def test_select__file_names_that_are_no_utf8(shell: Shell, photos: Path) -> None:
    name = os.fsencode(photos) + b"/a/na\xefve.png"
    Path(os.fsdecode(name)).write_bytes(png(DIGITS[70]))
    Path(os.fsdecode(name.replace(b"ve.png", b"f.png"))).write_bytes(b"no picture")
    told = shell("select", photos, "--budget", "100%", "--method", "random")
    assert told.code == 0, told.err
    assert b"a/na\xefve.png" in Path(shell.store.get("photos-1").summary.selection).read_bytes()
    assert shell("report", "photos-1", "-o", photos / "report.html").code == 0
    assert "na\\udcefve.png" in (photos / "report.html").read_text("utf-8")


def test_select__ids_with_half_a_character(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "texts.jsonl"
    path.write_text(
        "".join(json.dumps({"id": f"{row} \ud83d", "text": f"text {row}"}) + "\n" for row in range(5))
    )
    told = shell("select", path, "--budget", 2, "--method", "random")
    assert told.code == 0, told.err
    assert "\\ud83d" in Path(shell.store.get("texts-1").summary.selection).read_text("utf-8")


def test_status__folder_whose_name_is_no_utf8(shell: Shell, photos: Path) -> None:
    folder = photos.rename(os.fsdecode(os.fsencode(photos.parent) + b"/fo\xefto"))
    assert shell("select", folder, "--budget", 5, "--method", "random").code == 0
    told = shell("status")
    assert told.code == 0, told.err
    assert shell.store.get("fo_to-1").summary.project.title.endswith("/fo\\udcefto")
    assert shell("report", "fo_to-1", "-o", folder / "report.html").code == 0


def test_select__pictures_inside_a_table(shell: Shell, tmp_path: Path) -> None:
    path = tmp_path / "digits.parquet"
    pictures = [{"bytes": png(DIGITS[row]), "path": f"{row}.png"} for row in range(30)]
    pq.write_table(pa.table({"image": pictures, "label": [str(row % 10) for row in range(30)]}), path)
    told = shell("select", path, "--budget", 5, "-o", tmp_path / "out.csv")
    assert told.code == 0, told.err
    assert "chose 5 of 30" in told.out
    rows = rows_of(tmp_path / "out.csv")
    assert [row["source"] for row in rows if row["role"] == "pick"] == [
        f"parquet:{path}/image/{row['id']}/{row['id']}.png" for row in rows if row["role"] == "pick"
    ]
    assert shell("report", "digits-1", "-o", tmp_path / "report.html").code == 0
    assert "data:image/" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_select__table_of_a_spreadsheet(shell: Shell, photos: Path) -> None:
    rows = "".join(f"{row:02d}.png;Käse;;\r\n" for row in range(0, 60, 2))
    table = photos / "b" / "list.csv"
    table.write_bytes(f"sep=;\r\npath;label;;\r\n{rows}".encode("cp1252"))
    told = shell("select", table, "--budget", 4, "--json")
    assert told.code == 0, told.err
    summary = told.json["summary"]
    assert summary["pool"]["encoded"] == 30
    assert f"{table} is not UTF-8 and was read as cp1252, a guess" in " ".join(summary["warnings"])


@pytest.mark.parametrize("as_list", [False, True], ids=["folder", "manifest"])
def test_select__videos_and_pdfs(shell: Shell, tmp_path: Path, as_list: bool) -> None:
    colors = [RED, GREEN, BLUE, GREY]
    folder = tmp_path / "films"
    folder.mkdir()
    for row in range(12):
        (folder / f"{row:02d}.mp4").write_bytes(
            video([colors[row % 4]], each=4, size=(64, 64 + row // 4 * 2))
        )
        (folder / f"{row:02d}.pdf").write_bytes(pdf([(colors[row % 4], f"page {row}")]))
    (folder / "zz.mp4").write_bytes(b"no film")
    target = folder
    if as_list:
        target = folder / "list.csv"
        target.write_text("\n".join(["path", *(path.name for path in sorted(folder.iterdir()))]))
    told = shell("select", target, "--budget", 4, "--reserve", 0, "-o", tmp_path / "out.csv")
    assert told.code == 0, told.err
    assert "1 of 25 could not be used" in told.out
    picks = rows_of(tmp_path / "out.csv")
    assert len(picks) == 4
    report = tmp_path / "report.html"
    (run,) = shell.store.list()
    assert shell("report", run.id, "-o", report).code == 0
    assert report.read_text(encoding="utf-8").count("data:image/jpeg;base64,") >= 4


@pytest.mark.parametrize("as_list", [False, True], ids=["folder", "manifest"])
def test_select__the_texts_of_pdfs(shell: Shell, tmp_path: Path, as_list: bool) -> None:
    folder = tmp_path / "papers"
    folder.mkdir()
    words = ["Interest rates rise", "The cat sleeps", "A new telescope"]
    for row in range(9):
        (folder / f"{row}.pdf").write_bytes(pdf([(GREY, words[row % 3]), (RED, f"copy {row // 3}")]))
    (folder / "scan.pdf").write_bytes(pdf([(GREY, "")]))
    (folder / "photo.png").write_bytes(png(DIGITS[0]))
    target = folder
    if as_list:
        target = folder / "list.csv"
        target.write_text("\n".join(["path", *(path.name for path in sorted(folder.glob("*.pdf")))]))
    told = shell("select", target, "--data-key", "text:path", "--budget", 3, "--reserve", 0, "--json")
    assert told.code == 0, told.err
    summary = told.json["summary"]
    assert summary["encoder"]["key"].startswith("minilm-")
    assert (summary["pool"]["readable"], summary["skipped"]["count"]) == (9, 1)
    assert "data_key image:path" in summary["skipped"]["first"][0]["reason"]
    picked = sorted(Path(row["source"]).stem for row in rows_of(summary["selection"]))
    assert sorted(int(name) % 3 for name in picked) == [0, 1, 2]  # one of each kind of text
    report = tmp_path / "report.html"
    assert shell("report", told.json["id"], "-o", report).code == 0
    assert report.read_text(encoding="utf-8").count("data:image/jpeg;base64,") >= 3
