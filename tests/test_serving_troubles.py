"""Whatever goes wrong behind the requests, the last good model answers them, and somebody is told once."""

from __future__ import annotations

import gc
import logging
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from localhost.azurite import Azurite
from sentiment.manifest import ONNX
from sentiment.records import Prediction, Scores
from sentiment.registry import CHAMPION
from sentiment.serving import ClassifierLike, ModelEvent, ModelLoaded, ModelRefused, Serving
from tests.models import make_model_folder, seal
from tests.stage import OFTEN, WHO, Stage, answered_by, load, until


@pytest.fixture
def stage(azurite: Azurite, tmp_path: Path) -> Iterator[Stage]:
    with Stage.open(azurite, tmp_path) as stage:
        yield stage


class Odd:
    """A classifier that answers something of the test's choosing."""

    def __init__(self, answer: Callable[[Sequence[str]], list[Prediction]]) -> None:
        self._answer = answer

    def predict(self, texts: Sequence[str]) -> list[Prediction]:
        return self._answer(texts)


def _raises(texts: Sequence[str]) -> list[Prediction]:
    raise RuntimeError("the runtime gives up")


def _not_a_number(texts: Sequence[str]) -> list[Prediction]:
    return [Prediction("neutral", Scores(float("nan"), 0.5, 0.5), False) for _ in texts]


def _too_few(texts: Sequence[str]) -> list[Prediction]:
    return [Prediction("neutral", Scores(0.0, 1.0, 0.0), False)]


def _lose_the_graph(stage: Stage) -> None:
    stage.by_hand.delete_blob(f"bad/{ONNX}")


def _alter_the_graph(stage: Stage) -> None:
    graph = (stage.folder / "bad" / ONNX).read_bytes()
    stage.by_hand.upload_blob(f"bad/{ONNX}", graph[:-1] + b"?", overwrite=True)


BAD_VERSIONS: dict[
    str, tuple[Callable[[Stage], None] | None, Callable[[Path], ClassifierLike] | None, str]
] = {
    "a blob is missing": (_lose_the_graph, None, "is missing in the store"),
    "a blob is altered": (_alter_the_graph, None, "was altered"),
    "it raises": (None, lambda folder: Odd(_raises), "the runtime gives up"),
    "it answers no numbers": (None, lambda folder: Odd(_not_a_number), "no probabilities"),
    "it answers too little": (None, lambda folder: Odd(_too_few), "no probabilities"),
}


