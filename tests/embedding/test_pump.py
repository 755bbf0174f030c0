import threading
import time
from collections.abc import Iterator, Sequence

import numpy as np
import pytest

from usl_backend.embedding import pump as module
from usl_backend.embedding.outcome import Outcome
from usl_backend.embedding.pump import Pump
from usl_backend.embedding.reading import Content
from usl_backend.embedding.stage import LooseRows
from usl_backend.errors import CancelledError, RunError
from usl_backend.instances import Instance
from usl_backend.progress import Progress, ignore

BATCH = 4


class Lengths:
    """Encodes a text as its length."""

    key, modality, dim, size, batch = "lengths", "text", 1, 0, BATCH

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def encode(self, batch: Sequence[str]) -> np.ndarray:
        self.batches.append(list(batch))
        return np.array([[len(text)] for text in batch], dtype=np.float32)


class Counted(LooseRows):
    """Rows in memory, and how many waited at each flush."""

    def __init__(self) -> None:
        super().__init__(lambda _: False)
        self.flushed: list[int] = []

    def append(self, hashes, vectors, traits) -> None:
        super().append(hashes, vectors, traits)
        self.pending += len(hashes)

    def flush(self) -> None:
        self.flushed.append(self.pending)
        self.pending = 0


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PER_CORE", 1)
    monkeypatch.setattr(module, "usable_cpus", lambda: 2)


@pytest.fixture
def encoder() -> Lengths:
    return Lengths()


@pytest.fixture
def rows() -> Counted:
    return Counted()


def texts(count: int) -> list[Instance]:
    return [Instance(number, "text", "x" * number) for number in range(count)]


def as_they_are(some: Sequence[Instance], _: threading.Event) -> Iterator[Outcome]:
    for instance in some:
        yield Outcome(instance, (Content(f"{instance.id:x}", instance.source),))


def pump_of(encoder: Lengths, rows: Counted, progress: Progress = ignore, kept=lambda: None) -> Pump:
    return Pump(encoder, rows, total=100, progress=progress, kept=kept)


@pytest.mark.parametrize("several", [1, 8])
def test_pump__every_content_is_encoded_in_full_batches(encoder, rows, several) -> None:
    pump_of(encoder, rows).run(
        texts(26), examine=as_they_are, settle=lambda _: True, workers=3, several=several
    )
    assert {content_hash: float(row[0]) for content_hash, row in rows.rows.items()} == {
        f"{number:x}": float(number) for number in range(26)
    }
    assert [len(batch) for batch in encoder.batches] == [4, 4, 4, 4, 4, 4, 2]


def test_pump__batch_is_enough_whole_batches_of_the_encoder_for_the_cpus(encoder, rows, monkeypatch) -> None:
    monkeypatch.setattr(module, "usable_cpus", lambda: 10)
    pump_of(encoder, rows).run(texts(25), examine=as_they_are, settle=lambda _: True, workers=1)
    assert [len(batch) for batch in encoder.batches] == [12, 12, 1]


def test_pump__what_is_put_aside_is_neither_encoded_nor_counted(encoder, rows, monkeypatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.0)
    told: list[int] = []
    pump = pump_of(encoder, rows, lambda _, done, __: told.append(done))

    def examine(some: Sequence[Instance], _: threading.Event) -> Iterator[Outcome]:
        for one in some:
            # Every third is put aside, every third has a row, every third is new.
            yield Outcome(one, (Content(f"{one.id:x}", one.source if one.id % 3 == 2 else None),))

    threads: set[str] = set()

    def settle(outcome: Outcome) -> bool:
        threads.add(threading.current_thread().name)
        return outcome.instance.id % 3 > 0

    pump.run(texts(12), examine=examine, settle=settle, workers=2)
    assert sorted(len(text) for batch in encoder.batches for text in batch) == [2, 5, 8, 11]
    assert threads == {threading.current_thread().name}
    assert told[-1] == 8
    pump.run(texts(1), examine=examine, settle=lambda _: True, workers=2)
    assert told[-1] == 9, "a second run counts on"


