"""Sequence of the demo's steps.

It starts a local Label Studio and the backend as child processes, fills a project with real data, connects the
backend and starts a run as the UI does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from usl_backend.demo import annotators, project
from usl_backend.demo.afterwards import CONTROLS, go_on
from usl_backend.demo.backend_server import BackendServer
from usl_backend.demo.material import MATERIALS
from usl_backend.demo.place import USERNAME, DemoPlace, default_directory
from usl_backend.demo.studio_server import HOST, LabelStudioServer
from usl_backend.errors import RunError, StudioError
from usl_backend.runs import RunStore
from usl_backend.runs.lock import Lock
from usl_backend.settings import check_extra_params
from usl_backend.studio import backend as studio_backend
from usl_backend.studio.client import StudioClient

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from usl_backend.demo.afterwards import Afterwards

BACKEND_TITLE = "USL"
ANNOTATORS = 2
POLL_SECONDS = 0.5
_ACTIVE = ("queued", "running")


def run_demo(
    *,
    data: str = "images",
    once: bool = False,
    data_directory: Path | None = None,
    port: int | None = None,
    backend_port: int | None = None,
    budget: str | None = None,
    console: Console | None = None,
) -> int:
    """Run the whole workflow on a local Label Studio, and stop the servers at the end.

    Parameters
    ----------
    data
        Data set, a key of `MATERIALS`.
    once
        Simulate two annotators, check the order in which they are served, export, and return; else run until
        Ctrl-C.
    data_directory
        Directory for the data of Label Studio and the backend, reused by the next start; by default
        `~/.local/share/usl-backend/demo`, or `demo-text` there.
    port, backend_port
        TCP ports on 127.0.0.1; by default those of the last start if they are free, else others.
    budget
        Value of the setting `budget`; None leaves its default.
    console
        Console to print to; by default standard output.

    Returns
    -------
    int
        Exit code 0.

    Raises
    ------
    USLError
        The budget is invalid, or a step failed; with `once` also when annotators were not served the picks in rank
        order.
    """
    check_extra_params({"budget": budget} if budget else {})  # before servers start
    console = console or Console(highlight=False)
    place = DemoPlace(data_directory or default_directory(data), data=data)
    started = time.monotonic()
    with _terminable(), _without_proxy(), _uninterrupted_stack() as stack:
        stack.enter_context(_only_one(place))
        demo = _Demo(place, console, stack)
        demo.start(port, backend_port)
        demo.prepare(budget)
        run = demo.selected(anew=once)
        if once:
            demo.play(run)
            console.print(f"Done in {time.monotonic() - started:.0f} s.")
        else:
            demo.invite(run)
            demo.wait()
    return 0


class _Demo:
    """Servers and project, shared by the steps."""

    def __init__(self, place: DemoPlace, console: Console, stack: contextlib.ExitStack) -> None:
        self.place = place
        self.console = console
        self._stack = stack
        self._data = MATERIALS[place.data]()

    def start(self, port: int | None, backend_port: int | None) -> None:
        """Start both servers, on the ports of the last start if they are free."""
        self._last_backend = f"http://{HOST}:{self.place.memory.backend_port}"
        memory = self.place.reserve_ports(port, backend_port)
        hint = " (the first time about half a minute)" if self.place.is_new else ""
        with self._step(f"Starting Label Studio{hint}"):
            self.studio = self._stack.enter_context(
                LabelStudioServer(
                    self.place.studio_directory,
                    port=memory.studio_port,
                    username=USERNAME,
                    password=memory.password,
                    token=memory.token,
                )
            )
        self.client = self._stack.enter_context(StudioClient(self.studio.url, memory.token, timeout=120))
        with self._step("Starting the backend"):
            self.backend = self._stack.enter_context(
                BackendServer(
                    self.place.backend_directory,
                    studio_url=self.studio.url,
                    api_key=memory.token,
                    port=memory.backend_port,
                )
            )

    def prepare(self, budget: str | None) -> None:
        """Create the project if necessary, fill it and connect the backend."""
        data = self._data
        self.project_id = project.find_or_create(
            self.client, self.place.memory.project, title=data.title, config=data.label_config
        )
        self.place.remember(project=self.project_id)
        with self._step(f"{data.contents} in the project"):
            self._indices = data.fill(self.client, self.project_id, self.place.directory)
        if self._last_backend != self.backend.url:
            studio_backend.disconnect(self.client, self.project_id, self._last_backend)
        with self._step("Connecting the backend, as Settings > Model > Connect Model does"):
            studio_backend.connect(
                self.client,
                self.project_id,
                self.backend.url,
                title=BACKEND_TITLE,
                extra_params={"budget": budget} if budget else None,
            )

    def selected(self, *, anew: bool) -> dict[str, Any]:
        """Return a completed run: the last one if it has picks left to label, else a new one."""
        runs = self.backend.runs(self.project_id)
        active = next((run for run in runs if run["state"] in _ACTIVE), None)
        done = next((run for run in runs if run["state"] == "done"), None)
        if active is None and done is not None and not anew:
            unlabeled = {task.id for task in self.client.tasks(self.project_id)}
            left = unlabeled.intersection(self.backend.picks(done["id"]))
            if left:
                self._tick(f"Run {done['id']} of the last start still has {len(left)} picks to label")
                return done
        if active is None:
            known = {run["id"] for run in runs}
            with self._step("Pressing Start Training"):
                studio_backend.start_training(self.client, self.project_id, self.backend.url)
            active = next((run for run in self.backend.runs(self.project_id) if run["id"] not in known), None)
            if active is None:
                raise RunError(f"Start Training did not start a run; see {self.backend.log_path}")
        return self._watch(active["id"])

    def invite(self, run: dict[str, Any]) -> None:
        """Print the addresses, the login and the next steps."""
        from rich.panel import Panel

        # Not the link stored with the run: Label Studio may have had another port at that time.
        tab = f"{self.studio.url}/projects/{self.project_id}/data?tab={run['summary']['tab']['id']}"
        picks = len(self.backend.picks(run["id"]))
        self.console.print(
            Panel(
                f"[bold]Label Studio[/]  {self.studio.url}\n"
                f"  e-mail      {USERNAME}\n"
                f"  password    {self.place.memory.password}\n\n"
                f"[bold]The {picks} picks, in order[/]  {tab}\n"
                "  1. Open it and log in.\n"
                f"  2. Label All Tasks: the first {self._data.thing} is pick 1.\n"
                "  3. Prediction score: low = first.\n\n"
                f"[bold]The run's page[/]  {self.backend.url}/usl/runs/{run['id']}\n"
                "  Once some picks are labeled, Suggest fills in the other tasks' classes;\n"
                f"  `usl-backend control {self.project_id}` draws tasks to measure them on.\n\n"
                f"[bold]Model card[/]  {self.studio.url}/projects/{self.project_id}/settings/ml\n"
                "  Its menu has Start Training, which selects again from the unlabeled tasks.\n\n"
                f"[bold]The backend's own pages[/]  {self.backend.url}/usl/",
                title="usl-backend demo",
                expand=False,
            ),
            soft_wrap=True,
        )

    def wait(self) -> None:
        """Wait until Ctrl-C."""
        with contextlib.suppress(KeyboardInterrupt):
            # Inside, since whoever reads this line may press Ctrl-C before `print` returns.
            self.console.print(
                f"Ctrl-C stops both servers; the next start reuses {escape(str(self.place.directory))}."
            )
            while not self.backend.ended:
                time.sleep(POLL_SECONDS)
            raise RunError(f"the backend ended by itself; see {self.backend.log_path}")
        self.console.print("\nStopping what the demo started ...")

    def play(self, run: dict[str, Any]) -> None:
        """Label all picks with simulated annotators, check the order, print a summary and export."""
        picks = self.backend.picks(run["id"])
        with contextlib.ExitStack() as stack:
            hired = [stack.enter_context(annotator) for annotator in annotators.hire(self.client, ANNOTATORS)]
            with self._step(f"Letting {ANNOTATORS} annotators label {len(picks)} tasks in turn"):
                served = annotators.play(
                    hired, self.project_id, turns=len(picks), choice=self._truth, control=self._data.control
                )
            check_order(picks, served)
            with self._step(
                f"Letting them label {CONTROLS} control tasks, and suggesting the others' classes"
            ):
                after = self._go_on(run["id"], hired)
        self._tick(f"All {len(picks)} tasks were served in the order of the picks")
        counts = Counter(self._truth(task) for task in picks)
        self.console.print(
            f"  {len(counts)} of {len(self._data.classes)} classes among them: "
            + ", ".join(f"{name} {counts[name]}" for name in self._data.classes if counts[name])
        )
        for line in after.lines():
            self.console.print(f"  {escape(line)}", soft_wrap=True)
        self._export(run["id"])

    def _go_on(self, run_id: str, hired: Sequence[StudioClient]) -> Afterwards:
        """Label a control set, and suggest classes for all other tasks."""
        store = RunStore(self.place.backend_directory)
        try:
            return go_on(
                run_id,
                store=store,
                client=self.client,
                hired=hired,
                truth=self._truth,
                control=self._data.control,
            )
        finally:
            store.close()

    def _truth(self, task: int) -> str:
        """Return the true class of a task."""
        return self._data.truth[self._indices[task]]

    def _export(self, run_id: str) -> None:
        """Export the labeled and unlabeled tasks, as `usl-backend export` does."""
        from usl_backend.exports import export_split
        from usl_backend.exports.project import project_split

        store = RunStore(self.place.backend_directory)
        try:
            split = project_split(store, store.get(run_id), client=self.client)
        finally:
            store.close()
        directory = export_split(split, self.place.export_directory, format="csv", force=True)
        counts = f"{len(split.labeled):,} labeled and {len(split.unlabeled):,} unlabeled tasks"
        self._tick(f"Exported {counts} to {escape(str(directory))}")

    def _watch(self, run_id: str) -> dict[str, Any]:
        """Show progress until the run ends, print its result and return it."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn())
        visible = self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=not visible) as bars:
            bar = bars.add_task("waiting", total=None)
            while True:
                run = self.backend.run(run_id)
                if run["state"] not in _ACTIVE:
                    break
                bars.update(
                    bar,
                    description=run["step"] or run["stage"] or "waiting",
                    completed=run["done"],
                    total=run["total"] or None,
                )
                time.sleep(POLL_SECONDS)
        if run["state"] != "done":
            reason = (run["error"] or {}).get("message", "no reason given")
            raise RunError(f"run {run_id} is {run['state']}: {reason}; see {self.backend.log_path}")
        summary = run["summary"]
        seconds = ", ".join(f"{stage} {took:.1f} s" for stage, took in summary["seconds"].items())
        self._tick(
            f"Run {run_id} chose {summary['picks']} of {summary['pool']['readable']:,} tasks"
            f" and {summary['reserve']} in reserve [dim]({seconds})[/]"
        )
        for warning in summary["warnings"]:
            self.console.print(f"  [yellow]![/] {escape(warning)}")
        return run

    def _tick(self, text: str) -> None:
        """Print a line for a completed step."""
        self.console.print(f"[green]✓[/] {text}", soft_wrap=True)

    @contextlib.contextmanager
    def _step(self, text: str) -> Iterator[None]:
        """Show a spinner during a step, and print a line at its end."""
        began = time.monotonic()
        with self.console.status(f"{text} ..."):
            yield
        self._tick(f"{text} [dim]({time.monotonic() - began:.1f} s)[/]")


