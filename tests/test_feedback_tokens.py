"""Prediction tokens come back: every check, with rotated keys, whatever is sent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentiment.errors import InvalidToken
from sentiment.feedback.tokens import MAX_TOKEN_CHARACTERS, PredictionSigner
from sentiment.records import Prediction, Scores

OLD, NEW = "old-key-old-key-1", "new-key-new-key-1"
PREDICTION = Prediction(label="positive", scores=Scores(0.1, 0.2, 0.7), truncated=False)
HOUR = timedelta(hours=1)
SIGNER = PredictionSigner([NEW, OLD])
TOKEN = SIGNER.sign("so good", PREDICTION, "v1")


def _check(token: str, text: str = "so good", later: timedelta = timedelta()) -> str:
    with pytest.raises(InvalidToken) as caught:
        SIGNER.verify(token, text, now=datetime.now(UTC) + later, max_age=HOUR)
    return caught.value.check


def test_a_genuine_token_says_what_was_predicted() -> None:
    """Label, its probability, the model's version, and when."""
    now = datetime.now(UTC)
    said = SIGNER.verify(SIGNER.sign("so good", PREDICTION, "v1"), "so good", now=now, max_age=HOUR)
    assert (said.label, said.confidence, said.model_version) == ("positive", 0.7, "v1")
    assert abs(said.issued_at - now) < timedelta(minutes=5)


def test_an_older_key_still_verifies_and_a_dropped_one_does_not() -> None:
    """That is what rotation is."""
    token = PredictionSigner([OLD]).sign("so good", PREDICTION, "v1")
    assert SIGNER.verify(token, "so good", now=datetime.now(UTC), max_age=HOUR).label == "positive"
    with pytest.raises(InvalidToken, match="forged or altered"):
        PredictionSigner([NEW]).verify(token, "so good", now=datetime.now(UTC), max_age=HOUR)


def test_the_check_that_failed_is_named() -> None:
    """One word for each."""
    payload, time, signature = TOKEN.rsplit(".", 2)
    assert _check("x" * (MAX_TOKEN_CHARACTERS + 1)) == "size"
    assert _check("") == "form"
    assert _check("a.b.c") == "form"
    assert (
        _check(PredictionSigner(["another-key-altogether"]).sign("so good", PREDICTION, "v1")) == "signature"
    )
    assert _check(f"{payload}.{time[:-1]}{'A' if time[-1] != 'A' else 'B'}.{signature}") == "signature"
    assert _check(TOKEN, later=2 * HOUR) == "age"
    assert _check(TOKEN, later=-HOUR) == "age"
    assert _check(TOKEN, "so bad") == "text"


@given(st.integers(0, len(TOKEN) - 1), st.characters())
def test_no_altered_character_goes_unnoticed(place: int, character: str) -> None:
    """Wherever it stands."""
    altered = TOKEN[:place] + character + TOKEN[place + 1 :]
    if altered != TOKEN:
        assert _check(altered) in ("form", "signature")


@given(st.text(), st.text())
def test_no_token_crashes_the_check(token: str, text: str) -> None:
    """Any two strings are refused by name."""
    text = text.encode("utf-8", "replace").decode()
    with pytest.raises(InvalidToken):
        SIGNER.verify(token, text, now=datetime.now(UTC), max_age=HOUR)


def test_a_payload_that_would_unpack_to_megabytes_is_not_unpacked() -> None:
    """Nobody has vouched for it when it is read."""
    import zlib

    from itsdangerous.encoding import base64_encode

    packed = base64_encode(zlib.compress(b'{"t":"' + b"x" * 500_000 + b'"}', 9)).decode()
    assert _check(f".{packed}.AAAA.AAAA") in ("form", "size")
