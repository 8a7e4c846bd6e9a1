"""Work that requests leave behind and never wait for: one thread, started with the first of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from sentiment.errors import StoreUnavailable

logger = logging.getLogger(__name__)


class Background:
    """Calls `work` every `every` seconds, and once more when it is closed.

    The thread starts with the first `begin`. Storage that does not answer is
    told of once, not every time; `work` has to keep what it could not do.
    """

    def __init__(self, name: str, work: Callable[[], None], *, every: float) -> None:
        self._name = name
        self._work = work
        self._every = every
        self._lock = threading.Lock()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Have the work done from now on; costs nothing when that is so already."""
        if self._thread is not None:
            return
        with self._lock:
            if self._thread is None and not self._end.is_set():
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()

    def close(self, timeout: float = 5.0) -> None:
        """Do the work a last time and stop, waiting for it so many seconds; safe to call twice."""
        with self._lock:
            self._end.set()
            thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _run(self) -> None:
        lost = False
        ending = False
        while not ending:
            ending = self._end.wait(self._every)
            try:
                self._work()
            except StoreUnavailable as error:
                if not lost:
                    logger.warning("%s has to wait: %s (requests go on)", self._name, error)
                lost = True
            except Exception:  # a bug, or what was needed is closed: the thread must live on
                logger.exception("%s failed", self._name)
            else:
                if lost:
                    logger.info("%s goes on", self._name)
                lost = False
