"""A store, what is published there, and what serves it: the setting of the tests of serving."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from azure.storage.blob import ContainerClient

from localhost.azurite import Azurite
from sentiment.classifier import Classifier
from sentiment.records import Label
from sentiment.registry import CHAMPION, ModelRegistry
from sentiment.serving import ClassifierLike, ModelEvent, Serving
from tests.models import make_model_folder
from tests.wire import Wire

WHO = {"by": "test", "reason": "to see"}

#: Seconds between two looks at the champion pointer.
OFTEN = 0.02
NEVER = 3600.0


def load(folder: Path) -> Classifier:
    return Classifier.load(folder, threads=1)


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for `condition`, for 20 s at most; `what` says what never came."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, f"20 s have passed, and still not: {what}"
        time.sleep(0.005)


class Stage:
    """A store with its registry, the models in it, and the servings started on it."""

    def __init__(
        self, container: ContainerClient, by_hand: ContainerClient, wire: Wire, folder: Path
    ) -> None:
        #: The same container past `wire`: for what a person does to the store.
        self.by_hand = by_hand
        self.wire = wire
        self.folder = folder
        self.registry = ModelRegistry(container, folder / "cache")
        self.events: list[ModelEvent] = []
        self.servings: list[Serving] = []

    @classmethod
    @contextmanager
    def open(cls, azurite: Azurite, folder: Path) -> Iterator[Stage]:
        """Set up a store of its own, and clear away what was started on it."""
        wire = Wire()
        with wire.open(azurite) as container, Wire().open(azurite, container.container_name) as by_hand:
            stage = cls(container, by_hand, wire, folder)
            try:
                yield stage
            finally:
                wire.cut = None
                for serving in stage.servings:
                    serving.close()

    def publish(self, version: str, bias: Label = "neutral") -> str:
        return self.registry.publish(make_model_folder(self.folder / version, version, bias))

    def promote(self, version: str, bias: Label = "neutral") -> None:
        if not (self.folder / version).exists():
            self.publish(version, bias)
        self.registry.promote(version, **WHO)

    def serve(self, refresh_seconds: float, load: Callable[[Path], ClassifierLike] = load) -> Serving:
        serving = Serving(self.registry, load, refresh_seconds=refresh_seconds, on_event=self.events.append)
        self.servings.append(serving)
        return serving

    def looks(self) -> int:
        """How often the pointer has been looked at."""
        return self.wire.of("GET").count(CHAMPION)

    def await_looks(self, more: int) -> None:
        wanted = self.looks() + more
        until(lambda: self.looks() >= wanted, f"{more} more looks at the pointer")


def answered_by(serving: Serving) -> str:
    """Return the bias of the model that serves: its label for a text without a word it knows."""
    return serving.current().classifier.predict(["nothing it knows"])[0].label
