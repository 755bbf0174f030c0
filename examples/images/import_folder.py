"""Make a Label Studio project from a folder of pictures. What comes after is in README.md.

    python import_folder.py ~/pictures --classes cat dog owl

Needs LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY. `--smoke` goes all the way with 60 pictures, and starts a
Label Studio of its own when none is named.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from label_studio_sdk import LabelStudio

SUFFIXES = {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"}
UPLOADS = 50  # pictures a call


def label_config(classes: list[str]) -> str:
    """One picture, one question."""
    choices = "".join(f"<Choice value={quoteattr(name)}/>" for name in classes)
    picture = '<Image name="image" value="$image"/>'
    return f'<View>{picture}<Choices name="choice" toName="image">{choices}</Choices></View>'


def import_folder(studio: LabelStudio, folder: Path, classes: list[str], *, title: str) -> int:
    """Create a project and upload every picture below the folder; the project's number."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not paths:
        sys.exit(f"no picture below {folder}; {', '.join(sorted(SUFFIXES))} are looked for")
    project = studio.projects.create(title=title, label_config=label_config(classes))
    for begin in range(0, len(paths), UPLOADS):
        some = paths[begin : begin + UPLOADS]
        # Label Studio keeps one file per field, so every picture needs a field of its own.
        files = {f"file{place}": (path.name, path.read_bytes()) for place, path in enumerate(some)}
        call(studio, "POST", f"api/projects/{project.id}/import", files=files)
        print(f"uploaded {begin + len(some)} of {len(paths)}", flush=True)
    return int(project.id)


def call(studio: LabelStudio, method: str, path: str, **options: Any) -> Any:
    """A call for which the SDK has no method of its own, with the SDK's address and token."""
    client = studio._client_wrapper.httpx_client  # noqa: SLF001 - it is nowhere public
    answer = client.request(path, method=method, **options)
    answer.raise_for_status()
    return answer.json()


@contextmanager
def some_studio(place: Path) -> Iterator[tuple[str, str]]:
    """Address and token of the Label Studio that the environment names, else of a new one."""
    if "LABEL_STUDIO_URL" in os.environ:
        yield os.environ["LABEL_STUDIO_URL"], os.environ["LABEL_STUDIO_API_KEY"]
        return
    from usl_backend.demo.studio_server import LabelStudioServer

    token = "0123456789abcdef0123456789abcdef01234567"
    with LabelStudioServer(place, username="me@example.com", password="smoke-1", token=token) as server:
        yield server.url, token


def smoke() -> None:
    """The whole way; the truth plays the annotator."""
    from usl_backend.demo.dataset import load, write_images

    data = load()
    truth = {f"{row:04d}.png": data.classes[data.labels[row]] for row in range(60)}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "pictures"
        for path in write_images(folder)[60:]:
            path.unlink()
        with some_studio(Path(place) / "studio") as (url, token):
            environment = {
                **os.environ,
                "LABEL_STUDIO_URL": url,
                "LABEL_STUDIO_API_KEY": token,
                "MODEL_DIR": f"{place}/runs",
            }
            studio = LabelStudio(base_url=url, api_key=token, timeout=600)
            project = import_folder(studio, folder, list(data.classes), title="smoke")

            def shell(*words: str) -> str:
                command = [sys.executable, "-m", "usl_backend", *words]
                done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
                return done.stdout

            shell("select", str(project), "--budget", "10")
            for _ in range(10):  # what an annotator sees, one after the other
                task = call(studio, "GET", f"api/projects/{project}/next")
                name = task["data"]["image"].rpartition("-")[2]
                result = {"from_name": "choice", "to_name": "image", "type": "choices"}
                value = {"value": {"choices": [truth[name]]}}
                studio.annotations.create(id=task["id"], result=[{**result, **value}], lead_time=1.0)
            split = Path(place) / "split"
            shell("export", str(project), "--format", "torch", "--check", "--output", str(split))
            manifest = json.loads((split / "manifest.json").read_text(encoding="utf-8"))
            print(json.dumps(manifest["contents"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--classes", nargs="+", help="what annotators choose from")
    parser.add_argument("--title", default="pictures")
    parser.add_argument("--smoke", action="store_true", help="the whole way on a Label Studio of its own")
    options = parser.parse_args()
    if options.smoke:
        return smoke()
    if options.folder is None or not options.classes:
        parser.error("name the folder and --classes")
    studio = LabelStudio(
        base_url=os.environ["LABEL_STUDIO_URL"], api_key=os.environ["LABEL_STUDIO_API_KEY"], timeout=600
    )
    project = import_folder(studio, options.folder, options.classes, title=options.title)
    print(f"project {project}; next: usl-backend select {project}")
    return None


if __name__ == "__main__":
    main()
