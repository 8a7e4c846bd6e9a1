"""A process serves the champion from its first request on, and follows it without a request noticing."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from localhost.azurite import Azurite
from sentiment import serving as serving_module
from sentiment.classifier import Classifier
from sentiment.errors import InvalidModel, ModelNotFound, SentimentError, StoreUnavailable
from sentiment.manifest import ONNX
from sentiment.records import Label
from sentiment.registry import CHAMPION
from sentiment.serving import ModelLoaded, ModelRefused
from tests.stage import NEVER, OFTEN, Stage, answered_by, load, until


@pytest.fixture
def stage(azurite: Azurite, tmp_path: Path) -> Iterator[Stage]:
    with Stage.open(azurite, tmp_path) as stage:
        yield stage


def _background_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "model-refresh"]


# --- the first request ------------------------------------------------------


def test_nothing_happens_before_the_first_request(stage: Stage) -> None:
    """No thread and no request: building it is free."""
    stage.promote("tiny-1")
    stage.wire.forget()
    stage.serve(OFTEN)
    assert stage.wire.exchanges == []
    assert _background_threads() == []


def test_the_first_request_is_answered_in_one_go(stage: Stage) -> None:
    stage.promote("tiny-1", "positive")
    loaded = stage.serve(NEVER).current()
    assert loaded.classifier.predict(["nothing it knows", "awful"])[0].label == "positive"
    assert loaded.champion == stage.registry.champion().champion
    assert loaded.metrics == {"validation": {"macro_recall": 0.5}}
    assert loaded.loaded_at.tzinfo is not None
    (event,) = stage.events
    assert isinstance(event, ModelLoaded)
    assert (event.version, event.replaced) == ("tiny-1", None)
    assert event.sha256 == loaded.champion.sha256
    assert 0 < event.seconds < 20


def test_concurrent_first_requests_share_one_load(stage: Stage) -> None:
    stage.promote("tiny-1")
    loads = []
    start = threading.Barrier(16, timeout=20)

    def counting(folder: Path) -> Classifier:
        loads.append(folder)
        return load(folder)

    serving = stage.serve(NEVER, counting)
    stage.wire.forget()

    def first(_: int) -> object:
        start.wait()
        return serving.current()

    with ThreadPoolExecutor(16) as threads:
        assert len(set(threads.map(first, range(16)))) == 1
    assert len(loads) == 1
    assert stage.looks() == 1


def _no_model(stage: Stage) -> None:
    pass


def _tampered(stage: Stage) -> None:
    stage.promote("tiny-1", "positive")
    stage.by_hand.delete_blob(f"tiny-1/{ONNX}")


def _cut_off(stage: Stage) -> None:
    stage.promote("tiny-1", "positive")
    stage.wire.cut = ""


FIRST_TROUBLES = [(_no_model, ModelNotFound), (_tampered, InvalidModel), (_cut_off, StoreUnavailable)]


@pytest.mark.parametrize(("trouble", "error"), FIRST_TROUBLES)
def test_a_first_load_that_fails_is_tried_again_by_a_later_request(
    stage: Stage, trouble: Callable[[Stage], None], error: type[SentimentError]
) -> None:
    """The caller sees what is wrong, every time, and an answer soon after it has been mended."""
    trouble(stage)
    serving = stage.serve(OFTEN)
    for _ in range(3):
        with pytest.raises(error):
            serving.current()
    stage.wire.cut = None
    if not (stage.folder / "tiny-1").exists():
        stage.promote("tiny-1", "positive")
    stage.registry.publish(stage.folder / "tiny-1")

    def answers() -> bool:
        try:
            return answered_by(serving) == "positive"
        except error:
            return False

    until(answers, "an answer")


@pytest.mark.parametrize(("trouble", "error"), FIRST_TROUBLES)
def test_failing_first_requests_do_not_hammer_storage(
    stage: Stage, trouble: Callable[[Stage], None], error: type[SentimentError]
) -> None:
    """Requests at the same time share an attempt, and so do those that follow within a second."""
    trouble(stage)
    stage.wire.forget()
    asked: list[str] = []
    stage.wire.on_exchange = lambda exchange: asked.append(exchange.path)
    serving = stage.serve(NEVER)
    start = threading.Barrier(8, timeout=20)

    def ask(_: int) -> bool:
        start.wait()
        for _ in range(5):
            with pytest.raises(error):
                serving.current()
        return True

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(8)))
    assert asked.count(CHAMPION) <= 1
    assert asked.count(f"tiny-1/{ONNX}") <= 1
    assert len([event for event in stage.events if isinstance(event, ModelRefused)]) == (trouble is _tampered)


def test_without_a_model_only_requests_are_a_reason_to_ask(
    stage: Stage, azurite: Azurite, tmp_path: Path
) -> None:
    """An idle process does not poll for a champion that may never come, however often others look."""
    serving = stage.serve(OFTEN)
    with pytest.raises(ModelNotFound):
        serving.current()
    stage.wire.forget()
    with Stage.open(azurite, tmp_path / "other") as other:
        other.promote("tiny-1")
        other.serve(OFTEN).current()
        other.await_looks(5)
    assert stage.wire.exchanges == []


# --- refreshing -------------------------------------------------------------


def test_a_new_champion_serves_without_being_asked_for(stage: Stage) -> None:
    stage.promote("tiny-1", "positive")
    serving = stage.serve(OFTEN)
    assert answered_by(serving) == "positive"
    stage.promote("tiny-2", "negative")
    until(lambda: answered_by(serving) == "negative", "the new champion serves")
    assert [event.version for event in stage.events] == ["tiny-1", "tiny-2"]
    assert serving.current().champion == stage.registry.champion().champion


def test_an_unchanged_champion_costs_one_request_per_period(stage: Stage) -> None:
    stage.promote("tiny-1")
    serving = stage.serve(OFTEN)
    first = serving.current()
    stage.wire.forget()
    stage.await_looks(5)
    assert set(stage.wire.exchanges) == {("GET", CHAMPION, 304)}
    assert serving.current() is first


def test_no_request_fails_or_mixes_models_while_champions_change(stage: Stage) -> None:
    """Eight threads ask all the time; each answer is that of the version it came with."""
    biases: dict[str, Label] = {"tiny-1": "positive", "tiny-2": "negative", "tiny-3": "neutral"}
    for version, bias in biases.items():
        stage.publish(version, bias)
    stage.promote("tiny-1")
    serving = stage.serve(OFTEN)
    stop = threading.Event()

    def ask(_: int) -> set[str]:
        seen = set()
        while not stop.is_set():
            loaded = serving.current()
            (prediction,) = loaded.classifier.predict(["nothing it knows"])
            assert prediction.label == biases[loaded.champion.version]
            seen.add(loaded.champion.version)
            stop.wait(0.001)
        return seen

    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(ask, number) for number in range(8)]
        try:
            for version in ("tiny-2", "tiny-3", "tiny-1", "tiny-2"):
                stage.promote(version)
                until(lambda version=version: serving.current().champion.version == version, version)  # type: ignore[misc]
        finally:
            stop.set()
        for answers in asked:
            assert answers.result() <= set(biases)


def test_a_request_in_flight_finishes_on_the_model_it_began_with(stage: Stage) -> None:
    stage.promote("tiny-1", "positive")
    serving = stage.serve(OFTEN)
    in_flight = serving.current()
    stage.promote("tiny-2", "negative")
    until(lambda: answered_by(serving) == "negative", "the new champion serves")
    assert in_flight.classifier.predict(["nothing it knows"])[0].label == "positive"
    assert in_flight.champion.version == "tiny-1"
    # Once nobody holds it, its memory is free.
    gone = weakref.ref(in_flight.classifier)
    del in_flight
    gc.collect()
    assert gone() is None


def test_requests_do_not_wait_for_a_new_version(stage: Stage) -> None:
    """It is still being loaded, for as long as this test likes: the old one answers."""
    stage.promote("tiny-1", "positive")
    loading, go_on = threading.Event(), threading.Event()

    def slow(folder: Path) -> Classifier:
        if stage.events:
            loading.set()
            assert go_on.wait(20)
        return load(folder)

    serving = stage.serve(OFTEN, slow)
    assert answered_by(serving) == "positive"
    stage.promote("tiny-2", "negative")
    assert loading.wait(20)
    for _ in range(100):
        assert answered_by(serving) == "positive"
    go_on.set()
    until(lambda: answered_by(serving) == "negative", "the new champion serves")


def test_a_process_that_was_frozen_looks_at_its_next_request(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its thread's timer has not run meanwhile; the wall clock has. The request itself does not wait."""
    stage.promote("tiny-1", "positive")
    serving = stage.serve(NEVER)
    assert answered_by(serving) == "positive"
    stage.promote("tiny-2", "negative")
    assert answered_by(serving) == "positive", "an hour has not passed"
    later = SimpleNamespace(monotonic=time.monotonic, time=lambda: time.time() + 2 * NEVER)
    monkeypatch.setattr(serving_module, "time", later)
    assert answered_by(serving) == "positive", "answered at once by what is there"
    until(lambda: answered_by(serving) == "negative", "the new champion serves")


# --- the end ----------------------------------------------------------------


def test_closing_ends_the_thread_and_not_the_answers(stage: Stage) -> None:
    stage.promote("tiny-1", "positive")
    serving = stage.serve(OFTEN)
    assert answered_by(serving) == "positive"
    assert _background_threads() != []
    serving.close()
    serving.close()
    assert _background_threads() == []
    stage.wire.forget()
    assert answered_by(serving) == "positive"
    assert stage.wire.exchanges == []


def test_a_closed_serving_loads_nothing_any_more(stage: Stage) -> None:
    stage.promote("tiny-1")
    serving = stage.serve(OFTEN)
    serving.close()
    with pytest.raises(StoreUnavailable, match="ending"):
        serving.current()
    assert _background_threads() == []
