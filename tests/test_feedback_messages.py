"""Queue messages: what is read, what is refused and why, and what never gets in."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.errors import InvalidMessage
from sentiment.feedback.messages import (
    Pseudonyms,
    encode_message,
    json_schema,
    make_message,
    masked_body,
    masked_text,
    read_message,
)
from sentiment.feedback.tokens import SignedPrediction
from sentiment.records import FeedbackRequest
from sentiment.text import normalise

PSEUDONYMS = Pseudonyms("a-key-for-pseudonyms")
SIGNED = SignedPrediction("d" * 64, "negative", 0.9, "v1", datetime.now(UTC))
MESSAGE: dict[str, Any] = {
    "schema": 1,
    "id": "batch-1",
    "text": "the bus is late",
    "predicted": "positive",
    "corrected": "negative",
    "model_version": "v1",
    "source": "elsewhere",
    "user": None,
    "created_at": "2025-01-01T00:00:00Z",
}
DOCUMENTED = Path(__file__).parent.parent / "docs" / "correction-message.schema.json"


def _refusal(**members: Any) -> str:
    with pytest.raises(InvalidMessage) as caught:
        read_message(json.dumps(MESSAGE | members).encode())
    return caught.value.reason


def test_what_is_sent_is_read_again() -> None:
    """Through JSON and back, with names and links gone."""
    request = FeedbackRequest(
        prediction="", text="@anna look https://x.y", label="neutral", user="Bob", comment="ask @carl"
    )
    message = make_message(request, SIGNED, PSEUDONYMS, datetime.now(UTC))
    assert read_message(encode_message(message).encode()) == message
    assert (message.text, message.comment, message.confidence) == ("@user look http", "ask @user", 0.9)
    assert "Bob" not in encode_message(message)


def test_the_same_prediction_and_label_make_the_same_id() -> None:
    """And an id that was minted here is recognised, with this key only."""
    once, again = PSEUDONYMS.mint(SIGNED, "neutral"), PSEUDONYMS.mint(SIGNED, "neutral")
    assert once == again != PSEUDONYMS.mint(SIGNED, "positive")
    assert PSEUDONYMS.minted(once)
    assert not PSEUDONYMS.minted(once[:-1] + ("0" if once[-1] != "0" else "1"))
    assert not Pseudonyms("another-key-than-that").minted(once)


def test_members_that_are_not_known_are_ignored() -> None:
    """A producer may be ahead of us."""
    assert read_message(json.dumps(MESSAGE | {"language": "en"}).encode()).id == "batch-1"


def test_the_reason_of_a_refusal_is_one_word() -> None:
    """It is what the quarantine is sorted by."""
    for body in (b"", b"hello", b"\xff", b"{", b"[" * 100_000):
        with pytest.raises(InvalidMessage) as caught:
            read_message(body)
        assert caught.value.reason == "not-json"
    with pytest.raises(InvalidMessage, match="no object"):
        read_message(b"[]")
    assert _refusal(schema=2) == "unknown-schema"
    assert _refusal(schema="1") == "unknown-schema"
    assert _refusal(corrected="sad") == "invalid-member"
    assert _refusal(id="a/b") == "invalid-member"
    assert _refusal(text="x" * 5001) == "invalid-member"
    assert _refusal(text=" ") == "text-blank"
    assert _refusal(created_at="2025-01-01T00:00:00") == "invalid-member"


def test_a_refused_body_names_nobody() -> None:
    """Else it stays as it is, to the letter."""
    assert masked_body("not json at all", PSEUDONYMS) == ("not json at all", None)
    assert masked_body('{ "text" :  "hi" }', PSEUDONYMS) == ('{ "text" :  "hi" }', None)
    body, user = masked_body('{"text": "@anna http://a.b", "user": "Bob"}', PSEUDONYMS)
    assert user == PSEUDONYMS.of("Bob") == PSEUDONYMS.known_as(user or "")
    assert json.loads(body) == {"text": "@user http", "user": user}


@given(st.text() | st.text(alphabet="@&;#amplt38 ab:/ws.htp\u200b", max_size=40))
def test_masking_changes_nothing_that_a_model_sees(text: str) -> None:
    """However often it is done."""
    masked = masked_text(text)
    assert normalise(masked) == normalise(text)
    assert masked_text(masked) == masked


def test_placeholders_longer_than_the_names_still_fit() -> None:
    """What is accepted is stored."""
    request = FeedbackRequest(prediction="", text="@a " * 1600, label="neutral", comment="@a " * 160)
    message = make_message(request, SIGNED, PSEUDONYMS, datetime.now(UTC))
    assert read_message(encode_message(message).encode()) == message


@given(st.binary())
def test_no_body_crashes_the_reader(body: bytes) -> None:
    """Bytes are a message or are refused, and can be kept either way."""
    with pytest.raises(InvalidMessage):
        read_message(body)
    masked_body(body.decode("utf-8", "backslashreplace"), PSEUDONYMS)


_values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text(), max_size=2)
)


@given(st.fixed_dictionaries({}, optional=dict.fromkeys(MESSAGE, _values)))
def test_the_schema_lets_through_what_the_reader_lets_through(members: dict[str, Any]) -> None:
    """And nothing that the schema refuses is read."""
    message = MESSAGE | members
    try:
        read_message(json.dumps(message).encode())
    except InvalidMessage:
        return
    jsonschema.validate(message, json.loads(json_schema()))


def test_the_documented_schema_is_the_one_that_validates() -> None:
    """Mend it with: python -m sentiment feedback schema > docs/correction-message.schema.json."""
    assert DOCUMENTED.read_bytes() == json_schema()
