"""Kill -9 at seeded moments of a real run: the child, the server, or both; then look at what came of it."""

import logging
import os
import random
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import requests
from live_studio import LiveProject, LiveStudio

from usl_backend.demo.backend_server import BackendServer
from usl_backend.demo.studio_server import free_port
from usl_backend.jobs.supervisor import ATTEMPTS
from usl_backend.runs import Run, RunState, RunStore
from usl_backend.runs.lock import held, holder
from usl_backend.runs.retention import CACHE
from usl_backend.studio.preannotations import predictions

logger = logging.getLogger(__name__)

Victim = Literal["child", "server", "both"]
STAGES = ("fetch", "embed", "select", "publish")
VICTIMS: tuple[Victim, ...] = ("child", "server", "both")
PATIENCE = 300.0


@dataclass(frozen=True)
class Kill:
    """One blow: at which stage, whom, and how far into the stage, as a share of its usual time."""

    stage: str
    victim: Victim
    share: float


@dataclass(frozen=True)
class Reference:
    """What an undisturbed run gives: queue in rank order, embeddings, seconds per stage."""

    queue: list[dict[str, Any]]
    embeddings: np.ndarray
    seconds: dict[str, float]


@dataclass
class Tally:
    """What was found, over all runs."""

    landed: Counter[tuple[str, Victim]] = field(default_factory=Counter)
    runs: int = 0
    lost_rows: int = 0
    duplicates: int = 0
    other_picks: int = 0

    @property
    def kills(self) -> int:
        return sum(self.landed.values())

    def table(self) -> str:
        """Kills per stage and victim, then the findings."""
        stages = ("start", *STAGES)
        lines = [f"{'stage':<10}" + "".join(f"{victim:>9}" for victim in VICTIMS)]
        lines += [
            f"{stage:<10}" + "".join(f"{self.landed[stage, victim]:>9}" for victim in VICTIMS)
            for stage in stages
        ]
        lines.append(
            f"{self.kills} kills over {self.runs} runs: {self.lost_rows} lost rows, {self.duplicates} duplicate "
            f"predictions, {self.other_picks} runs with other picks"
        )
        return "\n".join(lines)


def plan(rng: random.Random) -> list[Kill]:
    """Blows of one run, in the order of its stages.

    Two deaths in a row at most, without progress in between: the third is a failure, on purpose.
    """
    kills = []
    for stage in STAGES:
        for _ in range(rng.choice((1, 2, 2))):
            kills.append(Kill(stage, rng.choice(VICTIMS), rng.random()))
    return kills


class Campaign:
    """Runs over one project, one after the other; each computes every stage anew and replaces the queue before it."""

    def __init__(
        self, studio: LiveStudio, project: LiveProject, folder: Path, settings: dict[str, Any], seed: int
    ) -> None:
        self.project, self.settings = project, settings
        self.rng = random.Random(seed)
        self.tally = Tally()
        self.store = RunStore(folder)
        self.server = BackendServer(
            folder,
            studio_url=studio.url,
            api_key=studio.token,
            port=free_port(),
            environment={"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(studio.documents_root)},
        )

    def strike(self, kills: int) -> Tally:
        """Do so many kills, over as many runs as it takes; the first run is left in peace, to compare with."""
        try:
            with self.server:
                self.reference = self._undisturbed()
                while self.tally.kills < kills:
                    self._disturbed(plan(self.rng), kills)
                    logger.info("%s", self.tally.table())
        finally:
            self.store.close()
        return self.tally

    # inside

    def _undisturbed(self) -> Reference:
        run_id = self._start()
        self._finished(run_id)
        pool, _ = self.store.files(run_id).read_pool()
        assert pool.ids.tolist() == sorted(self.project.tasks)
        queue = self.store.files(run_id).read_published().queue.places
        return Reference(queue, np.array(pool.embeddings), self.store.get(run_id).summary.seconds)

    def _disturbed(self, kills: list[Kill], most: int) -> None:
        shutil.rmtree(self.store.directory / CACHE)
        run_id = self._start()
        for kill in kills:
            if self.tally.kills < most:
                self._kill(kill, run_id)
        self._finished(run_id)
        self._examine(run_id)
        self.tally.runs += 1

    def _kill(self, kill: Kill, run_id: str) -> None:
        """Wait for the moment, strike, and start a new server where the old one is gone."""
        store, server = self.store, self.server
        lock = store.files(run_id).lock

        def arrived() -> bool:
            run = store.get(run_id)
            reached = run.stage is not None and STAGES.index(run.stage) >= STAGES.index(kill.stage)
            return not run.state.is_active or (spared(run) and reached and held(lock))

        def spared(run: Run) -> bool:
            """The last attempt that a run has is left in peace until it has kept something."""
            return run.state is RunState.RUNNING and (kill.victim == "server" or run.attempts < ATTEMPTS)

        _wait(arrived)
        time.sleep(kill.share * self.reference.seconds[kill.stage])
        run = store.get(run_id)
        child = holder(lock)
        if not spared(run) or child is None or not held(lock):
            return  # it was faster
        if kill.victim != "child":
            assert server.process_id is not None
            os.kill(server.process_id, signal.SIGKILL)
            _wait(lambda: server.ended)
        if kill.victim != "server":
            os.kill(child, signal.SIGKILL)
            _wait(lambda: holder(lock) != child or not held(lock))
        self.tally.landed[run.stage or "start", kill.victim] += 1
        if kill.victim != "child":
            server.stop()
            server.start()

    def _examine(self, run_id: str) -> None:
        """Nothing is lost, nothing is twice, the picks are the same."""
        store = self.store
        pool, _ = store.files(run_id).read_pool()
        assert pool.skipped == {}
        self.tally.lost_rows += len(set(self.project.tasks) - set(pool.ids.tolist()))
        queue = store.files(run_id).read_published().queue.places
        self.tally.other_picks += queue != self.reference.queue
        np.testing.assert_allclose(pool.embeddings, self.reference.embeddings, atol=1e-5)

        # what Label Studio holds: one prediction for each queued task, of this run, and its score is its rank
        version = store.get(run_id).summary.model_version
        everything = predictions(self.project.client, self.project.id)
        assert len({one.model_version for one in everything} - {version}) <= 1, "the one just replaced"
        held_there = [one for one in everything if one.model_version == version]
        times = Counter(prediction.task for prediction in held_there)
        self.tally.duplicates += sum(count - 1 for count in times.values())
        ranked = [prediction.task for prediction in sorted(held_there, key=lambda one: one.score or 0.0)]
        assert ranked == [entry.instance for entry in queue]
        assert self.project.now.model_version == version
        assert sum("USL picks" in view["data"]["title"] for view in self.project.views()) == 1
        # reading the queue back takes a lock and gives it back: no annotation stays, the first pick is served
        tasks = list(self.project.client.tasks(self.project.id, only_unlabeled=False))
        assert all(task.unlabeled for task in tasks)

    def _start(self) -> str:
        body = {"project": self.project.id, **self.settings}
        answer = requests.post(f"{self.server.url}/usl/api/runs", json=body, timeout=60)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def _finished(self, run_id: str) -> None:
        """Wait for the run's own end, which is a good one."""
        _wait(lambda: not self.store.get(run_id).state.is_active)
        run = self.store.get(run_id)
        assert run.state is RunState.DONE, (run_id, run.attempts, run.error)


def _wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)