def check_order(picks: list[int], served: list[int]) -> None:
    """Check that annotators were served the picks in rank order.

    Parameters
    ----------
    picks
        Task ids in rank order.
    served
        Task ids in the order in which they were served.

    Raises
    ------
    StudioError
        They differ; the first difference is named.
    """
    if served == picks:
        return
    for rank, pick in enumerate(picks):
        if rank >= len(served):
            raise StudioError(
                f"annotators were told after {len(served)} tasks that nothing is left, but task {pick}, pick"
                f" {rank + 1}, was due; check that nobody else labels in the demo's project"
            )
        if served[rank] != pick:
            raise StudioError(
                f"annotators were served task {served[rank]} where task {pick}, pick {rank + 1}, was due; Label Studio"
                " reserves a task that a user has open for a day: close it, or use a fresh --data-directory"
            )
    raise StudioError(f"annotators were served {len(served)} tasks, more than the {len(picks)} picks")


@contextlib.contextmanager
def _only_one(place: DemoPlace) -> Iterator[None]:
    """Lock the demo's directory: two demos there would share a database and stop each other's servers."""
    try:
        lock = Lock(place.lock_path)
    except RunError as error:
        raise RunError(
            f"a demo runs in {place.directory} already ({error}); stop it or choose another --data-directory"
        ) from None
    with lock:
        yield


@contextlib.contextmanager
def _without_proxy() -> Iterator[None]:
    """Let this process and the servers that it starts reach each other without a proxy, which cannot reach them."""
    names = ("no_proxy", "NO_PROXY")
    before = {name: os.environ.get(name) for name in names}
    # Libraries look at one of them, the small letters first.
    known = before["no_proxy"] or before["NO_PROXY"]
    os.environ.update(dict.fromkeys(names, f"{known},{HOST}" if known else HOST))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the demo like Ctrl-C, stopping its servers."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def raise_exit(_number: int, _frame: object) -> None:
        raise SystemExit(128 + signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, raise_exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _uninterrupted_stack() -> Iterator[contextlib.ExitStack]:
    """Provide an exit stack whose clean-up ignores a second Ctrl-C, which would leave servers running."""
    stack = contextlib.ExitStack()
    try:
        yield stack
    finally:
        if threading.current_thread() is threading.main_thread():
            before = {
                number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)
            }
            try:
                stack.close()
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
        else:
            stack.close()
