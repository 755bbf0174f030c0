"""Videos and PDFs on a real Label Studio: eight frames, or the first pages, are one row."""

from collections.abc import Callable

import pytest
from live_studio import LiveProject, LiveStudio
from moving_pictures import BLUE, GREEN, GREY, RED, pdf, video
from shell import FOLDER, Shell

MakeProject = Callable[..., LiveProject]
COLORS = [RED, GREEN, BLUE, GREY]


def file_of(tag: str, number: int) -> bytes:
    """One of four groups of nearly equal files."""
    color, size = COLORS[number % 4], 100 + number // 4
    if tag == "Video":
        return video([color], each=8, size=(160, 2 * size))
    return pdf([(color, f"page of {number}"), (color, "")], size=(300.0, 2.0 * size))


@pytest.mark.parametrize(("tag", "suffix"), [("Video", "mp4"), ("Pdf", "pdf")])
def test_select__a_project_of(
    tag: str, suffix: str, shell: Shell, make_project: MakeProject, label_studio: LiveStudio
) -> None:
    folder = label_studio.documents_root / FOLDER
    folder.mkdir(exist_ok=True)
    contents = [file_of(tag, number) for number in range(16)]
    contents += [contents[0][:150], b""] + ([pdf([(RED, "x")], password="secret")] if tag == "Pdf" else [])
    for number, content in enumerate(contents):
        (folder / f"several-{number}.{suffix}").write_bytes(content)
    config = f"""<View><{tag} name="shown" value="$file"/>
        <Choices name="c" toName="shown"><Choice value="a"/><Choice value="b"/></Choices></View>"""
    address = f"/data/local-files/?d={FOLDER}/several-{{}}.{suffix}"
    project = make_project(
        label_config=config, data=[{"file": address.format(number)} for number in range(len(contents))]
    )
    told = shell("select", project.id, "--budget", 4, "--reserve", 0, "--json")
    assert told.code == 0, told.err
    summary = told.json["summary"]
    assert (summary["picks"], summary["pool"]["readable"]) == (4, 16)
    assert summary["pool"]["several"] >= 16
    reasons = " | ".join(entry["reason"] for entry in summary["skipped"]["first"])
    assert "is damaged" in reasons
    assert "is empty" in reasons
    assert ("encrypted with a password" in reasons) == (tag == "Pdf")
    # Nothing is decoded a second time, and the report shows a picture of each.
    again = shell("select", project.id, "--budget", 4, "--reserve", 0, "--json", "--dry-run").json
    assert again["summary"]["pool"]["encoded"] == 0
    assert [one["task"] for one in again["queue"]] == [one["task"] for one in told.json["queue"]]
    report = folder.parent / f"several-{suffix}.html"
    assert shell("report", told.json["id"], "-o", report).code == 0
    assert report.read_text(encoding="utf-8").count("data:image/jpeg;base64,") >= 4
    assert shell("doctor", project.id).code in (0, 1)
