"""Make a Label Studio project from a CSV file of texts. What comes after is in README.md.

    python import_texts.py tickets.csv --column body --classes billing bug praise

Needs LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY. `--smoke` goes all the way with 80 texts, and starts a
Label Studio of its own when none is named.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.sax.saxutils import quoteattr

from label_studio_sdk import LabelStudio

IMPORTS = 5_000  # tasks a call


def label_config(classes: list[str]) -> str:
    """One text, one question."""
    choices = "".join(f"<Choice value={quoteattr(name)}/>" for name in classes)
    return f'<View><Text name="text" value="$text"/><Choices name="choice" toName="text">{choices}</Choices></View>'


def import_texts(studio: LabelStudio, texts: list[str], classes: list[str], *, title: str) -> int:
    """Create a project with a task for every text; the project's number."""
    project = studio.projects.create(title=title, label_config=label_config(classes))
    for begin in range(0, len(texts), IMPORTS):
        some = [{"text": text} for text in texts[begin : begin + IMPORTS]]
        studio.projects.import_tasks(id=project.id, request=some)
        print(f"imported {begin + len(some)} of {len(texts)}", flush=True)
    return int(project.id)


def read(path: Path, column: str) -> list[str]:
    """The column of texts of a CSV file with a header."""
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = csv.DictReader(file)
        if column not in (rows.fieldnames or ()):
            sys.exit(f"{path} has no column {column!r}; it has {', '.join(rows.fieldnames or ())}")
        return [row[column] or "" for row in rows]


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
    from usl_backend.demo.texts import classes_of, load

    packages = load()[::15]
    truth = {package.description: package.section for package in packages}
    with tempfile.TemporaryDirectory() as place:
        table = Path(place) / "packages.csv"
        with table.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["body"], *([text] for text in truth), [" "]])
        with some_studio(Path(place) / "studio") as (url, token):
            environment = {
                **os.environ,
                "LABEL_STUDIO_URL": url,
                "LABEL_STUDIO_API_KEY": token,
                "MODEL_DIR": f"{place}/runs",
            }
            studio = LabelStudio(base_url=url, api_key=token, timeout=600)
            project = import_texts(studio, read(table, "body"), list(classes_of(packages)), title="smoke")

            def shell(*words: str) -> str:
                command = [sys.executable, "-m", "usl_backend", *words]
                done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
                return done.stdout

            print(shell("select", str(project), "--budget", "10"))
            client = studio._client_wrapper.httpx_client  # noqa: SLF001 - "next" has no method of its own
            for _ in range(10):  # what an annotator sees, one after the other
                task = client.request(f"api/projects/{project}/next", method="GET").json()
                result = {"from_name": "choice", "to_name": "text", "type": "choices"}
                value = {"value": {"choices": [truth[task["data"]["text"]]]}}
                studio.annotations.create(id=task["id"], result=[{**result, **value}], lead_time=1.0)
            split = Path(place) / "split"
            shell("export", str(project), "--format", "csv", "--check", "--output", str(split))
            manifest = json.loads((split / "manifest.json").read_text(encoding="utf-8"))
            print(json.dumps(manifest["contents"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("table", type=Path, nargs="?", help="CSV file with a header")
    parser.add_argument("--column", default="text", help="column of the texts")
    parser.add_argument("--classes", nargs="+", help="what annotators choose from")
    parser.add_argument("--title", default="texts")
    parser.add_argument("--smoke", action="store_true", help="the whole way on a Label Studio of its own")
    options = parser.parse_args()
    if options.smoke:
        return smoke()
    if options.table is None or not options.classes:
        parser.error("name the table and --classes")
    studio = LabelStudio(
        base_url=os.environ["LABEL_STUDIO_URL"], api_key=os.environ["LABEL_STUDIO_API_KEY"], timeout=600
    )
    texts = read(options.table, options.column)
    project = import_texts(studio, texts, options.classes, title=options.title)
    print(f"project {project}; next: usl-backend select {project}")
    return None


if __name__ == "__main__":
    main()
