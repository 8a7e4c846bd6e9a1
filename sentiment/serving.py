"""The champion in this process: loaded at the first request, replaced behind the requests' backs."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from sentiment.errors import InvalidModel, SentimentError, StoreUnavailable
from sentiment.manifest import METRICS, ONNX
from sentiment.records import Champion, Prediction
from sentiment.registry import ChampionPointer, ModelRegistry

logger = logging.getLogger(__name__)

#: What a model answers before anyone sees it: one text as short and one as long as tweets come.
WARM_UP = ("ok", "Can't believe how good this was 😍 thanks @user, see you all again tomorrow! http " * 3)

# Waiting requests share one attempt to load; the next attempt is this much later, in seconds.
_PAUSE = 1.0
_LONGEST_PAUSE = 600.0


class ClassifierLike(Protocol):
    """What serves: one `Prediction` for each text, in their order."""

    def predict(self, texts: Sequence[str]) -> list[Prediction]: ...


class Loaded(Struct, frozen=True, eq=False):
    """A champion that has answered; `metrics` is what its `metrics.json` says."""

    classifier: ClassifierLike
    champion: Champion
    metrics: dict[str, Any]
    loaded_at: datetime


class ModelLoaded(Struct, frozen=True):
    """A version serves now, `seconds` after it was first asked for; it replaced another, or none."""

    version: str
    sha256: str
    replaced: str | None
    seconds: float


class ModelRefused(Struct, frozen=True):
    """A champion could not be fetched, verified or warmed; `serving` goes on instead, if there is one."""

    version: str
    sha256: str
    reason: str
    serving: str | None


ModelEvent = ModelLoaded | ModelRefused


class _Refusal(Struct):
    """The champion that is not served, and why: how often it was tried, and when to try it again."""

    error: SentimentError
    tries: int
    again_at: float


class Serving:
    """Holds the champion for one process; safe to share between threads.

    One background thread, started by the first `current`, does all the work. It
    looks at the champion pointer every `refresh_seconds` (one conditional
    request), and prepares a new version until it has answered before it replaces
    the old one in one step; whoever holds the old one finishes on it.

    A platform may freeze the process between requests, and the thread with it.
    So a request that finds the last look too old wakes the thread; it never waits
    for it.
    """

    def __init__(
        self,
        registry: ModelRegistry,
        load: Callable[[Path], ClassifierLike],
        *,
        refresh_seconds: float,
        on_event: Callable[[ModelEvent], None] = lambda event: None,
    ) -> None:
        self._registry = registry
        self._load = load
        self._refresh_seconds = refresh_seconds
        self._pause = min(_PAUSE, refresh_seconds)
        self._on_event = on_event
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._thread: threading.Thread | None = None
        # While nothing is loaded, this is what the requests share: the attempt under way, or the last one.
        # It tells that the model is there, and does not hold it.
        self._attempt: Future[None] = Future()
        self._due = _Due(0.0)
        # From here on only the thread writes.
        self._loaded: Loaded | None = None
        self._pointer: ChampionPointer | None = None
        self._refusal: _Refusal | None = None
        self._lost = False

    def current(self) -> Loaded:
        """Return the champion; only the first call of all waits for it.

        Raises:
            ModelNotFound: no version has been promoted yet.
            InvalidModel: the champion is incomplete, altered, or does not answer.
            StoreUnavailable: storage does not answer.
        """
        loaded = self._loaded
        if loaded is None:
            return self._first()
        if self._due.passed():
            with self._lock:
                self._nudge()
        return loaded

    def close(self) -> None:
        """Stop refreshing; what is loaded still answers. Safe to call twice."""
        with self._lock:
            self._closed = True
            self._wake.set()
            thread = self._thread
        if thread is not None:
            thread.join(timeout=5.0)

    def _first(self) -> Loaded:
        """Wait for the attempt that is under way, or for a new one when the last is old enough."""
        with self._lock:
            if self._closed:
                raise StoreUnavailable("load the champion", "this process is ending")
            if self._attempt.done() and self._due.passed():
                self._attempt = Future()
            attempt = self._attempt
            if not attempt.done():
                self._nudge()
        error = attempt.exception()
        if error is not None:
            # One exception for many requests: each starts its traceback anew.
            raise error.with_traceback(None)
        assert self._loaded is not None
        return self._loaded

    def _nudge(self) -> None:
        """Have the thread look at the pointer now; the caller holds the lock."""
        if self._closed:
            return
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="model-refresh", daemon=True)
            self._thread.start()

    # --- in the background thread -------------------------------------------

    def _run(self) -> None:
        while True:
            # Without a model only a request is a reason to try again.
            self._wake.wait(self._due.seconds_left() if self._loaded else None)
            with self._lock:
                if self._closed:
                    return
                # While the thread is at it there is no need to wake it.
                self._due = _Due(_LONGEST_PAUSE)
                if self._attempt.done() and self._loaded is None:
                    self._attempt = Future()
            error: Exception | None
            try:
                error = self._look()
            except Exception as unexpected:  # a bug: requests must not wait for an answer that never comes
                logger.exception("the champion could not be refreshed (%s)", self._still())
                error = unexpected
            with self._lock:
                if not self._closed:
                    self._wake.clear()
                self._due = _Due(self._refresh_seconds if self._loaded else self._pause)
                if self._attempt.done():
                    continue
                if self._loaded is not None:
                    self._attempt.set_result(None)
                else:
                    self._attempt.set_exception(error or AssertionError("neither a model nor an error"))

    def _look(self) -> SentimentError | None:
        """Follow the pointer once; return why there is still no model that could have been there."""
        try:
            champion = self._follow()
        except SentimentError as error:
            if not self._lost:
                logger.warning("the champion is unknown: %s (%s)", error, self._still())
            self._lost = True
            return error
        if self._lost:
            logger.info("the champion is known again: %s", champion.version)
        self._lost = False
        loaded = self._loaded
        if loaded is not None and loaded.champion.sha256 == champion.sha256:
            if loaded.champion != champion:
                self._loaded = msgspec.structs.replace(loaded, champion=champion)
            return None
        if self._refusal is not None and time.monotonic() < self._refusal.again_at:
            return self._refusal.error
        return self._replace(champion)

    def _follow(self) -> Champion:
        changed = (
            self._registry.champion()
            if self._pointer is None
            else self._registry.champion_if_changed(self._pointer.etag)
        )
        if changed is not None:
            self._pointer = changed
            self._refusal = None
        assert self._pointer is not None
        return self._pointer.champion

    def _replace(self, champion: Champion) -> SentimentError | None:
        started = time.monotonic()
        replaced = self._loaded.champion.version if self._loaded else None
        try:
            self._loaded = self._prepare(champion)
        except SentimentError as error:
            self._refuse(champion, error)
            return error
        self._refusal = None
        seconds = time.monotonic() - started
        logger.info("serving %s after %.2f s, replacing %s", champion.version, seconds, replaced or "nothing")
        self._tell(
            ModelLoaded(version=champion.version, sha256=champion.sha256, replaced=replaced, seconds=seconds)
        )
        return None

    def _prepare(self, champion: Champion) -> Loaded:
        """Return the champion, fetched, verified and warmed; raises a `SentimentError` for whatever fails."""
        folder = self._registry.fetch(champion.version, champion.sha256)
        try:
            classifier = self._load(folder)
            predictions = classifier.predict(WARM_UP)
        except SentimentError:
            raise
        except Exception as error:  # whatever a runtime raises over a model: it is no model for us
            raise InvalidModel(champion.version, ONNX, f"does not answer: {error!r}") from error
        sums = [math.fsum(msgspec.structs.astuple(prediction.scores)) for prediction in predictions]
        if len(sums) != len(WARM_UP) or not all(abs(total - 1.0) < 0.01 for total in sums):
            raise InvalidModel(champion.version, ONNX, f"answers {predictions!r}, which are no probabilities")
        try:
            metrics = msgspec.json.decode((folder / METRICS).read_bytes(), type=dict[str, Any])
        except (OSError, ValueError) as error:
            raise InvalidModel(champion.version, METRICS, f"cannot be read: {error}") from error
        return Loaded(classifier=classifier, champion=champion, metrics=metrics, loaded_at=datetime.now(UTC))

    def _refuse(self, champion: Champion, error: SentimentError) -> None:
        before = self._refusal
        tries = before.tries + 1 if before else 1
        pause = min(
            (self._refresh_seconds if self._loaded else self._pause) * 2 ** (tries - 1), _LONGEST_PAUSE
        )
        if self._loaded is not None and not isinstance(error, StoreUnavailable):
            # It will not get better by itself, and another one serves: wait for the pointer to change.
            pause = math.inf
        _forget_frames(error)
        self._refusal = _Refusal(error=error, tries=tries, again_at=time.monotonic() + pause)
        if before is not None and type(before.error) is type(error):
            return
        logger.error("version %s is refused: %s (%s)", champion.version, error, self._still())
        self._tell(
            ModelRefused(
                version=champion.version,
                sha256=champion.sha256,
                reason=str(error),
                serving=self._loaded.champion.version if self._loaded else None,
            )
        )

    def _still(self) -> str:
        return f"still serving {self._loaded.champion.version}" if self._loaded else "nothing serves yet"

    def _tell(self, event: ModelEvent) -> None:
        try:
            self._on_event(event)
        except Exception:  # whoever listens must not stop the serving
            logger.exception("nobody could be told of %r", event)


class _Due:
    """A moment some seconds ahead, by whichever clock gets there first.

    The monotonic clock may stand still while the machine sleeps, the wall clock
    may be set back.
    """

    def __init__(self, seconds: float) -> None:
        self._monotonic = time.monotonic() + seconds
        self._wall = time.time() + seconds

    def seconds_left(self) -> float:
        return max(0.0, min(self._monotonic - time.monotonic(), self._wall - time.time()))

    def passed(self) -> bool:
        return self.seconds_left() == 0.0


def _forget_frames(error: BaseException | None) -> None:
    """Frames hold what they worked on: a refused model would stay in memory as long as its error."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__
