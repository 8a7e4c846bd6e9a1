"""One published version is the champion: changed by one conditional write, its history never lost."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from azure.storage.blob import ContainerClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from localhost.azurite import Azurite
from sentiment.errors import InvalidModel, ModelConflict, ModelNotFound
from sentiment.manifest import ONNX, WEIGHTS, read_manifest
from sentiment.records import Champion
from sentiment.registry import CHAMPION, NO_CHAMPION, ModelRegistry
from tests.models import make_model_folder
from tests.wire import Exchange, ProcessDied, Wire

WHO = {"by": "test", "reason": "to see"}


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def container(azurite: Azurite, wire: Wire) -> Iterator[ContainerClient]:
    with wire.open(azurite) as container:
        yield container


@pytest.fixture
def registry(container: ContainerClient, tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(container, tmp_path / "cache")


@pytest.fixture
def one(tmp_path: Path) -> Path:
    return make_model_folder(tmp_path / "one", "tiny-1", "positive")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    return make_model_folder(tmp_path / "two", "tiny-2", "negative")


def _history_blobs(container: ContainerClient) -> dict[str, bytes]:
    names = container.list_blob_names(name_starts_with="history/")
    return {name: container.download_blob(name).readall() for name in names}


def test_there_is_no_champion_at_first(registry: ModelRegistry) -> None:
    with pytest.raises(ModelNotFound, match="promote") as caught:
        registry.champion()
    assert caught.value.version is None
    assert registry.history() == []


def test_promoting_moves_the_pointer_and_keeps_its_history(
    registry: ModelRegistry, container: ContainerClient, one: Path, two: Path
) -> None:
    for folder in (one, two):
        registry.publish(folder)
    first = registry.promote("tiny-1", by="me", reason="first")
    second = registry.promote("tiny-2", by="you", reason="better")
    assert (first.version, first.sha256, first.previous, first.number) == (
        "tiny-1",
        read_manifest(one)[1],
        None,
        1,
    )
    assert (second.version, second.previous, second.number) == ("tiny-2", "tiny-1", 2)
    assert (second.by, second.reason) == ("you", "better")
    assert first.promoted_at < second.promoted_at
    assert registry.champion().champion == second
    assert registry.history() == [second, first]
    stored = _history_blobs(container)
    assert {name: json.loads(raw)["version"] for name, raw in stored.items()} == {
        "history/1.json": "tiny-1",
        "history/2.json": "tiny-2",
    }
    assert stored["history/2.json"] == container.download_blob(CHAMPION).readall()


def test_promoting_the_champion_again_changes_nothing(registry: ModelRegistry, wire: Wire, one: Path) -> None:
    registry.publish(one)
    first = registry.promote("tiny-1", by="me", reason="first")
    wire.forget()
    assert registry.promote("tiny-1", by="me", reason="again") == first
    assert wire.of("PUT") == []


def test_only_what_is_there_and_whole_can_be_promoted(
    registry: ModelRegistry, container: ContainerClient, one: Path
) -> None:
    with pytest.raises(ModelNotFound, match="tiny-1"):
        registry.promote("tiny-1", **WHO)
    registry.publish(one)
    container.delete_blob(f"tiny-1/{WEIGHTS}")
    with pytest.raises(InvalidModel, match="publish this version again") as caught:
        registry.promote("tiny-1", **WHO)
    assert caught.value.file == WEIGHTS
    container.upload_blob(f"tiny-1/{WEIGHTS}", b"short")
    with pytest.raises(InvalidModel, match="instead of"):
        registry.promote("tiny-1", **WHO)
    container.delete_blob(f"tiny-1/{WEIGHTS}")
    registry.publish(one)
    assert registry.promote("tiny-1", **WHO).number == 1


@pytest.mark.parametrize("already", [False, True], ids=["first champion", "replacing"])
def test_a_crash_anywhere_in_promote_can_be_repeated(
    azurite: Azurite, wire: Wire, tmp_path: Path, one: Path, two: Path, already: bool
) -> None:
    """Old or new champion, never none; repeated, there is one entry per promotion and none is missing."""
    version = "tiny-2" if already else "tiny-1"
    expected = ["tiny-2", "tiny-1"] if already else ["tiny-1"]
    crashes = 0
    for number in range(1, 100):
        with wire.open(azurite) as container:
            registry = ModelRegistry(container, tmp_path / "cache")
            for folder in (one, two):
                registry.publish(folder)
            if already:
                registry.promote("tiny-1", **WHO)
            wire.forget()
            wire.die_after = number
            try:
                registry.promote(version, **WHO)
            except ProcessDied:
                crashes += 1
            else:
                break
            wire.forget()
            assert [record.version for record in registry.history()] in (expected, expected[1:]), number
            registry.promote(version, **WHO)
            assert [record.version for record in registry.history()] == expected, number
            assert [record.number for record in registry.history()] == list(range(len(expected), 0, -1))
            assert len(_history_blobs(container)) == len(expected), "the copies were completed"
    assert crashes > 4


@pytest.mark.parametrize("already", [False, True], ids=["first champion", "replacing"])
def test_a_lost_answer_anywhere_in_promote_goes_unnoticed(
    azurite: Azurite, wire: Wire, tmp_path: Path, one: Path, two: Path, already: bool
) -> None:
    """The SDK repeats the write and breaks its own condition: that is no conflict, and no second entry."""
    version = "tiny-2" if already else "tiny-1"
    number, exchanges = 0, 1
    while number < exchanges:
        number += 1
        with wire.open(azurite) as container:
            registry = ModelRegistry(container, tmp_path / "cache")
            for folder in (one, two):
                registry.publish(folder)
            if already:
                registry.promote("tiny-1", **WHO)
            wire.forget()
            wire.lose = number
            champion = registry.promote(version, **WHO)
            exchanges = len(wire.exchanges) - 1
            assert registry.champion().champion == champion
            assert [record.number for record in registry.history()] == list(range(1 + already, 0, -1))
    assert number > 4


def test_of_two_concurrent_promotions_one_wins(
    azurite: Azurite,
    registry: ModelRegistry,
    container: ContainerClient,
    one: Path,
    two: Path,
    tmp_path: Path,
) -> None:
    """Both have read the same pointer before either writes: the loser is told, history has the winner."""
    zero = make_model_folder(tmp_path / "zero", "tiny-0")
    for folder in (zero, one, two):
        registry.publish(folder)
    registry.promote("tiny-0", **WHO)
    both_have_read = threading.Barrier(2, timeout=20)

    def promote(version: str) -> Champion | ModelConflict:
        wire = Wire()
        with wire.open(azurite, container.container_name) as mine:
            read = Exchange("GET", CHAMPION, 206)
            waited = threading.Event()

            def wait_once(exchange: Exchange) -> None:
                if exchange == read and not waited.is_set():
                    waited.set()
                    both_have_read.wait()

            wire.on_exchange = wait_once
            try:
                return ModelRegistry(mine, tmp_path / "cache").promote(version, **WHO)
            except ModelConflict as conflict:
                return conflict

    with ThreadPoolExecutor(2) as threads:
        outcomes = list(threads.map(promote, ["tiny-1", "tiny-2"]))
    winners = [outcome for outcome in outcomes if isinstance(outcome, Champion)]
    assert len(winners) == 1, outcomes
    assert registry.history()[0] == winners[0]
    assert [record.number for record in registry.history()] == [2, 1]


def test_a_decision_made_on_an_old_pointer_is_refused(registry: ModelRegistry, one: Path, two: Path) -> None:
    for folder in (one, two):
        registry.publish(folder)
    registry.promote("tiny-1", **WHO, expected=NO_CHAMPION)
    with pytest.raises(ModelConflict) as caught:
        registry.promote("tiny-2", **WHO, expected=NO_CHAMPION)
    assert caught.value.version == "tiny-2"
    seen = registry.champion().etag
    registry.promote("tiny-2", **WHO, expected=seen)
    with pytest.raises(ModelConflict):
        registry.rollback(**WHO, expected=seen)
    # What was decided has happened already: a repeated call finds it done.
    assert registry.promote("tiny-2", **WHO, expected=seen).number == 2


def test_an_unchanged_pointer_costs_one_request(
    registry: ModelRegistry, wire: Wire, one: Path, two: Path
) -> None:
    for folder in (one, two):
        registry.publish(folder)
    registry.promote("tiny-1", **WHO)
    pointer = registry.champion()
    wire.forget()
    assert registry.champion_if_changed(pointer.etag) is None
    assert wire.exchanges == [("GET", CHAMPION, 304)]
    registry.promote("tiny-2", **WHO)
    changed = registry.champion_if_changed(pointer.etag)
    assert changed is not None
    assert changed == registry.champion()
    assert changed.champion.version == "tiny-2"


def test_a_pointer_that_was_removed_is_no_pointer(
    registry: ModelRegistry, container: ContainerClient, one: Path, two: Path
) -> None:
    """The numbers go on where history ends, so that no entry is ever lost."""
    for folder in (one, two):
        registry.publish(folder)
    registry.promote("tiny-1", **WHO)
    etag = registry.champion().etag
    container.delete_blob(CHAMPION)
    with pytest.raises(ModelNotFound):
        registry.champion_if_changed(etag)
    assert [record.version for record in registry.history()] == ["tiny-1"]
    assert registry.promote("tiny-2", **WHO).number == 2
    assert [record.version for record in registry.history()] == ["tiny-2", "tiny-1"]


@pytest.mark.parametrize("raw", [b"{", b"{}", b'{"version": 1}', b"\xff"])
def test_an_unreadable_pointer_is_named(
    registry: ModelRegistry, container: ContainerClient, raw: bytes
) -> None:
    container.upload_blob(CHAMPION, raw)
    for ask in (registry.champion, registry.history, lambda: registry.champion_if_changed('"0x1"')):
        with pytest.raises(InvalidModel) as caught:
            ask()
        assert caught.value.file == CHAMPION


def test_rolling_back_twice_goes_back_two_promotions(registry: ModelRegistry, tmp_path: Path) -> None:
    """It never returns to what was rolled back, and at the beginning there is nothing to go back to."""
    for version in ("tiny-1", "tiny-2", "tiny-3"):
        registry.publish(make_model_folder(tmp_path / version, version))
        registry.promote(version, **WHO)
    back = registry.rollback(by="me", reason="3 was bad")
    assert (back.version, back.previous, back.number, back.restores) == ("tiny-2", "tiny-3", 4, 2)
    assert (back.by, back.reason) == ("me", "3 was bad")
    assert registry.rollback(**WHO).version == "tiny-1"
    with pytest.raises(ModelNotFound, match="no champion before tiny-1") as caught:
        registry.rollback(**WHO)
    assert caught.value.version is None
    assert [record.version for record in registry.history()] == [
        "tiny-1",
        "tiny-2",
        "tiny-3",
        "tiny-2",
        "tiny-1",
    ]


def test_rolling_back_to_a_version_takes_any_former_champion(
    registry: ModelRegistry, container: ContainerClient, tmp_path: Path
) -> None:
    for version in ("tiny-1", "tiny-2", "tiny-3", "tiny-4"):
        registry.publish(make_model_folder(tmp_path / version, version))
    for version in ("tiny-1", "tiny-2", "tiny-3"):
        registry.promote(version, **WHO)
    assert registry.rollback(to="tiny-1", **WHO).version == "tiny-1"
    assert registry.rollback(to="tiny-3", **WHO).version == "tiny-3"
    for never in ("tiny-4", "tiny-9"):
        with pytest.raises(ModelNotFound, match=f"{never} was never champion"):
            registry.rollback(to=never, **WHO)
    container.delete_blob(f"tiny-2/{ONNX}")
    with pytest.raises(InvalidModel, match="is missing in the store"):
        registry.rollback(to="tiny-2", **WHO)
    assert registry.champion().champion.version == "tiny-3"


def test_a_roll_back_does_not_undo_a_promotion_it_has_not_seen(
    azurite: Azurite, wire: Wire, registry: ModelRegistry, container: ContainerClient, tmp_path: Path
) -> None:
    """Between its look at the champion and its write somebody promotes another: it stops."""
    for version in ("tiny-1", "tiny-2", "tiny-3"):
        registry.publish(make_model_folder(tmp_path / version, version))
    for version in ("tiny-1", "tiny-2"):
        registry.promote(version, **WHO)
    with Wire().open(azurite, container.container_name) as other:

        def promote_meanwhile(exchange: Exchange) -> None:
            if exchange.path == "history/1.json":
                wire.on_exchange = lambda exchange: None
                ModelRegistry(other, tmp_path / "cache").promote("tiny-3", **WHO)

        wire.on_exchange = promote_meanwhile
        with pytest.raises(ModelConflict):
            registry.rollback(**WHO)
    assert registry.champion().champion.version == "tiny-3"
    assert [record.number for record in registry.history()] == [3, 2, 1]


def test_there_is_nothing_to_roll_back_without_a_champion(registry: ModelRegistry) -> None:
    with pytest.raises(ModelNotFound):
        registry.rollback(**WHO)


VERSIONS = ("tiny-a", "tiny-b", "tiny-c")
MOVES = st.lists(
    st.tuples(st.sampled_from(["promote", "roll back to"]), st.sampled_from(VERSIONS))
    | st.just(("roll back", "")),
    max_size=7,
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(MOVES)
def test_any_sequence_of_moves_keeps_pointer_and_history_true(
    azurite: Azurite, tmp_path: Path, moves: list[tuple[str, str]]
) -> None:
    """Against a model of it: a promotion is stacked on what serves, rolling back takes it off again."""
    folders = {version: tmp_path / version for version in VERSIONS}
    for version, folder in folders.items():
        if not folder.exists():
            make_model_folder(folder, version)
    with Wire().open(azurite) as container:
        registry = ModelRegistry(container, tmp_path / "cache")
        for folder in folders.values():
            registry.publish(folder)
        #: The stack under each version when it last became champion.
        stacks: dict[str, list[str]] = {}
        stack: list[str] = []
        served: list[str] = []
        for move, version in moves:
            before = list(stack)
            try:
                if move == "promote":
                    champion = registry.promote(version, **WHO)
                    stack = stack if stack and stack[-1] == version else [*stack, version]
                elif move == "roll back":
                    champion = registry.rollback(**WHO)
                    stack = stack[:-1]
                else:
                    champion = registry.rollback(to=version, **WHO)
                    stack = stack if stack[-1] == version else list(stacks[version])
            except ModelNotFound:
                impossible = {
                    "promote": False,
                    "roll back": len(stack) < 2,
                    "roll back to": version not in served,
                }
                assert impossible[move], (move, version, served)
                continue
            assert champion.version == stack[-1]
            if not before or before[-1] != stack[-1]:
                served.append(stack[-1])
                stacks[stack[-1]] = list(stack)
                assert champion.previous == (before[-1] if before else None)
        history = registry.history()
        assert [record.version for record in reversed(history)] == served
        assert [record.number for record in reversed(history)] == list(range(1, len(served) + 1))
        if served:
            assert registry.champion().champion == history[0]
