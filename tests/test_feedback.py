"""Prediction tokens: signed, self-contained, bound to the text."""

from __future__ import annotations

from itsdangerous import URLSafeTimedSerializer

from sentiment.feedback import PredictionSigner, text_digest
from sentiment.records import Prediction, Scores

PREDICTION = Prediction(label="positive", scores=Scores(0.1, 0.2, 0.7), truncated=False)


def _payload(token: str, keys: list[str]) -> dict[str, object]:
    import hashlib

    serializer = URLSafeTimedSerializer(
        keys,
        salt="sentiment.prediction",
        signer_kwargs={"key_derivation": "hmac", "digest_method": hashlib.sha256},
    )
    loaded: dict[str, object] = serializer.loads(token, max_age=60)
    return loaded


def test_a_token_carries_the_prediction_and_not_the_text() -> None:
    """What was predicted for which text by which model; the text only as its digest."""
    token = PredictionSigner(["new-key-new-key-1"]).sign("so good", PREDICTION, "v1")
    payload = _payload(token, ["new-key-new-key-1"])
    assert payload.pop("n")
    assert payload == {
        "t": text_digest("so good"),
        "l": "positive",
        "s": [0.1, 0.2, 0.7],
        "v": "v1",
    }
    assert "good" not in token


def test_no_two_tokens_are_the_same() -> None:
    """Each prediction can be corrected on its own, also of one text in one second."""
    signer = PredictionSigner(["new-key-new-key-1"])
    assert len({signer.sign("so good", PREDICTION, "v1") for _ in range(20)}) == 20


def test_the_newest_key_signs() -> None:
    """Keys are listed newest first, so that the older ones can be dropped later."""
    token = PredictionSigner(["new-key-new-key-1", "old-key-old-key-1"]).sign("x", PREDICTION, "v1")
    assert _payload(token, ["new-key-new-key-1"])
