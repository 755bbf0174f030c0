"""Texts, texts beside pictures, and vectors, on a real Label Studio, as a user has them in a shell."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from live_studio import LiveProject, LiveStudio
from moving_pictures import GREY, pdf
from PIL import Image
from shell import FOLDER, Shell, local

from usl_backend.demo import texts
from usl_backend.demo.project import label_config

MakeProject = Callable[..., LiveProject]

TALK = """<View><Paragraphs name="talk" value="$talk" nameKey="who" textKey="said"/>
<Choices name="c" toName="talk"><Choice value="a"/><Choice value="b"/></Choices></View>"""
BOTH = """<View><Image name="i" value="$image"/><Text name="t" value="$text"/>
<Choices name="c" toName="i"><Choice value="a"/><Choice value="b"/></Choices></View>"""


def test_select__texts_with_all_that_is_wrong_with_them(shell: Shell, make_project: MakeProject) -> None:
    packages = texts.load()[:60]
    good = [{"text": package.description} for package in packages]
    bad = [{"text": " \n"}, {"text": ""}, {"text": []}]  # Label Studio itself refuses other kinds
    odd = [
        {"text": "A megabyte of words. " * 50_000},
        {"text": "<script>alert('a text')</script> & <b>markup</b>"},
        {"text": "中央银行提高了利率。 العربية 🙂"},
    ]
    project = make_project(
        label_config=label_config(texts.classes_of(packages), "text"), data=[*good, *bad, *odd]
    )
    told = shell("select", project.id, "--budget", 12, "--json")
    assert told.code == 0, told.err
    run = told.json
    summary = run["summary"]
    assert summary["picks"] == 12
    assert (summary["pool"]["readable"], summary["skipped"]["count"]) == (63, 3)
    assert {entry["reason"] for entry in summary["skipped"]["first"]} == {'"text" is empty'}
    assert summary["encoder"]["key"].startswith("minilm-")
    served = [project.client.next_task(project.id)["id"]]
    assert served == [run["queue"][0]["task"]]
    # The picks of a run that embeds nothing anew are the same.
    again = shell("select", project.id, "--budget", 12, "--json", "--dry-run").json
    assert again["summary"]["pool"]["encoded"] == 0
    assert [one["task"] for one in again["queue"]][:12] == [one["task"] for one in run["queue"]][:12]


def test_select__paragraphs_and_the_wrong_encoder(shell: Shell, make_project: MakeProject) -> None:
    talks = [
        {"talk": [{"who": "Ann", "said": f"Topic {i}"}, {"who": "Bo", "said": "yes"}]} for i in range(12)
    ]
    project = make_project(label_config=TALK, data=[*talks, {"talk": []}])
    assert shell("select", project.id, "--budget", 4).code == 0
    refused = shell("select", project.id, "--budget", 4, "--encoder", "efficientnet-lite0")
    assert refused.code == 1
    assert "takes images, but Paragraphs 'talk' shows texts; choose another encoder" in refused.err


def test_select__picture_and_text_together_and_vectors(
    shell: Shell, make_project: MakeProject, label_studio: LiveStudio, tmp_path: Path
) -> None:
    rng = np.random.default_rng(2)
    folder = label_studio.documents_root / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    data = []
    for number, package in enumerate(texts.load()[:16]):
        pixels = rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"both-{number}.png")
        vector = rng.normal(size=4).tolist() if number else [1.0]
        data.append({**local(f"both-{number}.png"), "text": package.description, "vector": vector})
    data[3] = {**data[3], "text": ""}
    project = make_project(label_config=BOTH, data=data)
    both = shell("select", project.id, "--budget", 4, "--data-key", "image=1,text=0.5", "--json", "--dry-run")
    assert both.code == 0, both.err
    pool, _ = shell.store.files(both.json["id"]).read_pool()
    assert pool.embeddings.shape == (15, 1280 + 384)
    np.testing.assert_allclose(np.linalg.norm(pool.embeddings, axis=1), 1.0, atol=1e-5)
    assert both.json["summary"]["skipped"]["first"][0]["reason"] == '"text" is empty'

    field = shell("select", project.id, "--budget", 4, "--encoder", "field:vector", "--json", "--dry-run")
    assert field.json["summary"]["skipped"]["first"][0]["reason"] == "its vector has 1 numbers, most have 4"

    directory = shell.data / "encoders"
    directory.mkdir(exist_ok=True)
    np.savez(directory / "own.npz", embeddings=rng.normal(size=(16, 6)), ids=np.array(project.tasks))
    rows = shell(
        "select", project.id, "--budget", 4, "--encoder", "precomputed:own.npz", "--json", "--dry-run"
    )
    assert rows.code == 0, rows.err
    assert rows.json["summary"]["pool"]["readable"] == 16
    assert json.dumps(rows.json["summary"]["encoder"]["key"]).startswith('"precomputed-own-')


def test_select__texts_that_lie_in_files(
    shell: Shell, make_project: MakeProject, label_studio: LiveStudio
) -> None:
    folder = label_studio.documents_root / FOLDER
    folder.mkdir(exist_ok=True)
    words = ["Interest rates rise", "The cat sleeps", "A new telescope"]
    for number in range(12):
        line = f"{words[number % 3]} {number // 3}"
        (folder / f"words-{number}.pdf").write_bytes(pdf([(GREY, line)]))
        (folder / f"words-{number}.html").write_text(f"<p>{line}</p><script>0</script>")
        (folder / f"words-{number}.txt").write_text(line)
    (folder / "words-12.pdf").write_bytes(pdf([(GREY, "")]))
    (folder / "words-12.html").write_text("<br>")
    (folder / "words-12.txt").write_text(" ")
    queues = []
    for tag, suffix, data_key, reason in (
        ('<Pdf name="image" value="$file"/>', "pdf", "text:file", "hold no text, as scans do"),
        ('<HyperText name="image" value="$file" valueType="url"/>', "html", None, '"file" shows no text'),
        ('<Text name="image" value="$file" valueType="url"/>', "txt", None, '"file" is empty'),
    ):
        address = f"/data/local-files/?d={FOLDER}/words-{{}}.{suffix}"
        project = make_project(
            label_config=f"""<View>{tag}
            <Choices name="choice" toName="image"><Choice value="a"/><Choice value="b"/></Choices></View>""",
            data=[{"file": address.format(number)} for number in range(13)],
        )
        chosen = ("--data-key", data_key) if data_key else ()
        told = shell("select", project.id, "--budget", 3, "--reserve", 0, "--json", *chosen)
        assert told.code == 0, told.err
        summary = told.json["summary"]
        assert summary["encoder"]["key"].startswith("minilm-")
        assert (summary["pool"]["readable"], summary["skipped"]["count"]) == (12, 1)
        assert reason in summary["skipped"]["first"][0]["reason"]
        # The same texts have the same rows, wherever they lie.
        assert summary["pool"]["encoded"] == (0 if queues else 12)
        queues.append([project.tasks.index(one["task"]) for one in told.json["queue"]])
        report = folder.parent / f"words-{suffix}.html"
        assert shell("report", told.json["id"], "-o", report).code == 0
        kind = "jpeg" if suffix == "pdf" else "svg+xml"
        assert report.read_text(encoding="utf-8").count(f"data:image/{kind};base64,") >= 3
        doctor = shell("doctor", project.id).out
        assert (
            "3 of 3"
            if data_key
            else f"1 of 3 tasks tried cannot be read (task {project.tasks[12]}: {reason})"
        ) in doctor
        (served,) = project.serve([project.client], 1, label="a")
        out = folder.parent / f"split-{suffix}"
        assert shell("export", project.id, "--format", "jsonl", "--output", out).code == 0
        labeled = json.loads((out / "labeled.jsonl").read_text())
        assert labeled["source"] == address.format(project.tasks.index(served))
    assert queues[0] == queues[1] == queues[2]