@pytest.mark.parametrize("what", BAD_VERSIONS)
def test_a_bad_version_leaves_the_good_one_serving_and_is_reported_once(
    stage: Stage, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    """By name and reason, in the log and to the listener; the next good version serves."""
    caplog.set_level(logging.INFO, "sentiment")
    damage, odd, reason = BAD_VERSIONS[what]

    def load_it(folder: Path) -> ClassifierLike:
        classifier = load(folder)
        return odd(folder) if odd is not None and classifier.version == "bad" else classifier

    stage.promote("good-1", "positive")
    serving = stage.serve(OFTEN, load_it)
    assert answered_by(serving) == "positive"
    stage.publish("bad", "negative")
    # Damaged once it is champion: the registry does not promote what it can see is incomplete.
    stage.wire.cut = "bad/onnx"
    stage.registry.promote("bad", **WHO)
    if damage is not None:
        damage(stage)
    stage.wire.cut = None
    until(lambda: any(reason in getattr(event, "reason", "") for event in stage.events), "it is refused")
    fetched = stage.wire.of("GET").count(f"bad/{ONNX}")
    stage.await_looks(5)
    assert answered_by(serving) == "positive"
    refusals = [event for event in stage.events if isinstance(event, ModelRefused)]
    assert {(event.version, event.serving) for event in refusals} == {("bad", "good-1")}
    assert len([event for event in refusals if reason in event.reason]) == 1
    assert stage.wire.of("GET").count(f"bad/{ONNX}") == fetched, "it is not fetched again and again"
    logged = [record.getMessage() for record in caplog.records if reason in record.getMessage()]
    assert len(logged) == 1
    assert "version bad is refused" in logged[0]
    assert "still serving good-1" in logged[0]
    stage.promote("good-2", "negative")
    until(lambda: answered_by(serving) == "negative", "the next good version serves")


def test_a_graph_that_no_runtime_loads_is_refused(stage: Stage) -> None:
    """Its bytes are what the manifest says, and yet no model."""
    stage.promote("good")
    serving = stage.serve(OFTEN)
    serving.current()
    folder = make_model_folder(stage.folder / "bad", "bad")
    (folder / ONNX).write_bytes(b"no graph at all")
    stage.registry.publish(seal(folder, "bad"))
    stage.promote("bad")
    until(lambda: isinstance(stage.events[-1], ModelRefused), "it is refused")
    assert serving.current().champion.version == "good"


def test_rolling_back_to_what_serves_loads_nothing(stage: Stage) -> None:
    """The bad version was never taken up: only the record of why this one is champion changes."""
    stage.promote("good", "positive")
    serving = stage.serve(OFTEN)
    first = serving.current()
    folder = make_model_folder(stage.folder / "bad", "bad")
    (folder / ONNX).write_bytes(b"no graph at all")
    stage.registry.publish(seal(folder, "bad"))
    stage.promote("bad")
    until(lambda: isinstance(stage.events[-1], ModelRefused), "it is refused")
    stage.registry.rollback(by="me", reason="bad was bad")
    until(lambda: serving.current().champion.number == 3, "the record of the roll-back")
    assert serving.current().champion.reason == "bad was bad"
    assert serving.current().classifier is first.classifier
    assert [type(event) for event in stage.events] == [ModelLoaded, ModelRefused]


def test_what_was_refused_does_not_stay_in_memory(stage: Stage) -> None:
    """The error is kept for later, the model that caused it is not."""
    stage.promote("good")
    refused: list[weakref.ref[Odd]] = []

    def load_it(folder: Path) -> ClassifierLike:
        classifier = load(folder)
        if classifier.version == "good":
            return classifier
        odd = Odd(_raises)
        refused.append(weakref.ref(odd))
        return odd

    serving = stage.serve(OFTEN, load_it)
    serving.current()
    stage.promote("bad")
    until(lambda: isinstance(stage.events[-1], ModelRefused), "it is refused")
    stage.await_looks(2)
    gc.collect()
    assert [reference() for reference in refused] == [None]


def test_without_storage_the_last_model_goes_on_serving(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once when it goes, once when it is back, and then the new champion serves."""
    caplog.set_level(logging.INFO, "sentiment")
    stage.promote("tiny-1", "positive")
    serving = stage.serve(OFTEN)
    assert answered_by(serving) == "positive"
    stage.publish("tiny-2", "negative")

    def messages(part: str) -> list[str]:
        return [record.getMessage() for record in caplog.records if part in record.getMessage()]

    stage.wire.cut = ""
    until(lambda: messages("champion is unknown") != [], "the outage is reported")
    deadline = time.monotonic() + OFTEN * 10
    while time.monotonic() < deadline:
        assert answered_by(serving) == "positive"
    assert len(messages("champion is unknown")) == 1
    assert "still serving tiny-1" in messages("champion is unknown")[0]
    stage.wire.cut = None
    stage.promote("tiny-2")
    until(lambda: answered_by(serving) == "negative", "the new champion serves")
    assert len(messages("champion is known again")) == 1
    assert [type(event) for event in stage.events] == [ModelLoaded, ModelLoaded]


def test_a_version_that_storage_does_not_hand_over_is_tried_again(stage: Stage) -> None:
    """The failure passes and the pointer does not change: it serves in the end, reported once meanwhile."""
    stage.promote("tiny-1", "positive")
    serving = stage.serve(OFTEN)
    assert answered_by(serving) == "positive"
    stage.publish("tiny-2", "negative")
    stage.wire.cut = f"tiny-2/{ONNX}"
    stage.promote("tiny-2")
    until(lambda: isinstance(stage.events[-1], ModelRefused), "it is refused")
    stage.await_looks(10)
    assert answered_by(serving) == "positive"
    stage.wire.cut = None
    until(lambda: answered_by(serving) == "negative", "it serves after all")
    assert [type(event) for event in stage.events] == [ModelLoaded, ModelRefused, ModelLoaded]


def test_a_pointer_that_disappears_changes_nothing(stage: Stage) -> None:
    stage.promote("tiny-1", "positive")
    serving = stage.serve(OFTEN)
    assert answered_by(serving) == "positive"
    stage.by_hand.delete_blob(CHAMPION)
    stage.await_looks(3)
    assert answered_by(serving) == "positive"


def test_a_listener_that_fails_does_not_stop_the_serving(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.promote("tiny-1", "positive")

    def fail(event: ModelEvent) -> None:
        raise RuntimeError("nobody home")

    serving = Serving(stage.registry, load, refresh_seconds=OFTEN, on_event=fail)
    stage.servings.append(serving)
    assert answered_by(serving) == "positive"
    stage.promote("tiny-2", "negative")
    until(lambda: answered_by(serving) == "negative", "the new champion serves")
    assert "nobody home" in caplog.text
