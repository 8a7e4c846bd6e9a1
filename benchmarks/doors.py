"""Servers of the same model, asked over HTTP on one connection that is kept open."""

from __future__ import annotations

import http.client
import json
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.answers import BATCH, Answers, TimedSingles, time_batches, time_singles
from benchmarks.figures import DOOR, MLFLOW
from benchmarks.processes import (
    PROGRAMS,
    PROJECT,
    ContenderFailed,
    Process,
    peak_memory_mb,
    python_processes,
)

_START_SECONDS = 120.0
_ANSWER_SECONDS = 30.0
_POLL_SECONDS = 0.02

Body = dict[str, Any]


class Door:
    """A running server with its client; `cold_start` is in seconds, to the first answer."""

    def __init__(
        self, process: Process, client: Client, answers: Answers, first: str, cold_start: float
    ) -> None:
        self.first = first
        self.cold_start = cold_start
        self._process = process
        self._client = client
        self._answers = answers

    def singles(self, tweets: Sequence[int]) -> TimedSingles:
        """Ask for each of `tweets` on its own."""
        return time_singles(self._answers, tweets)

    def batches(self, numbers: Sequence[int]) -> list[float]:
        """Ask for each batch, and return the seconds that each took."""
        return time_batches(self._answers, numbers)

    def peak_memory_mb(self) -> float:
        """Return what its Python processes took at most, together."""
        return sum(map(peak_memory_mb, python_processes(self._process.pid)))

    def stop(self) -> None:
        """End the server and all that it started."""
        self._client.close()
        self._process.stop()


class NotReady(ContenderFailed):
    """The server answers that it cannot answer yet."""


class Client:
    """Posts JSON to one path over one connection."""

    def __init__(self, port: int, path: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
        self._path = path

    def post(self, body: bytes) -> bytes:
        """Return the body of the answer.

        Raises:
            NotReady: the server answers 503.
            ContenderFailed: it answers anything else but 200.
        """
        try:
            response = self._send(body)
        except ConnectionError:
            # Servers close a connection that was idle for a few seconds: while others had their turn.
            self._connection.close()
            response = self._send(body)
        answer = response.read()
        if response.status != http.HTTPStatus.OK:
            said = f"{self._path} answers {response.status}: {answer[:300].decode(errors='replace')}"
            unavailable = response.status == http.HTTPStatus.SERVICE_UNAVAILABLE
            raise NotReady(said) if unavailable else ContenderFailed(said)
        return answer

    def _send(self, body: bytes) -> http.client.HTTPResponse:
        self._connection.request("POST", self._path, body, {"Content-Type": "application/json"})
        return self._connection.getresponse()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def first(self, body: bytes, process: Process) -> bytes:
        """Post until the server that `process` starts answers.

        Raises:
            ContenderFailed: it ends instead, answers with an error other than 503,
                or takes more than two minutes.
        """
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                return self.post(body)
            except (OSError, http.client.HTTPException, NotReady) as error:
                self._connection.close()
                if not process.running:
                    raise process.failure() from error
                if time.monotonic() > deadline:
                    raise ContenderFailed(f"no answer within {_START_SECONDS:.0f} s: {error}") from error
                time.sleep(_POLL_SECONDS)


def open_localhost(model: Path, work: Path, tweets: Sequence[str]) -> Door:
    """Start our functions under `localhost/`, on a store of their own into which it publishes `model`.

    Its cold start is the whole of that: storage emulator, publishing, host, first answer.
    """
    app, state = work / "app", work / "state"
    for folder in (app, state, PROGRAMS):
        folder.mkdir(parents=True, exist_ok=True)
    for name in ("function_app.py", "host.json", "local.settings.json.example"):
        if (PROJECT / name).exists():
            (app / name).symlink_to(PROJECT / name)
    (app / "seed-model").symlink_to(model, target_is_directory=True)
    (state / "programs").symlink_to(PROGRAMS, target_is_directory=True)
    port = free_port()
    return _open(
        DOOR,
        [
            *(sys.executable, "-m", "localhost", "--port", str(port)),
            *("--app", str(app), "--state", str(state)),
        ],
        port,
        "/api/predict",
        work,
        singles=[{"text": tweet} for tweet in tweets],
        batches=[
            {
                "documents": [
                    {"id": str(tweet), "text": tweets[tweet]} for tweet in range(start, start + BATCH)
                ]
            }
            for start in range(0, len(tweets) - BATCH + 1, BATCH)
        ],
        label=lambda answer: str(answer["label"]),
    )


def open_mlflow(model: Path, work: Path, tokens: dict[str, Any], labels: dict[str, str]) -> Door:
    """Start `mlflow models serve` on the model folder, with the tokens made beforehand."""
    port = free_port()

    def label(answer: Any) -> str:
        scores = answer["predictions"]["probabilities"][0]
        return labels[str(scores.index(max(scores)))]

    return _open(
        MLFLOW,
        [
            *(sys.executable, "-m", "mlflow", "models", "serve", "--model-uri", str(model)),
            *("--env-manager", "local", "--host", "127.0.0.1", "--port", str(port)),
        ],
        port,
        "/invocations",
        work,
        singles=[{"inputs": pad_together(feeds)} for feeds in tokens["singles"]],
        batches=[{"inputs": pad_together(feeds)} for feeds in tokens["batches"]],
        label=label,
    )


def pad_together(feeds: Sequence[dict[str, list[list[int]]]]) -> dict[str, list[list[int]]]:
    """Return the rows of all `feeds` as one, padded with 0 to the longest: one request for one batch."""
    width = max(len(row) for feed in feeds for rows in feed.values() for row in rows)
    return {
        name: [row + [0] * (width - len(row)) for feed in feeds for row in feed[name]] for name in feeds[0]
    }


def free_port() -> int:
    """Return a port on the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _open(
    name: str,
    command: Sequence[str],
    port: int,
    path: str,
    work: Path,
    *,
    singles: Sequence[Body],
    batches: Sequence[Body],
    label: Callable[[Any], str],
) -> Door:
    # What a client does before it sends and after it received is not the server's time.
    single_bodies, batch_bodies = (
        [json.dumps(body).encode() for body in bodies] for bodies in (singles, batches)
    )
    client = Client(port, path)
    answers = Answers(
        single=lambda tweet: client.post(single_bodies[tweet]),
        batch=lambda number: client.post(batch_bodies[number]),
        label=lambda answer: label(json.loads(answer)),
    )
    process = Process(command, work / f"{name}.log")
    try:
        first = answers.label(client.first(single_bodies[0], process))
        return Door(process, client, answers, first, process.elapsed())
    except BaseException:
        client.close()
        process.stop()
        raise
