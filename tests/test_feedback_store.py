"""The correction store, the quarantine and the queue on real storage: once, whole, and erasable."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from azure.data.tables import TableClient
from azure.storage.queue import QueueClient
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from localhost.azurite import Azurite
from sentiment.errors import CorrectionNotFound, InvalidMessage, StoreUnavailable
from sentiment.feedback.messages import Pseudonyms
from sentiment.feedback.quarantine import Quarantine
from sentiment.feedback.queue import MessageQueue, Queued
from sentiment.feedback.store import CorrectionStore
from sentiment.feedback.tables import Table
from sentiment.records import CorrectionMessage, Label
from tests.wire import ProcessDied, Wire

PSEUDONYMS = Pseudonyms("a-key-for-pseudonyms")
NOW = datetime(2025, 6, 1, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)


def _message(
    id: str = "one", *, user: str | None = "anna", corrected: Label = "negative"
) -> CorrectionMessage:
    return CorrectionMessage(
        schema=1,
        id=id,
        text=f"@somebody hates {id} https://x.y",
        predicted="positive",
        corrected=corrected,
        model_version="v1",
        source="test",
        user=user,
        created_at=NOW,
        confidence=0.5,
        comment="ask @carl",
    )


class Setting:
    """A table of its own, the store in it, and what passes between the two."""

    def __init__(self, azurite: Azurite) -> None:
        self.wire = Wire()
        self.name = f"t{uuid.uuid4().hex}"
        self.client = self.wire.open_table(azurite, self.name)
        self.by_hand = TableClient.from_connection_string(azurite.connection_string, self.name)
        self.store = CorrectionStore(Table(self.client), PSEUDONYMS)

    def rows(self) -> list[str]:
        """The rows there are, without the shards."""
        return sorted(row["RowKey"] for row in self.by_hand.list_entities())

    def text(self) -> str:
        """Everything that is stored, as text."""
        return json.dumps([dict(row) for row in self.by_hand.list_entities()], default=str)


@pytest.fixture
def setting(azurite: Azurite) -> Iterator[Setting]:
    setting = Setting(azurite)
    with setting.client, setting.by_hand:
        yield setting


ANNA = PSEUDONYMS.of("anna")
ROWS = ["c|one", "p|one", f"u|{ANNA}|one"]


def test_a_correction_is_stored_once(setting: Setting) -> None:
    """All its rows at once, into a table that was not there; and nobody is named."""
    assert setting.store.add(_message(), now=NOW)
    assert not setting.store.add(_message(corrected="neutral"), now=LATER)
    assert setting.rows() == ROWS
    stored = setting.store.get("one")
    assert (stored.text, stored.corrected, stored.user) == ("@user hates one http", "negative", ANNA)
    assert (stored.comment, stored.confidence) == ("ask @user", 0.5)
    for name in ("anna", "carl", "somebody", "x.y"):
        assert name not in setting.text()
    for id in ("other", "a|b", "", "é", "x" * 2000, "one\n"):
        with pytest.raises(CorrectionNotFound):
            setting.store.get(id)


def test_a_confirmation_is_stored_and_not_pending(setting: Setting) -> None:
    """It is heard all the same."""
    setting.store.add(_message("right", corrected="positive", user=None), now=NOW)
    setting.store.add(_message("wrong", user=None), now=NOW)
    assert setting.rows() == ["c|right", "c|wrong", "p|wrong", "r|right"]
    assert setting.store.count_pending() == 1
    assert sorted(voice.id for voice in setting.store.voices()) == ["right", "wrong"]


def test_counting_stops_at_the_threshold(setting: Setting) -> None:
    """No more is listed than is asked for."""
    for number in range(20):
        setting.store.add(_message(f"id{number}", user=None), now=NOW)
    setting.wire.forget()
    assert setting.store.count_pending() == 20
    pages = len(setting.wire.exchanges)
    setting.wire.forget()
    assert setting.store.count_pending(stop_at=2) == 2
    assert len(setting.wire.exchanges) < pages == 16


def test_what_was_learned_is_pending_no_more(setting: Setting) -> None:
    """In one transaction, and once."""
    setting.store.add(_message(), now=NOW)
    assert setting.store.learn("one", 3)
    assert not setting.store.learn("one", 4)
    assert setting.rows() == ["c|one", "l|one", f"u|{ANNA}|one"]
    assert setting.store.get("one").cycle == 3


def test_what_was_learned_goes_on_being_heard(setting: Setting) -> None:
    """With all that judging takes, as learned, and without its text; until its user is erased."""
    setting.store.add(_message(), now=NOW)
    setting.store.add(_message("right", corrected="positive", user=None), now=NOW)
    before = {voice.id: voice for voice in setting.store.voices()}
    assert not any(voice.learned for voice in before.values())
    for id in before:
        setting.store.learn(id, 3)
    after = {voice.id: voice for voice in setting.store.voices()}
    assert after == {id: replace(voice, learned=True) for id, voice in before.items()}
    assert "hates" not in str([dict(row) for row in setting.by_hand.query_entities("RowKey eq 'l|one'")])
    setting.store.erase_user(ANNA, now=LATER)
    assert [voice.id for voice in setting.store.voices()] == ["right"]
    assert setting.store.erase_before(LATER, now=LATER) == 1
    assert list(setting.store.voices()) == []


@pytest.mark.parametrize("act", ["unlearn", "erase"])
def test_what_an_older_version_has_learned_can_be_undone(setting: Setting, act: str) -> None:
    """It left no row for the voice."""
    setting.store.add(_message(), now=NOW)
    setting.store.learn("one", 3)
    (row,) = setting.by_hand.query_entities("RowKey eq 'l|one'")
    setting.by_hand.delete_entity(row["PartitionKey"], row["RowKey"])
    if act == "unlearn":
        assert setting.store.unlearn("one", 3)
        assert setting.rows() == ROWS
    else:
        assert [one.id for one in setting.store.erase_user(ANNA, now=LATER)] == ["one"]
        assert setting.rows() == ["c|one", f"x|{ANNA}"]


def test_what_was_learned_in_vain_waits_again(setting: Setting) -> None:
    """For the cycle that learned it, once, as it had waited before; an erased one stays erased."""
    setting.store.add(_message(), now=NOW)
    setting.store.add(_message("right", corrected="positive", user=None), now=NOW)
    before = [dict(row) for row in setting.by_hand.list_entities()]
    for id in ("one", "right"):
        setting.store.learn(id, 3)
        assert not setting.store.unlearn(id, 4)
        assert setting.store.unlearn(id, 3)
        assert not setting.store.unlearn(id, 3)
    assert [dict(row) for row in setting.by_hand.list_entities()] == before
    assert setting.store.learn("one", 5)
    setting.store.erase_user(ANNA, now=LATER)
    assert not setting.store.unlearn("one", 5)
    with pytest.raises(CorrectionNotFound):
        setting.store.unlearn("nobody", 5)


def test_a_storm_of_deliveries_stores_each_once(azurite: Azurite, setting: Setting) -> None:
    """Each message three times, shuffled, to four instances at once."""
    ids = [f"id{number}" for number in range(12)] * 3
    random.Random(7).shuffle(ids)

    def deliver(id: str) -> bool:
        with TableClient.from_connection_string(azurite.connection_string, setting.name) as client:
            return CorrectionStore(Table(client), PSEUDONYMS).add(_message(id), now=NOW)

    with ThreadPoolExecutor(4) as instances:
        assert sum(instances.map(deliver, ids)) == 12
    assert len(setting.rows()) == 36


OPERATIONS: dict[str, Callable[[CorrectionStore], Any]] = {
    "add": lambda store: store.add(_message(), now=NOW),
    "learn": lambda store: store.learn("one", 1),
    "unlearn": lambda store: store.unlearn("one", 1),
    "erase": lambda store: store.erase_user(ANNA, now=LATER),
    "late": lambda store: store.add(_message("late"), now=LATER),
    "erase what was learned": lambda store: store.erase_user(ANNA, now=LATER),
}
AFTERWARDS = {
    "add": ROWS,
    "learn": ["c|one", "l|one", f"u|{ANNA}|one"],
    "unlearn": ROWS,
    "erase": ["c|one", f"x|{ANNA}"],
    "late": ["c|late", f"x|{ANNA}"],
    "erase what was learned": ["c|one", f"x|{ANNA}"],
}


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("dies", [True, False], ids=["process dies", "answer lost"])
def test_a_crash_after_any_storage_call_loses_nothing(setting: Setting, operation: str, dies: bool) -> None:
    """Delivered again, everything is as if nothing had happened."""
    if operation in ("learn", "unlearn", "erase", "erase what was learned"):
        setting.store.add(_message(), now=NOW)
    if operation in ("unlearn", "erase what was learned"):
        setting.store.learn("one", 1)
    if operation == "late":
        setting.store.erase_user(ANNA, now=LATER)
    before = (
        {row["RowKey"]: dict(row) for row in setting.by_hand.list_entities()} if operation != "add" else {}
    )
    for number in range(1, 40):
        for row in list(setting.by_hand.list_entities()) if operation != "add" or number > 1 else []:
            setting.by_hand.delete_entity(row["PartitionKey"], row["RowKey"])
        for row in before.values():
            setting.by_hand.upsert_entity(row)
        setting.wire.forget()
        if dies:
            setting.wire.die_after = number
        else:
            setting.wire.lose = number
        try:
            OPERATIONS[operation](setting.store)
        except (ProcessDied, StoreUnavailable):
            crashed = True
        else:
            crashed = False
        reached = len(setting.wire.exchanges) >= number
        setting.wire.forget()
        OPERATIONS[operation](setting.store)
        assert setting.rows() == AFTERWARDS[operation], f"after a crash at call {number}"
        if not reached:
            assert not crashed
            break
    else:
        pytest.fail("it never came to its end")


def test_who_is_erased_leaves_tombstones(setting: Setting) -> None:
    """Redelivery of what was stored, and of what never was, stays out; what is said later does not."""
    setting.store.add(_message("one"), now=NOW)
    setting.store.add(_message("two"), now=NOW)
    setting.store.learn("two", 5)
    setting.store.add(_message("bobs", user="bob"), now=NOW)
    erased = setting.store.erase_user(ANNA, now=LATER)
    assert sorted((one.id, one.cycle) for one in erased) == [("one", None), ("two", 5)]
    assert setting.store.erase_user(ANNA, now=LATER) == []
    for id in ("one", "late"):
        assert not setting.store.add(_message(id), now=LATER)
        assert setting.store.get(id).erased_at is not None
    assert "hates one" not in setting.text()
    assert "hates late" not in setting.text()
    assert "hates bobs" in setting.text()
    again = CorrectionMessage(**{**_as_members(_message("again")), "created_at": LATER + timedelta(hours=1)})
    assert setting.store.add(again, now=LATER + timedelta(hours=2))
    # A producer's clock that runs ahead does not let a queued message back in.
    queued = CorrectionMessage(**{**_as_members(_message("ahead")), "created_at": LATER + timedelta(days=9)})
    assert not setting.store.add(queued, now=LATER + timedelta(hours=2), queued_at=NOW)


def _as_members(message: CorrectionMessage) -> dict[str, Any]:
    return {name: getattr(message, name) for name in message.__struct_fields__}


def test_an_erasure_in_the_middle_of_storing_wins(setting: Setting) -> None:
    """Wherever it falls between two storage calls."""
    for number in range(1, 6):
        id = f"id{number}"
        store = setting.store

        def erase_now(exchange: object, number: int = number) -> None:
            if len(setting.wire.exchanges) == number:
                setting.wire.on_exchange = lambda _: None
                other = CorrectionStore(Table(setting.by_hand), PSEUDONYMS)
                other.erase_user(ANNA, now=LATER)

        for row in list(setting.by_hand.list_entities()) if number > 1 else []:
            setting.by_hand.delete_entity(row["PartitionKey"], row["RowKey"])
        setting.wire.forget()
        setting.wire.on_exchange = erase_now
        store.add(_message(id), now=LATER)
        setting.wire.on_exchange = lambda _: None
        if f"x|{ANNA}" in setting.rows():
            assert f"hates {id}" not in setting.text(), f"erased after call {number}"


def test_retention_erases_what_is_old(setting: Setting) -> None:
    """By when it was stored, not by what a producer says."""
    setting.store.add(_message("old"), now=NOW)
    setting.store.add(_message("new", user=None), now=LATER)
    assert setting.store.erase_before(LATER, now=LATER) == 1
    assert setting.store.erase_before(LATER, now=LATER) == 0
    assert setting.rows() == ["c|new", "c|old", "p|new"]


def test_storage_that_does_not_answer_is_said_so(setting: Setting) -> None:
    """The platform then delivers the message again."""
    setting.wire.cut = ""
    for operation in OPERATIONS.values():
        with pytest.raises(StoreUnavailable):
            operation(setting.store)
    with pytest.raises(StoreUnavailable):
        setting.store.count_pending()


REFUSAL = InvalidMessage("not-json", "The body is not JSON")


def test_the_quarantine_keeps_each_body_once_and_whole(setting: Setting) -> None:
    """However large, whatever it is."""
    quarantine = Quarantine(Table(setting.client), PSEUDONYMS)
    bodies = [
        b"",
        b"\xff\x00",
        b"x" * 60_000,
        "\U0001f600".encode() * 12_000,
        b'{"user": "anna", "text": "hi"}',
    ]
    for body in bodies + bodies:
        quarantine.add(body, REFUSAL, now=NOW)
    kept = {one.body: one for one in quarantine.all()}
    assert len(kept) == 5
    assert {"x" * 60_000, "\U0001f600" * 12_000, ""} <= kept.keys()
    assert quarantine.erase_user(ANNA) == 1
    assert quarantine.erase_before(NOW) == 0
    assert quarantine.erase_before(LATER) == 4
    assert list(quarantine.all()) == []


def test_a_sweep_sees_every_message_and_gives_back_what_it_keeps(azurite: Azurite) -> None:
    """Past the first page, into a queue that was not there; also what is no base64."""
    with QueueClient.from_connection_string(azurite.connection_string, f"q{uuid.uuid4().hex}") as client:
        queue = MessageQueue(client)
        assert queue.sweep(lambda message: "delete") == 0
        for number in range(40):
            queue.send(f"message {number}")
        queue.put("no base64!")
        seen: list[bytes] = []

        def decide(message: Queued) -> Any:
            seen.append(message.body)
            return "delete" if message.body.endswith(b"7") else "keep"

        assert queue.sweep(decide) == 4
        assert len(seen) == 41
        assert b"no base64!" in seen
        seen.clear()
        queue.sweep(decide)
        assert len(seen) == 37


_steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"),
            st.sampled_from("abcd"),
            st.sampled_from([None, "anna", "bob"]),
            st.sampled_from(["negative", "positive"]),
        ),
        st.tuples(st.sampled_from(["learn", "unlearn"]), st.sampled_from("abcd")),
        st.tuples(st.just("erase"), st.sampled_from(["anna", "bob"])),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None)
@given(_steps)
def test_whatever_happens_the_rows_say_what_was_done(azurite: Azurite, steps: list[Any]) -> None:
    """In any order of deliveries, cycles and erasures, against a model of what should be there."""
    model: dict[str, tuple[str, str | None, str]] = {}
    erased: set[str] = set()
    setting = Setting(azurite)
    with setting.client, setting.by_hand:
        setting.by_hand.create_table()
        for step in steps:
            match step:
                case ("add", id, user, corrected):
                    added = setting.store.add(_message(id, user=user, corrected=corrected), now=LATER)
                    assert added == (id not in model and user not in erased)
                    kept_out = user in erased
                    model.setdefault(id, ("erased", None, "") if kept_out else ("waiting", user, corrected))
                case ("learn", id):
                    if id in model:
                        state, user, corrected = model[id]
                        assert setting.store.learn(id, 1) == (state == "waiting")
                        if state == "waiting":
                            model[id] = ("learned", user, corrected)
                case ("unlearn", id):
                    if id in model:
                        state, user, corrected = model[id]
                        assert setting.store.unlearn(id, 1) == (state == "learned")
                        if state == "learned":
                            model[id] = ("waiting", user, corrected)
                case ("erase", user):
                    erased.add(user)
                    gone = {id for id, (_, whose, _) in model.items() if whose == user}
                    found = setting.store.erase_user(PSEUDONYMS.of(user), now=LATER)
                    assert {correction.id for correction in found} == gone
                    model |= dict.fromkeys(gone, ("erased", None, ""))
        rows = [f"x|{PSEUDONYMS.of(user)}" for user in erased]
        for id, (state, user, corrected) in model.items():
            rows.append(f"c|{id}")
            if state == "waiting":
                rows.append(f"{'r' if corrected == 'positive' else 'p'}|{id}")
            if state == "learned":
                rows.append(f"l|{id}")
            if user is not None:
                rows.append(f"u|{PSEUDONYMS.of(user)}|{id}")
        assert setting.rows() == sorted(rows)
        assert setting.store.count_pending() == sum(row.startswith("p|") for row in rows)
