"""Requests that arrive together share a batch, and each gets its own answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from benchmarks.microbatcher import MicroBatcher
from sentiment.records import Prediction, Scores


class Recorder:
    """Predicts 'truncated' for texts of even length, and keeps the batches that it saw."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.running = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        """Wait until it may go on; a batch with 'bad' in it fails."""
        self.batches.append(list(texts))
        self.running.set()
        assert self.go_on.wait(10)
        if "bad" in texts:
            raise RuntimeError("a bad batch")
        return [Prediction("neutral", Scores(0.0, 1.0, 0.0), len(text) % 2 == 0) for text in texts]


def test_each_caller_gets_its_own_answer() -> None:
    """Whatever batches form, every text has the answer that belongs to it."""
    recorder = Recorder()
    texts = ["x" * length for length in range(1, 101)]
    with MicroBatcher(recorder.predict) as batcher, ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(batcher.predict, texts))
    assert [answer.truncated for answer in answers] == [len(text) % 2 == 0 for text in texts]
    assert sorted(text for batch in recorder.batches for text in batch) == texts


@pytest.mark.parametrize("wait_seconds", [0.0, 0.002])
def test_what_arrives_while_one_runs_is_the_next_batch(wait_seconds: float) -> None:
    """Three requests that queued behind a running one run together, at most `largest` at a time."""
    recorder = Recorder()
    recorder.go_on.clear()
    with (
        MicroBatcher(recorder.predict, wait_seconds=wait_seconds, largest=2) as batcher,
        ThreadPoolExecutor(4) as pool,
    ):
        first = pool.submit(batcher.predict, "first")
        assert recorder.running.wait(10)
        others = [pool.submit(batcher.predict, text) for text in ("a", "bb", "ccc")]
        deadline = time.monotonic() + 10
        while batcher.waiting < 3:
            assert time.monotonic() < deadline, "the other three never queued"
        recorder.go_on.set()
        answers = [each.result(10) for each in (first, *others)]
    assert recorder.batches[0] == ["first"]
    assert [len(batch) for batch in recorder.batches] == [1, 2, 1]
    assert [answer.truncated for answer in answers] == [False, False, True, False]


def test_a_batch_that_fails_does_not_end_the_service() -> None:
    """Those who asked hear of it; the next request is answered."""
    with MicroBatcher(Recorder().predict) as batcher:
        with pytest.raises(RuntimeError, match="a bad batch"):
            batcher.predict("bad")
        assert batcher.predict("even").truncated


def test_close_answers_what_was_asked_before() -> None:
    """Closing waits for the requests in the queue."""
    recorder = Recorder()
    recorder.go_on.clear()
    batcher = MicroBatcher(recorder.predict)
    with ThreadPoolExecutor(2) as pool:
        answer = pool.submit(batcher.predict, "last")
        assert recorder.running.wait(10)
        closing = pool.submit(batcher.close)
        recorder.go_on.set()
        closing.result(10)
        assert answer.result(10).label == "neutral"