@pytest.mark.parametrize("several", [1, 5])
def test_pump__reads_ahead_by_no_more_than_its_window(encoder, rows, several) -> None:
    lock, examined, ahead = threading.Lock(), [], []

    def examine(some: Sequence[Instance], _: threading.Event) -> Iterator[Outcome]:
        for one in some:
            with lock:
                examined.append(one.id)
            yield Outcome(one, (Content(f"{one.id:x}", one.source),))

    def encode(batch: Sequence[str]) -> np.ndarray:
        time.sleep(0.01)  # the threads read on as far as they may
        ahead.append(len(examined) - sum(map(len, encoder.batches)))
        return Lengths.encode(encoder, batch)

    encoder.encode = encode
    pump_of(encoder, rows).run(texts(200), examine=examine, settle=lambda _: True, workers=2, several=several)
    # Three batches and what the threads hold, beside the batch that is being encoded.
    assert 3 * BATCH <= max(ahead) <= 3 * BATCH + 2 * several + BATCH + several


def test_pump__rows_are_flushed_from_time_to_time(encoder, rows, monkeypatch) -> None:
    monkeypatch.setattr(module, "FLUSH_ROWS", 10)
    kept: list[int] = []
    pump = pump_of(encoder, rows, kept=lambda: kept.append(len(rows.rows)))
    pump.run(texts(30), examine=as_they_are, settle=lambda _: True, workers=2)
    assert rows.flushed == [12, 12]
    assert kept == [12, 24]


def test_pump__error_of_a_thread_ends_the_run(encoder, rows) -> None:
    def examine(some: Sequence[Instance], _: threading.Event) -> Iterator[Outcome]:
        for one in some:
            if one.id == 5:
                raise RunError("the disk is gone")
            yield Outcome(one)

    settled: list[int] = []

    def settle(outcome: Outcome) -> bool:
        settled.append(outcome.instance.id)
        return True

    with pytest.raises(RunError, match="the disk is gone"):
        pump_of(encoder, rows).run(texts(9), examine=examine, settle=settle, workers=1, several=9)
    assert settled == [0, 1, 2, 3, 4]


def test_pump__cancelled_does_not_wait_for_a_slow_fetch(encoder, rows, monkeypatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.01)
    fetching, released = threading.Event(), threading.Event()
    stops: list[threading.Event] = []

    def examine(some: Sequence[Instance], stopping: threading.Event) -> Iterator[Outcome]:
        stops.append(stopping)
        fetching.set()
        released.wait(60)
        yield Outcome(some[0])

    def cancel(*_: object) -> None:
        if fetching.is_set():
            raise CancelledError("stop")

    begun = time.monotonic()
    try:
        with pytest.raises(CancelledError):
            pump_of(encoder, rows, cancel).run(texts(9), examine=examine, settle=lambda _: True, workers=1)
        assert time.monotonic() - begun < 30
        assert stops[0].is_set()
    finally:
        released.set()
    assert len(stops) == 1, "what had not begun was not begun any more"


def test_wait__reports_all_the_time_and_can_be_stopped(encoder, rows, monkeypatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.01)
    told: list[object] = []

    def progress(*report: object) -> None:
        told.append(report)
        if len(told) == 6:
            raise CancelledError("stop")

    pump = pump_of(encoder, rows, progress)
    begun = time.monotonic()
    pump.wait(0.025, host="images.test", reason="images.test answered 429")
    assert time.monotonic() - begun >= 0.025
    assert 1 <= len(told) <= 4
    with pytest.raises(CancelledError):
        pump.wait(60, host="images.test", reason="images.test answered 429")
    said = "waiting for images.test: answered 429, next try in {} s"
    assert set(told) == {(said.format(1), 0, 100), (said.format(60), 0, 100)}


def test_pump__tells_for_which_host_its_threads_wait(encoder, rows, monkeypatch) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.0)
    told: list[str] = []
    waiting = iter(["waiting for images.test: answered 429, next try in 8 s"])
    pump = Pump(
        encoder,
        rows,
        total=100,
        progress=lambda step, *_: told.append(step),
        kept=lambda: None,
        waiting=lambda: next(waiting, ""),
    )
    pump.run(texts(9), examine=as_they_are, settle=lambda _: True, workers=1)
    assert told[0] == "waiting for images.test: answered 429, next try in 8 s"
    assert set(told[1:]) == {module.STEP}
