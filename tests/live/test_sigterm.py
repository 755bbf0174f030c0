"""An orderly end in mid-run: the child keeps what it has, the server leaves, and the next start goes on from there."""

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

import requests
from live_studio import LiveProject, LiveStudio

from usl_backend.demo.backend_server import BackendServer
from usl_backend.demo.dataset import write_images
from usl_backend.demo.studio_server import free_port
from usl_backend.embedding.cache import EmbeddingCache
from usl_backend.encoders import load
from usl_backend.runs import RunState, RunStore
from usl_backend.runs.lock import held
from usl_backend.runs.retention import CACHE

SETTINGS = {"budget": 40, "image_size": 224}  # large pictures take long enough to be interrupted


def test_sigterm__checkpoint_leave_and_go_on(
    label_studio: LiveStudio, make_project: Callable[..., LiveProject], tmp_path: Path
) -> None:
    folder = label_studio.documents_root / "sigterm"
    names = [path.name for path in write_images(folder)][:400]
    project = make_project(data=[{"image": f"/data/local-files/?d=sigterm/{name}"} for name in names])
    data = tmp_path / "data"
    server = BackendServer(
        data,
        studio_url=label_studio.url,
        api_key=label_studio.token,
        port=free_port(),
        environment={
            "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(label_studio.documents_root),
            "USL_ENGINE": "torch",
        },
    )
    store = RunStore(data)

    def started() -> str:
        body = {"project": project.id, **SETTINGS}
        return str(requests.post(f"{server.url}/usl/api/runs", json=body, timeout=60).json()["id"])

    def over(run_id: str) -> bool:
        return not store.get(run_id).state.is_active

    try:
        with server:
            undisturbed = started()
            _wait(lambda: over(undisturbed))
            expected = store.files(undisturbed).read_published().queue.places
            shutil.rmtree(data / CACHE)

            run_id = started()
            _wait(lambda: store.get(run_id).stage == "embed" and store.get(run_id).done >= 64)
            assert server.process_id is not None
            os.kill(server.process_id, signal.SIGTERM)
            _wait(lambda: server.ended)
            assert "asked to stop" in server.log_path.read_text()
            run = store.get(run_id)
            assert run.state is RunState.QUEUED
            assert not held(store.files(run_id).lock)
            encoder = load("efficientnet-lite0", image_size=SETTINGS["image_size"])
            kept = len(EmbeddingCache(data / CACHE, encoder_key=encoder.key, dim=encoder.dim))
            assert 64 <= kept < len(names), store.files(run_id).log.read_text()[-2000:]

            server.stop()
            server.start()
            _wait(lambda: over(run_id))
            run = store.get(run_id)
            assert (run.state, run.attempts) == (RunState.DONE, 1)
            assert run.summary.pool.encoded == len(names) - kept
            assert store.files(run_id).read_published().queue.places == expected
    finally:
        store.close()


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.01)
