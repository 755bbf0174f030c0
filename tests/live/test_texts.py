"""Texts, texts beside pictures, and vectors, on a real Label Studio, as a user has them in a shell."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from live_studio import LiveProject, LiveStudio
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
