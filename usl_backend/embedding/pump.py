"""Keep reading threads and the encoder busy until every instance is settled."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Final, Protocol

from usl_backend.cpus import usable_cpus
from usl_backend.embedding.cache import FLUSH_ROWS
from usl_backend.media import waiting_for

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from usl_backend.embedding.outcome import Outcome
    from usl_backend.encoders import Encoder
    from usl_backend.instances import Instance
    from usl_backend.outliers import Traits
    from usl_backend.progress import Progress

Examine = Callable[[Sequence["Instance"], threading.Event], Iterator["Outcome"]]
"""Reads some instances in a reading thread, one outcome each and in order; ends early when the event is set."""
Settle = Callable[["Outcome"], bool]
"""Takes in an outcome; False puts the instance aside for another run of the pump."""

STEP: Final = "reading and encoding"
"""What progress is told."""
_PER_CORE: Final = 16
_BATCHES_AHEAD: Final = 3
_PATIENCE_SECONDS: Final = 0.5


class RowStore(Protocol):
    """Where encoded rows go: `EmbeddingCache` or `stage.Part`."""

    @property
    def pending(self) -> int:
        """Rows that a flush would write."""
        ...

    def known(self, hashes: Sequence[str]) -> Sequence[bool] | NDArray[np.bool_]:
        """Tell which contents have a row."""
        ...

    def append(
        self, hashes: Sequence[str], vectors: NDArray[np.float32], traits: Sequence[Traits] = (), /
    ) -> None:
        """Add rows, and what was measured on their contents."""
        ...

    def flush(self) -> None:
        """Write the pending rows."""
        ...


class Pump:
    """Moves instances through the reading threads and their contents through the encoder.

    Everything runs in the calling thread, except for the reading itself.

    Parameters
    ----------
    encoder
        Encodes contents, a batch at a time.
    rows
        Takes the rows; flushed at least every 1,024 rows.
    total
        Instances that progress is told of.
    progress
        Called about every half second.
    kept
        Called after each flush.
    waiting
        Says which host is waited for, in words for progress; "" for none.
    """

    def __init__(
        self,
        encoder: Encoder,
        rows: RowStore,
        *,
        total: int,
        progress: Progress,
        kept: Callable[[], None],
        waiting: Callable[[], str] = lambda: "",
    ) -> None:
        self._encoder, self._rows = encoder, rows
        self._total, self._progress, self._kept = total, progress, kept
        self._host_waited_for = waiting
        self._batch = -(-_PER_CORE * usable_cpus() // encoder.batch) * encoder.batch
        self._waiting: list[tuple[str, NDArray[np.uint8] | str, Traits]] = []
        self._waiting_instances = self._done = 0

    def run(
        self,
        instances: Sequence[Instance],
        *,
        examine: Examine,
        settle: Settle,
        workers: int,
        several: int = 1,
    ) -> None:
        """Read every instance and encode what is to be encoded.

        Parameters
        ----------
        instances
            Read ahead of the encoder by three batches at most, so that memory does not grow with their number.
        examine
            Reads them, in the threads. What it raises is raised here.
        settle
            Takes in every outcome, in the calling thread.
        workers
            Reading threads.
        several
            Instances that a thread reads at a time.
        """
        window = _BATCHES_AHEAD * self._batch + several * workers
        ahead = _ReadAhead(instances, examine, workers=workers, several=several, window=window)
        reported = 0.0
        try:
            while ahead.in_flight:
                outcome = ahead.next(_PATIENCE_SECONDS)
                if outcome is not None and settle(outcome):
                    self._take(outcome)
                if len(self._waiting) >= self._batch or (self._waiting and not ahead.in_flight):
                    self._encode()
                if time.monotonic() >= reported + _PATIENCE_SECONDS:
                    reported = time.monotonic()
                    self._report()
        finally:
            ahead.stop()

    def wait(self, seconds: float, *, host: str, reason: str) -> None:
        """Wait for a host, and report so meanwhile, which raises when the run has to stop."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._report(waiting_for(host, reason, left))
            time.sleep(min(left, _PATIENCE_SECONDS))

    def _report(self, waiting: str = "") -> None:
        self._progress(waiting or self._host_waited_for() or STEP, self._done, self._total)

    def _take(self, outcome: Outcome) -> None:
        """Count a settled instance, or have its contents wait for the encoder."""
        new = [(one.hash, one.value, one.traits) for one in outcome.contents if one.value is not None]
        self._waiting += new
        if new:
            self._waiting_instances += 1
        else:
            self._done += 1

    def _encode(self) -> None:
        """Encode what waits, and write the rows from time to time."""
        hashes, contents, traits = zip(*self._waiting, strict=True)
        rows = self._encoder.encode(list(contents))
        self._waiting.clear()
        self._rows.append(hashes, rows, traits)
        self._done += self._waiting_instances
        self._waiting_instances = 0
        if self._rows.pending >= FLUSH_ROWS:
            self._rows.flush()
            self._kept()


class _ReadAhead:
    """Threads that read instances, at most `window` of them ahead of whoever takes the outcomes."""

    def __init__(
        self, instances: Sequence[Instance], examine: Examine, *, workers: int, several: int, window: int
    ) -> None:
        self._remaining = iter(instances)
        self._examine, self._several = examine, several
        self._outcomes: queue.SimpleQueue[Outcome | BaseException] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._threads = ThreadPoolExecutor(max(1, workers), thread_name_prefix="read")
        self._free = 0
        self.in_flight = 0
        """Instances whose outcome was not taken yet."""
        self._submit(window)

    def next(self, timeout: float) -> Outcome | None:
        """Take the next outcome, or None if none comes in time."""
        try:
            outcome = self._outcomes.get(timeout=timeout)
        except queue.Empty:
            return None
        self.in_flight -= 1
        self._free += 1
        if self._free >= self._several:
            self._submit(self._several)
            self._free = 0
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def stop(self) -> None:
        """Read no more; a thread in a slow fetch is not waited for."""
        self._stopping.set()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _submit(self, count: int) -> None:
        """Have up to `count` more instances read, `several` by one task of a thread."""
        submitted = 0
        while submitted < count and (some := list(islice(self._remaining, self._several))):
            self._threads.submit(self._read, some)
            submitted += len(some)
        self.in_flight += submitted

    def _read(self, some: Sequence[Instance]) -> None:
        """Read some instances in a thread and hand over the outcomes, or the error that ends the run."""
        if self._stopping.is_set():
            return
        try:
            for outcome in self._examine(some, self._stopping):
                self._outcomes.put(outcome)
        except BaseException as error:  # noqa: BLE001 - raised again by the calling thread
            self._outcomes.put(error)
