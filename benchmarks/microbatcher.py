"""A prototype, to be measured: requests that arrive together run through the model together."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from types import TracebackType
from typing import NamedTuple, Self

from sentiment.records import Prediction

PredictTexts = Callable[[Sequence[str]], list[Prediction]]


class _Request(NamedTuple):
    text: str
    answer: Future[Prediction]


class MicroBatcher:
    """Collects texts of concurrent callers and has one thread predict them in batches.

    The first text of a batch waits at most `wait_seconds` for others; with 0 a
    batch is what arrived while the one before was running. A batch holds at most
    `largest` texts. Use it as a context manager, or `close` it.
    """

    def __init__(self, predict: PredictTexts, *, wait_seconds: float = 0.002, largest: int = 32) -> None:
        self._predict = predict
        self._wait_seconds = wait_seconds
        self._largest = largest
        self._requests: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="micro-batcher", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def waiting(self) -> int:
        """How many texts no batch holds yet."""
        return self._requests.qsize()

    def predict(self, text: str) -> Prediction:
        """Return the prediction for one text; raises what predicting its batch raised."""
        request = _Request(text, Future())
        self._requests.put(request)
        return request.answer.result()

    def close(self) -> None:
        """Answer what was asked before, and stop."""
        self._requests.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (first := self._requests.get()) is not None:
            batch, more = self._collect(first)
            try:
                predictions = self._predict([request.text for request in batch])
            except Exception as error:
                for request in batch:
                    request.answer.set_exception(error)
            else:
                for request, prediction in zip(batch, predictions, strict=True):
                    request.answer.set_result(prediction)
            if not more:
                return

    def _collect(self, first: _Request) -> tuple[list[_Request], bool]:
        """Return the batch that `first` begins, and whether there is anything after it."""
        batch = [first]
        deadline = time.perf_counter() + self._wait_seconds
        while len(batch) < self._largest:
            try:
                request = self._requests.get(timeout=max(deadline - time.perf_counter(), 0.0))
            except queue.Empty:
                break
            if request is None:
                return batch, False
            batch.append(request)
        return batch, True
